/** Streams with `values: "js"` in tests: what was given is what the handler gets. */

import {
  assert,
  assertEquals,
  assertNotStrictEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { describe, test } from "node:test";
import { DeliveryError, PgStream, PgStreamError } from "../../../mod.ts";
import { insert, remove, TestServer, truncate, update } from "../../../src/testing/mod.ts";

interface Tables {
  documents: Document;
}
interface Document {
  id: bigint;
  at: Date | null;
  body?: unknown;
}

/** A stream that keeps its rows, and its server. */
function jsServer(options: Partial<ConstructorParameters<typeof PgStream>[0] & object> = {}) {
  const rows: Record<string, unknown>[] = [];
  const stream = new PgStream({ values: "js", logger: false, ...options }).watch("t");
  stream.onChange((event) => {
    rows.push({ ...event.row });
  });
  return { rows, server: new TestServer(stream) };
}

const at = new Date(Date.UTC(2026, 0, 31, 12, 0, 0, 120));

describe('a test of a stream with values: "js":', () => {
  const values: [string, unknown][] = [
    ["a text, of digits or not", "7"],
    ["a boolean", false],
    ["numbers", [1, -0, 1.5, NaN, Infinity]],
    ["a number", 1e21],
    ["a bigint", 7n],
    ["bigints, with NULL", [[1n, null], [2n, 3n]]],
    ["a Date", at],
    ["a Date before Christ", new Date(-63_000_000_000_000)],
    ["bytes", Uint8Array.of(0, 255)],
    ["no bytes", new Uint8Array(0)],
    ["a vector", Float32Array.of(0.1, -2)],
    ["vectors", [Float32Array.of(1), Float32Array.of(2)]],
    ["texts that are to be quoted", ["", "NULL", 'a"b\\', "{}", " ", "a,b", null, "7"]],
    ["Dates", [at, null]],
    ["an object", { b: [1, { c: null }], a: 'x"', big: 2n ** 60n, yes: true }],
    ["objects", [{ a: 1 }, { b: 2 }]],
    ["a list of all kinds", [1, "a", true, null, [2]]],
    ["a list of lists of different lengths", [[1], [2, 3]]],
    ["an empty list", []],
    ["a sparse vector", { dimensions: 3, indices: [1], values: [2] }],
  ];
  for (const [name, value] of values) {
    test(`${name}: reaches the handler as it was given`, async () => {
      const { rows, server } = jsServer();
      const given = { id: 1, value } as { id: number; value: string };
      await server.feed([insert("t", given)]);
      await server.feed([insert("t", given, { backfill: true })]);
      assertEquals(rows, [given, given]);
      const event = insert("t", given, { values: "js" });
      assertEquals({ ...event.row }, given);
      assertEquals(event.key, "1");
    });
  }

  test("keys are text, old rows values, and NULL is null", async () => {
    const { rows, server } = jsServer();
    const report = await server.feed([
      insert("t", { id: 1n, at: null }),
      update("t", { id: 2n, at }, { oldRow: { id: 1n, at: null } }),
      update("t", { id: 2n }, { unchanged: ["at"] }),
      remove("t", { id: 2n }),
      truncate("t"),
    ]);
    assertEquals(rows, [{ id: 1n, at: null }, { id: 2n, at }, { id: 2n }, { id: 2n }, {}]);
    assertEquals(report.handled.map(({ key }) => key), ["1", "2", "2", "2", null]);
    assertEquals({ ...report.handled[1]!.oldRow }, { id: 1n, at: null });
  });

  test("what comes again is made anew: a handler may have changed it", async () => {
    const stream = new PgStream({ values: "js" }).watch("t");
    const seen: Date[] = [];
    stream.onChange(({ row }) => {
      seen.push(row.at);
      row.at.setTime(0);
    });
    const server = new TestServer(stream);
    await server.feed([insert("t", { id: 1, at })]);
    assertEquals(seen[0]!.getTime(), 0);
    await server.replay();
    assertNotStrictEquals(seen[0], seen[1]);
    assertEquals(at.getTime() > 0, true);
  });

  test("types may be named, and parsers of the stream's own read them", async () => {
    const parsers = {
      timestamptz: (text: string) => `at ${text}`,
      geometry: (text: string) => text.length,
      json: (text: string) => text,
    };
    const { rows, server } = jsServer({ parsers });
    const row = {
      id: "1",
      at,
      local: new Date(2026, 6, 1, 12),
      shape: "0101",
      shapes: ["01", "0101"],
      ids: ["1", "2"],
      data: { b: 1, a: 2 },
    };
    const types = {
      id: "int8",
      local: "timestamp",
      shape: "geometry",
      shapes: "_geometry",
      ids: "_int8",
      data: "json",
    };
    await server.feed([insert("t", row, { types })]);
    assertEquals(rows, [{
      id: 1n,
      at: "at 2026-01-31 12:00:00.12+00",
      local: row.local,
      shape: 4,
      shapes: [2, 4],
      ids: [1n, 2n],
      data: '{"a": 2, "b": 1}',
    }]);
  });

  test("a parser that throws makes the stream fail, as it would in production", async () => {
    const parsers = {
      int8: () => {
        throw new Error("never mind");
      },
    };
    const { rows, server } = jsServer({ parsers });
    const report = await server.feed([insert("t", { id: "a" }), insert("t", { id: 7n })], {
      mayFail: true,
    });
    assert(report.failure instanceof DeliveryError);
    assertEquals(report.failure.kind, "parser-failed");
    assertEquals(report.confirmedLsn === server.walLsn, false);
    assertEquals(rows.length < 2, true);
  });

  test("a stream of texts gets texts; where that would be a guess, it is refused", async () => {
    const stream = new PgStream({ logger: false }).watch("t");
    const rows: unknown[] = [];
    stream.onChange(({ row }) => rows.push({ ...row }));
    const server = new TestServer(stream);
    const typed = { types: { at: "timestamptz" }, values: "js" } as const;
    await server.feed([insert("t", { id: 1, at, yes: true }, typed)]);
    assertEquals(rows, [{ id: "1", at: "2026-01-31 12:00:00.12+00", yes: "t" }]);
    const error = await assertRejects(
      () => server.feed([insert("t", { id: 2, secret: ["hush"], yes: true })]),
      PgStreamError,
      '"secret" has a value that Postgres may print in more than one way',
    );
    assertEquals([error.kind, error.message.includes("hush")], ["invalid-change", false]);
  });

  test("a type that no catalogue has, for which no parser would be called, is refused", () => {
    for (const type of ["decimal", "vector(3)", "int4[]"]) {
      const error = assertThrows(
        () => insert("t", { id: 1, price: "1" }, { types: { price: type } }),
        PgStreamError,
        "pg_type.typname",
      );
      assertEquals(error.kind, "invalid-change");
    }
  });

  test("types say what was given, with no cast", async () => {
    const stream = new PgStream<Tables>({ values: "js" }).watch("documents");
    stream.onChange((event) => {
      if (event.operation === "insert") event.row.at?.getTime();
    });
    const server = new TestServer(stream);
    const js = insert("documents", { id: 1n, at, body: { a: [1] } }, { values: "js" });
    const { id, body }: { id: 1n; body: { a: [1] } } = js.row;
    assertEquals([id, body], [1n, { a: [1] }]);
    const text: string = insert("documents", { id: 1n, at, body: "" }).row.at;
    assertEquals(text, "2026-01-31 12:00:00.12+00");
    const report = await server.feed([js, insert("documents", { id: 2n, at, body: "" })]);
    const [, second] = report.handled;
    if (second?.operation === "insert") assertEquals(second.row.at?.getTime(), at.getTime());
    const wrong = insert("documents", { id: 3n, at: { a: 1 }, body: "" }, { values: "js" });
    // @ts-expect-error it is neither a Date nor a text
    void (() => server.feed([wrong]));
  });
});
