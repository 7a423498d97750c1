/** How far the stream is, where a store keeps that. */

import { assertEquals, assertRejects } from "@std/assert";
import { test } from "node:test";
import type { StreamPosition } from "../../../src/sinks/rows.ts";
import { SinkError } from "../../../src/sinks/sink.ts";
import { assertRows, at, newSystem, newTable, row, type RowSinkUnderTest } from "./rows.ts";

type Place = [timeline: number, endLsn: string, commitLsn?: string, ordinal?: number];

/** Of one slot, the earlier one first. */
const IN_ORDER: [what: string, earlier: Place, later: Place][] = [
  ["an earlier end", [1, "0/500"], [1, "0/501"]],
  ["an earlier end across a 32-bit border", [1, "0/FFFFFFFF"], [1, "1/0"]],
  ["an end whose text sorts higher", [1, "9/0"], [1, "10/0"]],
  ["an end of the same 53 bits", [1, "FFFFFFFF/FFFFFFFE"], [1, "FFFFFFFF/FFFFFFFF"]],
  ["an earlier end with more behind it", [1, "0/500", "0/600", 7], [1, "0/610"]],
  ["an end with nothing behind it", [1, "0/500"], [1, "0/500", "0/600", 0]],
  ["less of the same transaction", [1, "0/500", "0/600", 9], [1, "0/500", "0/600", 10]],
  ["a part of an earlier transaction", [1, "0/500", "0/600", 5], [1, "0/500", "0/700", 0]],
  ["an earlier timeline with a higher end", [2, "F/0", "F/10", 3], [3, "0/1"]],
];

