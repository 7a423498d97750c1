/** What can be read of a store: its tables page by page, models, and what is near. */

import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import type { RowWrite } from "../../../src/sinks/rows.ts";
import {
  assertRows,
  at,
  canonical,
  newTable,
  row,
  type RowSinkUnderTest,
  scanAll,
  statesOf,
} from "./rows.ts";

const apply = ({ sink }: RowSinkUnderTest, ...rows: RowWrite[]) => sink.apply!(rows, null);

export function describeVectors(made: () => RowSinkUnderTest): void {
  test("vectors are given back with what they were made of, and can be stored again", async () => {
    const { sink } = made();
    const table = newTable();
    const written = row(table, "1", at("0/1"), ["a", "b"]);
    await apply(made(), written);
    await sink.upsert({ id: `plain of ${table}`, vector: [1, 2, 3] });
    const ids = [...written.points.map(({ id }) => id), `plain of ${table}`, `nobody of ${table}`];
    const found = await sink.vectors!(ids);
    assertEquals([...found.keys()].sort(), written.points.map(({ id }) => id).sort());
    for (const { id, fingerprint, vector } of written.points) {
      const { vector: stored, fingerprint: of } = found.get(id)!;
      assertEquals([of, [...stored]], [fingerprint, [...vector!]]);
    }
    // As where a row gets another key.
    const moved = row(table, "2", at("0/2"), ["a", "b"]);
    const points = moved.points.map((point, chunk) => ({
      ...point,
      vector: found.get(written.points[chunk]!.id)!.vector,
    }));
    await apply(made(), { ...moved, points }, row(table, "1", at("0/2"), []));
    await assertRows(made(), moved, row(table, "1", at("0/2"), []));
    assertEquals(await sink.vectors!([]), new Map());
    await sink.delete(`plain of ${table}`);
  });
}

export function describeScan(made: () => RowSinkUnderTest): void {
  test("a scan gives every point of its table once, whatever fits on a page", async () => {
    const { sink } = made();
    const [table, other] = [newTable(), newTable()];
    const rows = Array.from({ length: 13 }, (_, index) =>
      row(
        table,
        ["", "__proto__", "Ünï 🐘", "B", "b", "a"][index] ?? String(index),
        at(`0/${index}`, index),
        ["a", "b", "c"].slice(0, index % 4),
        { payload: { index } },
      ));
    await apply(made(), ...rows, row(other, "1", at("0/1"), ["x", "y"]));
    await sink.upsert({ id: `plain of ${table}`, vector: [1, 2, 3], payload: { table, key: "1" } });
    const wanted = rows.flatMap(statesOf).map(canonical).sort();
    for (const limit of [1, 2, wanted.length, 1000]) {
      const found = await scanAll(sink, table, { limit });
      assertEquals(found.map(canonical).sort(), wanted, `pages of ${limit}`);
    }
    assertEquals((await scanAll(sink, other, { limit: 1 })).length, 2);
    await sink.delete(`plain of ${table}`);
  });

  test("a scan of a table without points ends at once", async () => {
    for (const limit of [1, 1000]) {
      const page = await made().sink.scan!(newTable(), { after: null, limit });
      assertEquals(page, { points: [], next: null });
    }
  });

  test("a scan gives what stays once, whatever comes, goes and changes between pages", async () => {
    const { sink } = made();
    const table = newTable();
    const stays = Array.from({ length: 30 }, (_, index) => `stays ${index}`);
    const goes = Array.from({ length: 30 }, (_, index) => `goes ${index}`);
    for (let index = 0; index < 30; index++) {
      await apply(
        made(),
        row(table, stays[index]!, at("0/1"), ["a", "b"]),
        row(table, goes[index]!, at("0/1"), ["a", "b"]),
      );
    }
    let page = 0;
    const found = await scanAll(sink, table, {
      limit: 7,
      async betweenPages({ points }) {
        // Where the next page begins, somewhere else, and what was not there before.
        const last = points.at(-1)?.key ?? "";
        const gone = new Set([last, points[0]?.key ?? "", goes[page * 3 % 30]!]);
        const position = at("0/2", page);
        await apply(
          made(),
          ...[...gone].filter((key) => key.startsWith("goes")).map((key) =>
            row(table, key, position, [])
          ),
          row(table, `new ${page}`, position, ["n"]),
          row(table, stays[page * 7 % 30]!, position, ["a", "changed"], { known: ["a"] }),
        );
        if (++page > 100) throw new Error("The scan does not end");
      },
    });
    const seen = found.filter(({ key }) => key.startsWith("stays")).map(({ id }) => id);
    assertEquals(seen.length, 60);
    assertEquals(new Set(seen).size, 60);
    assertEquals(new Set(found.map(({ id }) => id)).size, found.length);
    assertEquals(found.filter((point) => point.table !== table), []);
  });

  test("a plain upsert over a row's point takes it out of the scan", async () => {
    const { sink } = made();
    const table = newTable();
    const written = row(table, "1", at("0/1"), ["a", "b"]);
    await apply(made(), written);
    await sink.upsert({ id: written.points[0]!.id, vector: [7, 8, 9] });
    assertEquals((await scanAll(sink, table)).map(({ chunk }) => chunk), [1]);
  });
}

