/** What becomes of rows that are written. */

import { assertEquals, assertRejects } from "@std/assert";
import { test } from "node:test";
import { rowPointId } from "../../../src/sinks/rows.ts";
import { SinkError } from "../../../src/sinks/sink.ts";
import { assertRows, at, newTable, row, type RowSinkUnderTest, scanAll, vectorOf } from "./rows.ts";

const ODD_KEYS = [
  "",
  " ",
  "7",
  "007",
  "Ünïcödé 🐘",
  `quote " ' \\ {a,b} $1 %s`,
  '["a","b"]',
  '{"$gt":""}',
  "line\nbreak\ttab",
  Array.from({ length: 400 }, (_, index) => String(index * 7919 % 99_991).padStart(5, "x")).join(
    "",
  ),
  "550e8400-e29b-41d4-a716-446655440000",
  "__proto__",
  "null",
];

/** As `formatTableName` writes them. */
const ODD_TABLES = [
  "public.__proto__",
  'public."Ta.ble"',
  'public."we""ird"',
  "app's.Ünïcödé 🐘",
  'public."[""a"",""b""]"',
  "public.a b\\c%_",
];

export function describeWrites(made: () => RowSinkUnderTest): void {
  const apply = (...rows: Parameters<typeof assertRows>[1][]) => made().sink.apply!(rows, null);

  test("a row of three chunks is there, to the last field", async () => {
    const table = newTable();
    const payload = {
      "table": "t",
      "key": 1,
      "chunk": null,
      "id": "x",
      "vector": [1, 2],
      "fingerprint": { "deep": ["Ünï 🐘 \"'", 1.5, -0.001, true] },
      "": "",
    };
    const written = row(table, "1", at("16/B374D848", 12), ["a", "b", "c"], { payload });
    await apply(written);
    await assertRows(made(), written);
  });

  test("a payload's property that is called __proto__ is a property", async () => {
    const table = newTable();
    const payload = JSON.parse('{"__proto__": {"a": 1}}');
    const written = row(table, "1", at("0/1"), ["a"]);
    // A spread makes it its own, an assignment would not.
    const point = { ...written.points[0]!, payload: { text: "a", ...payload } };
    await apply({ ...written, points: [point] });
    await assertRows(made(), { ...written, points: [point] });
  });

  test("positions are kept exactly, however large", async () => {
    const table = newTable();
    const rows = [
      at("0/0", -1, { systemId: "0" }),
      at("FFFFFFFF/FFFFFFFF", 4_000_000_000, { systemId: "18446744073709551615" }),
      at("200001/1", 0, { timeline: 2_147_483_647 }),
      at("A/B0C", 1, { systemId: "9007199254740993" }),
    ].map((position, index) => row(table, String(index), position, ["a"]));
    await apply(...rows);
    await assertRows(made(), ...rows);
  });

  test("keys of any text are kept apart", async () => {
    const table = newTable();
    const rows = ODD_KEYS.map((key, index) => row(table, key, at("0/1"), [`a${index}`, "b"]));
    await apply(...rows);
    await assertRows(made(), ...rows);
    for (const key of ODD_KEYS) await apply(row(table, key, at("0/2"), []));
    await assertRows(made(), ...ODD_KEYS.map((key) => row(table, key, at("0/2"), [])));
  });

  test("tables of any name are kept apart, also with one key", async () => {
    const rows = ODD_TABLES.map((table, index) => row(table, "1", at("0/1"), [`a${index}`, "b"]));
    await apply(...rows);
    await assertRows(made(), ...rows);
    const [first, ...others] = rows;
    await apply(row(first!.table, "1", at("0/2"), []));
    await assertRows(made(), row(first!.table, "1", at("0/2"), []), ...others);
    await apply(...others.map(({ table }) => row(table, "1", at("0/2"), [])));
    await assertRows(made(), ...ODD_TABLES.map((table) => row(table, "1", at("0/2"), [])));
  });

  test("no ids, and ids that are not there, are left out", async () => {
    const { sink } = made();
    const table = newTable();
    await apply(row(table, "1", at("0/1"), ["a"]));
    assertEquals(await sink.fingerprints!([]), new Map());
    const ids = [rowPointId(table, "2", 0), rowPointId(table, "1", 0), rowPointId(table, "1", 1)];
    assertEquals([...(await sink.fingerprints!(ids)).keys()], [ids[1]]);
  });

  test("no rows are no error", async () => {
    const before = await made().count();
    await apply();
    await apply(row(newTable(), "never there", at("0/1"), []));
    assertEquals(await made().count(), before);
  });

  test("a later write leaves nothing of the earlier one", async () => {
    const table = newTable();
    await apply(row(table, "1", at("0/1"), ["a", "b"], { payload: { old: 1, both: 1 } }));
    const later = row(table, "1", at("0/2"), ["c", "d"], { payload: { both: 2 }, model: "m@2" });
    await apply(later);
    await assertRows(made(), later);
  });

  test("a row that shrinks leaves no point behind, and one that grows has all", async () => {
    const table = newTable();
    const other = row(table, "2", at("0/1"), ["a", "b", "c"]);
    const sizes = [["a", "b", "c"], ["a"], ["a", "b"], ["x", "y", "z", "a"], [], ["a", "b"]];
    await apply(other);
    for (const [index, texts] of sizes.entries()) {
      const written = row(table, "1", at(`0/${index + 1}`), texts);
      await apply(written);
      await assertRows(made(), written, other);
    }
  });

  test("a row without points is removed: it alone, of its table alone", async () => {
    const [table, otherTable] = [newTable(), newTable()];
    const others = [
      row(table, "2", at("0/1"), ["a", "b"]),
      row(table, "10", at("0/1"), ["a"]),
      row(otherTable, "1", at("0/1"), ["a", "b"]),
    ];
    await apply(row(table, "1", at("0/1"), ["a", "b"]), ...others);
    const gone = row(table, "1", at("0/2"), []);
    await apply(gone);
    await assertRows(made(), gone, ...others);
  });

  test("where nothing is surplus, rows are written all the same", async () => {
    const table = newTable();
    const first = row(table, "1", at("0/1"), ["a"], { surplus: false });
    await apply(first);
    await assertRows(made(), first);
    const second = row(table, "1", at("0/2"), ["b", "c"], { surplus: false });
    await apply(second);
    await assertRows(made(), second);
  });

  test("a point whose vector is known gets its new payload and keeps its vector", async () => {
    const table = newTable();
    const earlier = ["1", "2", "3"].map((key) =>
      row(table, key, at("0/1"), ["a", "b"], { payload: { v: 1, old: true } })
    );
    await apply(...earlier);
    const rows = [
      row(table, "1", at("0/2"), ["a", "b"], { payload: { v: 2 }, known: ["a", "b"] }),
      row(table, "2", at("0/2", 1), ["a", "x", "y"], { payload: { v: 3 }, known: ["a"] }),
      row(table, "3", at("0/2", 2), ["a"], { payload: { v: 4 }, known: ["a"] }),
      row(table, "4", at("0/2", 3), ["new", "too"], { payload: { v: 5 } }),
      row(table, "5", at("0/2", 4), []),
    ];
    await apply(...rows);
    await assertRows(made(), ...rows);
  });

  test("a plain point beside rows stays as it is, and is none of theirs", async () => {
    const { sink } = made();
    const table = newTable();
    const plain = `plain of ${table}`;
    await sink.upsert({ id: plain, vector: [7, 8, 9], payload: { table, key: "1", plain: true } });
    await apply(row(table, "1", at("0/1"), ["a", "b"]));
    await apply(row(table, "1", at("0/2"), []));
    assertEquals(await made().read(plain), {
      vector: [7, 8, 9],
      payload: { table, key: "1", plain: true },
    });
    assertEquals((await sink.fingerprints!([plain])).size, 0);
    await sink.delete(plain);
    assertEquals(await made().read(plain), null);
  });

  test("a plain upsert over a row's point leaves no fingerprint of the vector that was", async () => {
    const { sink } = made();
    const table = newTable();
    const id = rowPointId(table, "1", 0);
    await apply(row(table, "1", at("0/5"), ["a"]));
    await sink.upsert({ id, vector: [7, 8, 9], payload: { mine: 1 } });
    assertEquals(await made().read(id), { vector: [7, 8, 9], payload: { mine: 1 } });
    assertEquals((await sink.fingerprints!([id])).size, 0);
    // Nor a position: it is nobody's row any more, until it is written as one.
    const again = row(table, "1", at("0/1"), ["b"]);
    await apply(again);
    await assertRows(made(), again);
    await sink.delete(id);
    assertEquals((await sink.fingerprints!([id])).size, 0);
    assertEquals(await made().read(id), null);
  });

  test("what was given may be changed afterwards, and is not changed by the sink", async () => {
    const table = newTable();
    const vector = Float32Array.from(vectorOf("a"));
    const payload = { text: "a", list: [1] };
    const written = row(table, "1", at("0/1"), ["a"]);
    const point = Object.freeze({ ...written.points[0]!, vector, payload });
    await apply(Object.freeze({ ...written, points: Object.freeze([point]) }));
    assertEquals([Array.from(vector), payload], [vectorOf("a"), { text: "a", list: [1] }]);
    vector[0] = 99;
    payload.list.push(2);
    await assertRows(made(), row(table, "1", at("0/1"), ["a"], { payload: { list: [1] } }));
  });

  test("thousands of rows go in and out in one call", async () => {
    const { sink } = made();
    const table = newTable();
    const before = await made().count();
    const keys = Array.from({ length: 5000 }, (_, index) => `key ${index}`);
    const rows = keys.map((key, index) => row(table, key, at("0/1", index), [`text ${index}`]));
    await apply(...rows);
    assertEquals(await made().count(), before + 5000);
    assertEquals((await sink.fingerprints!(rows.map(({ points }) => points[0]!.id))).size, 5000);
    await assertRows(made(), rows[0]!, rows[2500]!, rows[4999]!);
    await apply(...keys.map((key, index) => row(table, key, at("0/2", index), [])));
    assertEquals(await made().count(), before);
  });

  test("a vector that no store can hold is refused, and not repeated in the error", async () => {
    const table = newTable();
    const good = row(table, "1", at("0/1"), ["a"]);
    const bad = row(table, "2", at("0/1"), ["b"]);
    for (
      const [kind, vector] of [["sink-vector", [1, NaN, 4711]], ["sink-dimension", [1, 4711]]] as [
        string,
        number[],
      ][]
    ) {
      // So that the store knows its dimensions.
      await apply(good);
      const points = [{ ...bad.points[0]!, vector }];
      const error = await assertRejects(() => apply({ ...bad, points }), SinkError);
      assertEquals([error.kind, error.retryable], [kind, false]);
      assertEquals(error.message.includes("4711"), false, error.message);
      assertEquals(await made().read(points[0]!.id), null);
    }
    await assertRows(made(), good);
  });

  test("what the store keeps of rows, another process finds there", async (context) => {
    const { reopen } = made();
    if (reopen === null) return context.skip("the store ends with its process");
    const table = newTable();
    const written = row(table, "1", at("1/0", 3), ["a", "b"], { payload: { n: 1 } });
    await apply(written);
    const reopened = await reopen();
    try {
      await reopened.prepareRows?.();
      await assertRows({ ...made(), sink: reopened }, written);
      await reopened.apply!([row(table, "1", at("0/F"), ["old"])], null);
      await assertRows(made(), written);
      if (reopened.scan !== undefined) assertEquals((await scanAll(reopened, table)).length, 2);
    } finally {
      await reopened.close?.();
    }
  });
}
