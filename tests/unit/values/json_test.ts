import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { parseJson } from "../../../src/values/json.ts";

describe("json:", () => {
  test("integers beyond what a number holds are bigints, wherever they stand", () => {
    assertEquals(parseJson("9007199254740993"), 9007199254740993n);
    assertEquals(parseJson("9007199254740991"), 9007199254740991);
    assertEquals(parseJson("-9007199254740992"), -9007199254740992n);
    assertEquals(
      parseJson('{"a": [1, -12345678901234567890, {"b": 9007199254740992}], "c": 1}'),
      { a: [1, -12345678901234567890n, { b: 9007199254740992n }], c: 1 },
    );
    assertEquals(parseJson(`1${"0".repeat(400)}`), 10n ** 400n);
  });

  test("other numbers are numbers, long texts texts", () => {
    assertEquals(parseJson("1.1234567890123456789"), 1.1234567890123457);
    assertEquals(parseJson("1e20"), 1e20);
    assertEquals(parseJson('["12345678901234567890", 2]'), ["12345678901234567890", 2]);
    assertEquals(parseJson('{"12345678901234567890": "\\\\", "a\\"12345678901234567890": 1}'), {
      "12345678901234567890": "\\",
      'a"12345678901234567890': 1,
    });
    assertEquals(parseJson("[1234567890123456.5, 12345678901234567890e1]"), [
      1234567890123456.5,
      123456789012345678900,
    ]);
    assert(Object.is(parseJson("-0"), -0));
    assertEquals(parseJson('""'), "");
    assertEquals(parseJson("null"), null);
  });

  test("a key that means something to JavaScript is a key", () => {
    for (const value of ["1", "9007199254740993"]) {
      const json = parseJson(`{"__proto__": {"admin": ${value}}, "constructor": 2}`) as object;
      assertEquals(Object.keys(json), ["__proto__", "constructor"]);
      assertEquals(Object.getPrototypeOf(json), Object.prototype);
      assertEquals((json as { admin?: unknown }).admin, undefined);
    }
    assertEquals(({} as { admin?: unknown }).admin, undefined);
  });

  test("as deep as Postgres lets it be", () => {
    for (const leaf of ["1", "9007199254740993"]) {
      let json = parseJson("[".repeat(6000) + leaf + "]".repeat(6000));
      let depth = 0;
      for (; Array.isArray(json); json = json[0]) depth++;
      assertEquals(depth, 6000);
    }
  });

  test("anything else is refused, and not repeated", () => {
    for (
      const text of ["", "{secret}", '{"a": secret1234567890123456}', '"secret12345678901234567890']
    ) {
      const error = assertThrows(() => parseJson(text), RangeError);
      assert(!error.message.includes("secret"));
      assertEquals(error.cause, undefined);
    }
  });
});