export function describeOtherModel(made: () => RowSinkUnderTest): void {
  test("points that another model made are found, of the table that is asked for", async () => {
    const { sink } = made();
    const [table, other] = [newTable(), newTable()];
    assertEquals(await sink.otherModel!(table, "small@1"), null);
    await apply(
      made(),
      row(table, "1", at("0/1"), ["a", "b"], { model: "small@1" }),
      row(table, "2", at("0/1"), ["c"], { model: "small@1" }),
      row(other, "1", at("0/1"), ["a"], { model: "large@1" }),
    );
    assertEquals(await sink.otherModel!(table, "small@1"), null);
    assertEquals(await sink.otherModel!(table, "small@2"), "small@1");
    assertEquals(await sink.otherModel!(other, "small@1"), "large@1");
    await apply(made(), row(table, "3", at("0/2"), ["a"], { model: 'Ünï "quoted" @2' }));
    assertEquals(await sink.otherModel!(table, "small@1"), 'Ünï "quoted" @2');
    assertEquals(await sink.otherModel!(table, 'Ünï "quoted" @2'), "small@1");
    await apply(made(), row(table, "3", at("0/3"), []));
    assertEquals(await sink.otherModel!(table, "small@1"), null);
  });
}

export function describeSearch(made: () => RowSinkUnderTest): void {
  // In a direction of their own, so that points of other tests are far.
  const near = (written: RowWrite, vector: number[]): RowWrite => ({
    ...written,
    points: written.points.map((point) => ({ ...point, vector })),
  });

  test("a search finds points of one table, of rows with these values, and gives payloads back as they were", async () => {
    const { sink } = made();
    const [table, other] = [newTable(), newTable()];
    const payloads = [
      { lang: "de", pages: 1, draft: true, price: 1.5 },
      { lang: "de", pages: 1, draft: false, price: 2.5, deep: { list: [1, null] } },
      { lang: "de", pages: 2, draft: false, price: 1.5 },
      { lang: "1", pages: -1, draft: "false", price: 0 },
      { lang: 'it\'s "de"', other: 1 },
    ];
    const rows = payloads.map((payload, index) =>
      near(row(table, String(index), at("0/1"), ["t"], { payload }), [-1000, -1000 + index, -900])
    );
    const elsewhere = near(
      row(other, "0", at("0/1"), ["t"], { payload: payloads[0]! }),
      [-1000, -1000, -900],
    );
    await apply(made(), ...rows, elsewhere);
    const found = async (options: Parameters<NonNullable<typeof sink.search>>[1]) => {
      const hits = await sink.search!([-1000, -1000, -900], { table, ...options });
      for (const { id, payload } of hits) {
        const { points } = rows.find(({ points }) => points[0]!.id === id)!;
        assertEquals(canonical(payload), canonical(points[0]!.payload));
      }
      return hits.map(({ id }) => rows.findIndex(({ points }) => points[0]!.id === id)).sort();
    };
    assertEquals(await found({}), [0, 1, 2, 3, 4]);
    assertEquals((await found({ limit: 2 })).length, 2);
    assertEquals(await found({ filter: {} }), [0, 1, 2, 3, 4]);
    assertEquals(await found({ filter: { lang: "de" } }), [0, 1, 2]);
    assertEquals(await found({ filter: { lang: 'it\'s "de"' } }), [4]);
    assertEquals(await found({ filter: { pages: 1 } }), [0, 1]);
    assertEquals(await found({ filter: { pages: -1 } }), [3]);
    assertEquals(await found({ filter: { price: 1.5 } }), [0, 2]);
    assertEquals(await found({ filter: { price: 0 } }), [3]);
    assertEquals(await found({ filter: { draft: false } }), [1, 2]);
    assertEquals(await found({ filter: { draft: "false" } }), [3]);
    assertEquals(await found({ filter: { lang: "de", pages: 1, draft: false, price: 2.5 } }), [1]);
    assertEquals(await found({ filter: { lang: 1 } }), []);
    assertEquals(await found({ filter: { missing: "x" } }), []);
    const everywhere = await sink.search!([-1000, -1000, -900], {
      filter: { lang: "de", draft: true },
    });
    assertEquals(
      everywhere.map(({ id }) => id).sort(),
      [rows[0]!.points[0]!.id, elsewhere.points[0]!.id].sort(),
    );
  });

  test("a filter comes before the limit: what it leaves is found, however far", async () => {
    const { sink } = made();
    const table = newTable();
    const rows = Array.from({ length: 40 }, (_, index) =>
      near(
        row(table, String(index), at("0/1"), ["t"], { payload: { last: index === 39 } }),
        [40 - index, index, 0],
      ));
    await apply(made(), ...rows);
    const hits = await sink.search!([1, 0, 0], { table, limit: 1, filter: { last: true } });
    assertEquals(hits.map(({ id }) => id), [rows[39]!.points[0]!.id]);
    assertEquals((await sink.search!([1, 0, 0], { table })).length, 10);
  });

  test("a search finds the nearest chunk of a row first", async () => {
    const { sink } = made();
    const table = newTable();
    const written = row(table, "1", at("0/1"), ["a", "b"]);
    const points = written.points.map((point, chunk) => ({
      ...point,
      vector: [[1, 0, 0], [0, 1, 0]][chunk]!,
    }));
    await apply(made(), { ...written, points });
    const hits = await sink.search!([0.1, 1, 0], { table });
    assertEquals(hits.map(({ id }) => id), [points[1]!.id, points[0]!.id]);
    assert(hits[0]!.score > hits[1]!.score);
  });
}

export function describeFilled(made: () => RowSinkUnderTest): void {
  test("a table that was filled is as before, also where that is said twice", async () => {
    const { sink } = made();
    const table = newTable();
    const rows = ["1", "2", "3"].map((key) => row(table, key, at("0/1"), [`a${key}`, "b"]));
    await apply(made(), ...rows);
    await sink.filled!(table);
    await sink.filled!(table);
    await assertRows(made(), ...rows);
    const later = row(table, "1", at("0/2"), ["c"]);
    await apply(made(), later);
    await assertRows(made(), later, rows[1]!, rows[2]!);
  });
}
