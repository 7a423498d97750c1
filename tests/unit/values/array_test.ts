import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { parseArray } from "../../../src/values/array.ts";

const texts = (text: string, delimiter?: string) => parseArray(text, (text) => text, delimiter);

describe("arrays:", () => {
  test("empty, of one, with NULL and the text NULL", () => {
    assertEquals(texts("{}"), []);
    assertEquals(texts("{a}"), ["a"]);
    assertEquals(texts('{NULL,"NULL",null,"",b}'), [null, "NULL", "null", "", "b"]);
  });

  test("quotes, backslashes, braces, delimiters and line ends in elements", () => {
    assertEquals(texts('{"a\\\\\\"b","{}"," c ","d,e","f\\\\","\n"}'), [
      'a\\"b',
      "{}",
      " c ",
      "d,e",
      "f\\",
      "\n",
    ]);
    assertEquals(texts('{"a\\\nb",😀,"é\\\\😀"}'), ["a\nb", "😀", "é\\😀"]);
  });

  test("dimensions are nested arrays, and bounds are dropped", () => {
    const parse = (text: string) => parseArray(text, Number);
    assertEquals(parse("{{1,2},{3,NULL}}"), [[1, 2], [3, null]]);
    assertEquals(parse("[0:1]={1,2}"), [1, 2]);
    assertEquals(parse("[0:1][-1:0]={{1,2},{3,4}}"), [[1, 2], [3, 4]]);
    assertEquals(parse("{{{{{{1}}}}}}"), [[[[[[1]]]]]]);
  });

  test("the delimiter is the type's own", () => {
    assertEquals(texts("{(1,2),(0,0);(3,4),(1,1)}", ";"), ["(1,2),(0,0)", "(3,4),(1,1)"]);
    assertEquals(texts("{(1,2),(0,0);NULL}", ";"), ["(1,2),(0,0)", null]);
  });

  test("many elements take no stack", () => {
    assertEquals(texts(`{${"1,".repeat(200_000)}1}`).length, 200_001);
  });

  test("anything else is refused, and not repeated", () => {
    const whole = ["", "secret", "{secret", "secret}", "{}secret", "{secret}}", "{{secret}"];
    const parts = ["{,}", "{secret,}", '{"secret}', '{"secret\\', '{"a"b}', "{sec\\ret}", "{}{}"];
    const bounds = ["[0:1]", "[0:1={1}", "{{}}", `${"{".repeat(7)}1${"}".repeat(7)}`];
    for (const text of [...whole, ...parts, ...bounds]) {
      const error = assertThrows(() => texts(text), RangeError, undefined, text);
      assert(!error.message.includes("secret"));
    }
  });
});
