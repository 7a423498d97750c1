import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import type { CatalogType } from "../../../src/values/built_in_types.ts";
import { ParserFailure, Types } from "../../../src/values/types.ts";

function type(oid: number, name: string, rest: Partial<CatalogType> = {}): CatalogType {
  return { oid, name, kind: "b", element: null, delimiter: ",", ...rest };
}

/** What the text of a type that is known by its OID becomes; the text itself where nothing reads it. */
function read(types: Types, oid: number, text: string): unknown {
  const parse = types.parserOf(oid);
  return parse === null ? text : parse(text);
}

describe("types:", () => {
  test("each that Postgres ships, by its OID", () => {
    const types = new Types();
    const values: [number, string, unknown][] = [
      [16, "t", true],
      [17, "\\x00ff", Uint8Array.of(0, 255)],
      [20, "1", 1n],
      [21, "1", 1],
      [23, "-1", -1],
      [700, "0.1", 0.1],
      [701, "NaN", NaN],
      [114, '{"a": 1}', { a: 1 }],
      [3802, "[12345678901234567890]", [12345678901234567890n]],
      [1184, "2024-01-01 00:00:00+00", new Date(Date.UTC(2024, 0, 1))],
      [1114, "2024-01-01 00:00:00", new Date(2024, 0, 1)],
      [1000, "{t,NULL}", [true, null]],
      [1016, "{{1},{2}}", [[1n], [2n]]],
      [1001, '{"\\\\x00"}', [Uint8Array.of(0)]],
      [3807, '{"{\\"a\\": \\"b,c\\"}",NULL}', [{ a: "b,c" }, null]],
      [1185, '{"2024-01-01 00:00:00+00"}', [new Date(Date.UTC(2024, 0, 1))]],
      [1020, "{(1,1),(0,0);(2,2),(0,0)}", ["(1,1),(0,0)", "(2,2),(0,0)"]],
      [1009, "{a,NULL}", ["a", null]],
      [1231, "{1.10,NaN}", ["1.10", "NaN"]],
      [3905, '{"[1,2)",empty}', ["[1,2)", "empty"]],
      [6150, '{"{[1,2),[3,4)}"}', ["{[1,2),[3,4)}"]],
    ];
    assertEquals(types.unknown(values.map(([oid]) => oid)), []);
    for (const [oid, text, value] of values) assertEquals(read(types, oid, text), value);
  });

  test("those that stay text have nothing to read them", () => {
    const types = new Types();
    // name, text, xml, point, box, money, bpchar, varchar, date, time, interval, numeric, uuid, ranges, oid
    const texts = [19, 25, 142, 600, 603, 790, 1042, 1043, 1082, 1083, 1186, 1700, 2950, 3904, 26];
    for (const oid of texts) assertEquals(types.parserOf(oid), null);
    assertEquals(types.unknown(texts), []);
    const digits = "9".repeat(1000);
    assertEquals(read(types, 1700, digits), digits);
  });

  test("what Postgres does not ship is looked up once, and known by its name", () => {
    const types = new Types();
    assertEquals(types.unknown([25, 16500, 16500, 16501]), [16500, 16501]);
    assertEquals(types.parserOf(16500), null);
    const vector = type(16500, "vector");
    types.learn(vector);
    types.learn(type(16501, "_vector", { element: vector }));
    types.learn(type(16502, "halfvec"));
    types.learn(type(16503, "sparsevec"));
    assertEquals(types.unknown([16500, 16501, 16502]), []);
    assertEquals(read(types, 16500, "[1,2.5]"), Float32Array.of(1, 2.5));
    assertEquals(read(types, 16501, '{"[1,2]",NULL}'), [Float32Array.of(1, 2), null]);
    assertEquals(read(types, 16502, "[0.5]"), Float32Array.of(0.5));
    assertEquals(read(types, 16503, "{1:1.5,3:2}/5"), {
      dimensions: 5,
      indices: [0, 2],
      values: [1.5, 2],
    });
  });

  test("enums, domains, rows, and what nobody knows stay text, whatever they are called", () => {
    const types = new Types();
    types.learn(type(16500, "vector", { kind: "d" }));
    types.learn(type(16501, "bool", { kind: "e" }));
    types.learn(type(16502, "json", { kind: "c" }));
    types.learn(type(16503, "_mood", { element: type(16504, "mood", { kind: "e" }) }));
    for (const oid of [16500, 16501, 16502, 99999]) assertEquals(types.parserOf(oid), null);
    assertEquals(read(types, 16503, '{"so so",NULL}'), ["so so", null]);
  });

  test("one's own parsers go first: by OID, by name, and in arrays", () => {
    const types = new Types({
      timestamptz: (text) => `at ${text}`,
      1114: (text) => `local ${text}`,
      geometry: (text) => text.length,
      _int4: (text) => text.split(","),
    });
    const geometry = type(16500, "geometry", { delimiter: ":" });
    types.learn(geometry);
    types.learn(type(16501, "_geometry", { element: geometry }));
    assertEquals(read(types, 1184, "x"), "at x");
    assertEquals(read(types, 1185, "{x,NULL}"), ["at x", null]);
    assertEquals(read(types, 1114, "x"), "local x");
    assertEquals(read(types, 16500, "0101"), 4);
    assertEquals(read(types, 16501, "{01:0101}"), [2, 4]);
    assertEquals(read(types, 1007, "{1,2}"), ["{1", "2}"]);
    assertEquals(read(types, 20, "1"), 1n);
  });

  test("what one's own parser throws is told without a word of it", () => {
    const types = new Types({
      int4: (text) => {
        throw new SyntaxError(`cannot read ${text}`);
      },
    });
    for (const [oid, text] of [[23, "4711"], [1007, "{4711}"]] as const) {
      const error = assertThrows(() => read(types, oid, text), ParserFailure);
      assert(!error.message.includes("4711"));
      assertEquals(error.cause, undefined);
    }
  });

  test("a parser called as something that objects inherit is only that", () => {
    const types = new Types({ int4: Number });
    types.learn(type(16500, "constructor"));
    types.learn(type(16501, "__proto__"));
    assertEquals([types.parserOf(16500), types.parserOf(16501)], [null, null]);
  });
});
