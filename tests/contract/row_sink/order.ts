/** Nothing goes back in time. */

import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { rowPointId, type RowWrite, type SourcePosition } from "../../../src/sinks/rows.ts";
import { assertRows, at, newSystem, newTable, row, type RowSinkUnderTest } from "./rows.ts";

/** Of one system, the earlier one first. */
export const IN_ORDER: [what: string, earlier: SourcePosition, later: SourcePosition][] = [
  ["a lower ordinal", at("0/500", 2), at("0/500", 3)],
  ["an ordinal whose text sorts higher", at("0/500", 9), at("0/500", 10)],
  ["a row that a backfill read there", at("0/500", -1), at("0/500", 0)],
  ["a lower LSN with a higher ordinal", at("0/4FF", 9), at("0/500", -1)],
  ["an LSN whose text sorts higher", at("0/9000"), at("0/10000")],
  ["an LSN whose upper half's text sorts higher", at("9/0"), at("10/0")],
  ["an LSN before a 32-bit border", at("0/FFFFFFFF", 5), at("1/0", 0)],
  ["a lower upper half with a higher lower half", at("1/FFFFFFF0"), at("2/10")],
  ["an LSN of the same 53 bits", at("200001/0"), at("200001/1")],
  ["an LSN before the last", at("FFFFFFFF/FFFFFFFE"), at("FFFFFFFF/FFFFFFFF")],
  [
    "a lower timeline with a higher LSN",
    at("F/0", 9, { timeline: 2 }),
    at("0/1", 0, { timeline: 3 }),
  ],
  [
    "a timeline whose text sorts higher",
    at("0/5", 0, { timeline: 9 }),
    at("0/5", 0, { timeline: 10 }),
  ],
];

export function describeOrder(made: () => RowSinkUnderTest): void {
  const apply = (...rows: RowWrite[]) => made().sink.apply!(rows, null);

  for (const [what, earlier, later] of IN_ORDER) {
    test(`${what} changes nothing of the row, adds and removes nothing`, async () => {
      const table = newTable();
      const newer = row(table, "1", later, ["a", "b"], { payload: { v: 2 } });
      await apply(newer);
      const payload = { v: 1 };
      for (
        const [texts, known] of [
          [["x", "y"], []],
          [["x", "y", "z"], []],
          [["x"], []],
          [["a", "b"], ["a", "b"]],
          [["a"], ["a"]],
          [["a", "y", "z"], ["a"]],
          [[], []],
        ]
      ) {
        await apply(row(table, "1", earlier, texts!, { known: known!, payload, model: "old@1" }));
        await assertRows(made(), newer);
      }
    });

    test(`the other way around, ${what} gives way`, async () => {
      const table = newTable();
      await apply(row(table, "1", earlier, ["a", "b"]), row(table, "2", earlier, ["c"]));
      const rows = [
        row(table, "1", later, ["x"], { payload: { v: 2 } }),
        row(table, "2", later, ["c", "d"], { payload: { v: 2 }, known: ["c"] }),
      ];
      await apply(...rows);
      await assertRows(made(), ...rows);
      const gone = row(table, "1", later, []);
      await apply(gone);
      await assertRows(made(), gone);
    });
  }

  test("what comes again from the same position is written again", async () => {
    const table = newTable();
    const position = at("1/20", 4);
    await apply(row(table, "1", position, ["a", "b"]));
    for (const texts of [["a", "b"], ["x"], ["x", "y", "z"], [], ["a"]]) {
      const again = row(table, "1", position, texts, { payload: { again: texts.length } });
      await apply(again);
      await assertRows(made(), again);
    }
  });

  test("of two systems neither refuses the other", async () => {
    const table = newTable();
    const systemId = newSystem();
    await apply(row(table, "1", at("F/0", 9, { timeline: 7 }), ["a", "b", "c"]));
    for (
      const position of [at("0/1", -1, { systemId }), at("0/2", 0), at("A/0", 0, { systemId })]
    ) {
      const moved = row(table, "1", position, ["a", "x"], { known: ["a"] });
      await apply(moved);
      await assertRows(made(), moved);
    }
    await apply(row(table, "1", at("9/0", 0, { systemId }), ["old"]));
    await assertRows(made(), row(table, "1", at("A/0", 0, { systemId }), ["a", "x"]));
    const gone = row(table, "1", at("0/1"), []);
    await apply(gone);
    await assertRows(made(), gone);
  });

  test("of the rows of one call each is judged by its own position", async () => {
    const table = newTable();
    const other = { systemId: newSystem() };
    const newer = [
      row(table, "changed", at("0/500"), ["a", "b"]),
      row(table, "removed", at("0/500", 7), ["a", "b"]),
      row(table, "payload", at("0/500"), ["a"]),
      row(table, "shrunk", at("1/0"), ["a", "b"]),
      row(table, "moved", at("0/500", 0, other), ["a"]),
    ];
    await apply(...newer, row(table, "gone", at("0/500"), ["a"]));
    const written = [
      row(table, "new", at("1/1"), ["n", "m"]),
      row(table, "gone", at("1/1", 1), []),
      row(table, "restored", at("0/1", 0, other), ["r"]),
    ];
    await apply(
      row(table, "changed", at("0/4FF"), ["x", "y", "z"]),
      written[0]!,
      row(table, "removed", at("0/500", 6), []),
      row(table, "payload", at("0/4FF"), ["a"], { known: ["a"], payload: { old: 1 } }),
      written[1]!,
      row(table, "shrunk", at("0/FFFFFFFF"), ["s"]),
      row(table, "moved", at("0/4FF", 0, other), ["x"]),
      written[2]!,
    );
    await assertRows(made(), ...newer, ...written);
  });

  test("of calls beside each other the last position wins, whichever comes first", async () => {
    const table = newTable();
    const rows = [5, 1, 9, 3, 7, 2, 8, 4].map((n) =>
      row(table, "1", at(`0/${n}`), [`a${n}`, `b${n}`], { payload: { n } })
    );
    await Promise.all(rows.map((written) => apply(written)));
    await assertRows(made(), rows[2]!);
  });
}