export function describePositions(made: () => RowSinkUnderTest, atomic: boolean): void {
  const position = (
    systemId: string,
    [timeline, endLsn, commitLsn = undefined, ordinal = undefined]: Place,
    slotName = "slot",
  ): StreamPosition => ({
    systemId,
    timeline,
    slotName,
    endLsn,
    commitLsn: commitLsn ?? null,
    ordinal: ordinal ?? null,
  });

  test("a position is kept for its system and slot, and for no others", async () => {
    const { sink } = made();
    const systemId = newSystem();
    const other = newSystem();
    assertEquals(await sink.position!({ systemId, slotName: "slot" }), null);
    const kept = [
      position(systemId, [1, "16/B374D848", "16/B374D900", 41]),
      position(systemId, [2_147_483_647, "FFFFFFFF/FFFFFFFF"], 'Ünï "slot" \''),
      position(other, [1, "0/1"]),
    ];
    for (const stored of kept) await sink.apply!([], stored);
    for (const stored of kept) {
      const { systemId, slotName } = stored;
      assertEquals(await sink.position!({ systemId, slotName }), stored);
    }
    assertEquals(await sink.position!({ systemId: other, slotName: 'Ünï "slot" \'' }), null);
    assertEquals(await sink.position!({ systemId: newSystem(), slotName: "slot" }), null);
  });

  test("a position comes with its rows, and stays where rows come without one", async () => {
    const { sink } = made();
    const systemId = newSystem();
    const table = newTable();
    const stored = position(systemId, [1, "0/500", "0/600", 2]);
    const first = row(table, "1", at("0/600", 2), ["a", "b"]);
    await sink.apply!([first], stored);
    await assertRows(made(), first);
    assertEquals(await sink.position!({ systemId, slotName: "slot" }), stored);
    const second = row(table, "2", at("0/600", 3), ["c"]);
    await sink.apply!([second], null);
    await assertRows(made(), first, second);
    assertEquals(await sink.position!({ systemId, slotName: "slot" }), stored);
  });

  for (const [what, earlier, later] of IN_ORDER) {
    test(`a call that is earlier than what is stored writes nothing at all: ${what}`, async () => {
      const { sink } = made();
      const source = { systemId: newSystem(), slotName: "slot" };
      const table = newTable();
      const [before, after] = [earlier, later].map((place) => position(source.systemId, place));
      const first = row(table, "1", at("0/1"), ["a"]);
      await sink.apply!([first], before!);
      assertEquals(await sink.position!(source), before);
      const second = row(table, "2", at("0/2"), ["b", "c"]);
      await sink.apply!([second], after!);
      assertEquals(await sink.position!(source), after);

      // Of rows that would be written by their own positions.
      await sink.apply!([
        row(table, "1", at("0/3"), ["x", "y"]),
        row(table, "2", at("0/3"), []),
        row(table, "3", at("0/3"), ["new"]),
      ], before!);
      assertEquals(await sink.position!(source), after);
      await assertRows(made(), first, second, row(table, "3", at("0/3"), []));
    });
  }

  test("the stored position again, after an answer that was lost, writes its rows again", async () => {
    const { sink } = made();
    const source = { systemId: newSystem(), slotName: "slot" };
    const table = newTable();
    for (const place of [[1, "0/500"], [1, "0/500", "0/600", 2]] as Place[]) {
      const stored = position(source.systemId, place);
      await sink.apply!([row(table, "1", at("0/1"), ["a", "b"])], stored);
      const again = row(table, "1", at("0/1"), ["c"]);
      await sink.apply!([again], stored);
      await assertRows(made(), again);
      assertEquals(await sink.position!(source), stored);
    }
  });

  test("neither another slot nor another system refuses a position", async () => {
    const { sink } = made();
    const [systemId, restored] = [newSystem(), newSystem()];
    const table = newTable();
    await sink.apply!([], position(systemId, [7, "F/0"]));
    const places = [position(systemId, [1, "0/1"], "other"), position(restored, [1, "0/1"])];
    for (const [index, stored] of places.entries()) {
      const written = row(table, String(index), at("0/1"), ["a"]);
      await sink.apply!([written], stored);
      await assertRows(made(), written);
      const { slotName } = stored;
      assertEquals(await sink.position!({ systemId: stored.systemId, slotName }), stored);
    }
    assertEquals((await sink.position!({ systemId, slotName: "slot" }))?.endLsn, "F/0");
  });

  test("a row that is refused does not keep the position back", async () => {
    const { sink } = made();
    const source = { systemId: newSystem(), slotName: "slot" };
    const table = newTable();
    const newer = row(table, "1", at("0/900"), ["a"]);
    await sink.apply!([newer], null);
    const beside = row(table, "2", at("0/501"), ["b"]);
    const stored = position(source.systemId, [1, "0/510"]);
    await sink.apply!([row(table, "1", at("0/500"), ["old"]), beside], stored);
    await assertRows(made(), newer, beside);
    assertEquals(await sink.position!(source), stored);
  });

  test("another process finds the position", async (context) => {
    const { sink, reopen } = made();
    if (reopen === null) return context.skip("the store ends with its process");
    const systemId = newSystem();
    const stored = position(systemId, [4, "1/2", "1/3", 0]);
    await sink.apply!([], stored);
    const reopened = await reopen();
    try {
      await reopened.prepareRows?.();
      assertEquals(await reopened.position!({ systemId, slotName: "slot" }), stored);
    } finally {
      await reopened.close?.();
    }
  });

  if (atomic) {
    test("of a call that fails nothing is there, neither rows nor position", async () => {
      const { sink } = made();
      const source = { systemId: newSystem(), slotName: "slot" };
      const table = newTable();
      const kept = [row(table, "1", at("0/1"), ["a", "b"]), row(table, "2", at("0/1"), ["c"])];
      const stored = position(source.systemId, [1, "0/10"]);
      await sink.apply!(kept, stored);
      const bad = row(table, "4", at("0/2"), ["bad"]);
      const failed = [
        row(table, "1", at("0/2"), ["a"], { known: ["a"], payload: { v: 2 } }),
        row(table, "2", at("0/2"), []),
        row(table, "3", at("0/2"), ["new"]),
        { ...bad, points: [{ ...bad.points[0]!, vector: [1, 2] }] },
      ];
      const error = await assertRejects(
        () => sink.apply!(failed, position(source.systemId, [1, "0/20"])),
        SinkError,
      );
      assertEquals(error.kind, "sink-dimension");
      await assertRows(
        made(),
        ...kept,
        row(table, "3", at("0/2"), []),
        row(table, "4", at("0/2"), []),
      );
      assertEquals(await sink.position!(source), stored);
    });
  }
}
