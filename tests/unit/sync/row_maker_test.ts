import {
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { test } from "node:test";
import type { AnyRow } from "../../../src/change.ts";
import { PgStreamError } from "../../../src/errors.ts";
import { rowPointId } from "../../../src/sinks/rows.ts";
import { chunkText } from "../../../src/sync/chunk_text.ts";
import { fingerprint } from "../../../src/sync/fingerprint.ts";
import type { SyncOptions } from "../../../src/sync/options.ts";
import { rowMaker, type WantedRow } from "../../../src/sync/row_maker.ts";

const TABLE = "public.documents";

function make(row: AnyRow, options: Partial<SyncOptions> = {}): Promise<WantedRow> {
  return rowMaker({ table: TABLE, model: "m", text: (row) => row.body, ...options }).make("7", row);
}

/** As rows of streams are. */
function bare(row: AnyRow): AnyRow {
  return Object.assign(Object.create(null), row);
}

async function refused(
  row: AnyRow,
  options: Record<string, unknown>,
): Promise<PgStreamError> {
  return await assertRejects(() => make(row, options as Partial<SyncOptions>), PgStreamError);
}

test("a row without text has no point, and its payload is not asked for", async () => {
  for (const body of [null, undefined, "", " ", "\n\n", "\t\u3000"]) {
    const wanted = await make({ body }, {
      payload: () => {
        throw new Error("asked for");
      },
    });
    assertEquals(wanted, { points: [] }, JSON.stringify(body));
  }
});

test("a text is embedded as it is, under the id of its row", async () => {
  const text = "  two\nlines ";
  assertEquals(await make({ body: text }), {
    points: [{
      id: rowPointId(TABLE, "7", 0),
      text,
      fingerprint: await fingerprint({ text, model: "m" }),
      payload: {},
    }],
  });
});

test("chunks are numbered without gaps, those of white space alone are left out", async () => {
  const chunk = Object.defineProperty((text: string) => text.split("|"), "name", {
    value: "bars@1",
  });
  const { points } = await make({ body: "a||b| |c|" }, { chunk });
  assertEquals(
    points.map(({ id, text }) => [id, text]),
    ["a", "b", "c"].map((text, at) => [rowPointId(TABLE, "7", at), text]),
  );
  assertEquals(
    points[1]!.fingerprint,
    await fingerprint({ text: "b", model: "m", chunker: "bars@1" }),
  );
  assertEquals((await make({ body: "||" }, { chunk })).points, []);
});

test("another chunker or model makes another fingerprint of the same text", async () => {
  const prints = await Promise.all([
    make({ body: "a" }),
    make({ body: "a" }, { chunk: chunkText() }),
    make({ body: "a" }, { chunk: chunkText({ maxChars: 10 }) }),
    rowMaker({ table: TABLE, model: "m2", text: () => "a" }).make("7", {}),
  ]);
  assertEquals(new Set(prints.map(({ points }) => points[0]!.fingerprint)).size, 4);
});

test("a payload is safe for JSON, whatever values the columns have", async () => {
  const row = bare({
    body: "b",
    small: 7n,
    large: 2n ** 60n,
    at: new Date(0),
    nan: NaN,
    bytes: new Uint8Array([1, 255]),
    nothing: null,
    nested: { list: [1n, null] },
  });
  Object.defineProperty(row, "__proto__", { value: "x", enumerable: true });
  const payload = Object.keys(row).filter((column) => column !== "body");
  const wanted = await make(row, { payload });
  assertEquals(
    JSON.stringify(wanted.points[0]!.payload),
    '{"small":7,"large":"1152921504606846976","at":"1970-01-01T00:00:00.000Z","nan":"NaN",' +
      '"bytes":"\\\\x01ff","nothing":null,"nested":{"list":[1,null]},"__proto__":"x"}',
  );
  const made = await make(row, { payload: ({ small }) => ({ small }) });
  assertEquals(made.points[0]!.payload, { small: 7 });
});

test("a payload may be of the chunk: what was found can be shown", async () => {
  const chunk = chunkText({ maxChars: 10, overlap: 0 });
  const { points } = await make({ id: 7, body: "One. Two. Three." }, {
    chunk,
    payload: ({ id }, of) => ({ id, ...of }),
  });
  assertEquals(points.map(({ payload }) => payload), [
    { id: 7, text: "One. Two. ", chunk: 0, chunks: 2 },
    { id: 7, text: "Three.", chunk: 1, chunks: 2 },
  ]);
});

test("a payload column that the row has not is an error that names it, not a property that is never there", async () => {
  for (const row of [bare({ body: "b" }), { body: "b" }]) {
    for (const column of ["titel", "toString", "constructor"]) {
      const error = await refused(row, { payload: [column] });
      assertEquals(error.kind, "sync-payload");
      assertStringIncludes(error.message, `Table public.documents has no column "${column}"`);
    }
  }
});

test("functions that throw, or give what is none, are named with their table, and values are not", async () => {
  const cause = new TypeError("x");
  const fail = () => {
    throw cause;
  };
  const circle: Record<string, unknown> = { secret: "s3cret" };
  circle.self = circle;
  const named = (chunk: unknown) =>
    Object.defineProperty(chunk as () => void, "name", { value: "c" });
  const wrong: [options: Record<string, unknown>, kind: string, text: string][] = [
    [{ text: fail }, "sync-text", "text() of public.documents threw"],
    [{ text: () => 7 }, "sync-text", "text() of public.documents returned a value of type number"],
    [{ text: () => ["s3cret"] }, "sync-text", "returned an array"],
    [{ text: () => Promise.resolve("s3cret") }, "sync-text", "returned a promise"],
    [{ chunk: named(fail) }, "sync-chunk", "chunk() of public.documents threw"],
    [{ chunk: named(() => "s3cret") }, "sync-chunk", "returned no array of texts"],
    [{ chunk: named(() => ["a", 7]) }, "sync-chunk", "returned no array of texts"],
    [{ chunk: named(() => Promise.resolve([])) }, "sync-chunk", "returned no array of texts"],
    [{ payload: fail }, "sync-payload", "payload() of public.documents threw"],
    [{ payload: () => undefined }, "sync-payload", "returned undefined"],
    [{ payload: () => null }, "sync-payload", "returned null"],
    [{ payload: () => "s3cret" }, "sync-payload", "returned a value of type string"],
    [{ payload: () => ["s3cret"] }, "sync-payload", "returned an array"],
    [{ payload: () => Promise.resolve({}) }, "sync-payload", "returned a promise"],
    [
      { payload: () => circle },
      "sync-payload",
      "The payload of public.documents cannot be written",
    ],
  ];
  for (const [options, kind, text] of wrong) {
    const error = await refused({ body: "b" }, options);
    assertEquals(error.kind, kind, text);
    assertStringIncludes(error.message, text);
    assertEquals(error.message.includes("s3cret"), false);
    assertEquals(error.retryable, false);
    if (text.endsWith("threw")) assertStrictEquals(error.cause, cause);
  }
});

test("ids of keys that look alike differ", async () => {
  const maker = rowMaker({ table: TABLE, model: "m", text: () => "t" });
  const [a, b] = await Promise.all([maker.make('["1","2"]', {}), maker.make("1,2", {})]);
  assertNotEquals(a!.points[0]!.id, b!.points[0]!.id);
});