/** For sinks that can empty a table. */
export function describeDeleteTable(made: () => RowSinkUnderTest): void {
  const apply = (...rows: RowWrite[]) => made().sink.apply!(rows, null);

  test("emptying a table removes all of it, and nothing else", async () => {
    const { sink } = made();
    const [table, other] = [newTable(), newTable()];
    const kept = row(other, "1", at("0/1"), ["a", "b"]);
    const plain = { id: `plain of ${table}`, vector: [1, 2, 3], payload: { table } };
    await sink.upsert(plain);
    await apply(row(table, "1", at("0/1"), ["a", "b"]), row(table, "2", at("0/1"), ["c"]), kept);
    const before = await made().count();
    await sink.deleteTable!(table, at("0/2"));
    assertEquals(await made().count(), before - 3);
    await assertRows(made(), row(table, "1", at("0/2"), []), row(table, "2", at("0/2"), []), kept);
    assertEquals((await made().read(plain.id))?.vector, plain.vector);
    await sink.deleteTable!(table, at("0/2"));
    await sink.deleteTable!(newTable(), at("0/2"));
    assertEquals(await made().count(), before - 3);
    await sink.delete(plain.id);
  });

  test("emptying a table keeps its rows from later positions, of that system", async () => {
    const { sink } = made();
    const systemId = newSystem();
    for (const [, earlier, later] of IN_ORDER) {
      const table = newTable();
      const newer = row(table, "later", later, ["a", "b"]);
      await apply(
        newer,
        row(table, "same", earlier, ["a", "b"]),
        row(table, "other system", at("FFFFFFFF/FFFFFFFF", 1, { systemId, timeline: 99 }), ["a"]),
      );
      await sink.deleteTable!(table, earlier);
      await assertRows(made(), newer);
      for (const key of ["same", "other system"]) {
        assertEquals(await made().read(rowPointId(table, key, 0)), null, key);
      }
    }
  });

  test("tables of alike names are not emptied with one another", async () => {
    const table = newTable();
    const others = [`${table}x`, table.toUpperCase(), `${table}%`, table.replace("_", "x")];
    const kept = others.map((other) => row(other, "1", at("0/1"), ["a"]));
    await apply(row(`${table}_`, "1", at("0/1"), ["a"]), ...kept);
    await made().sink.deleteTable!(`${table}_`, at("0/2"));
    await assertRows(made(), row(`${table}_`, "1", at("0/2"), []), ...kept);
  });
}
