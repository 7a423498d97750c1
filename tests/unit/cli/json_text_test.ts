/** Files of JSON as people write them: with comments, and told where they are wrong. */

import { assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { JsonFault, parseJsonText } from "../../../src/cli/json_text.ts";

describe("JSON with comments", () => {
  for (
    const [what, text, value] of [
      ["what looks like a comment in a text is text", '{"url": "http://h/*x*/"}', {
        url: "http://h/*x*/",
      }],
      ["…behind an escaped quote, too", '["\\"// no", "/* no"] // yes', ['"// no', "/* no"]],
      ["…and behind an escaped backslash the text ends", '["\\\\" /* , "x" */]', ["\\"]],
      ["a quote in a comment begins no text", "[1, // it's \"so\n2]", [1, 2]],
      ["a comment may stand anywhere between", '/**/{/*a*/"k"/*b*/:/*c*/1/*d*/,/*e*/}//f', {
        k: 1,
      }],
      ["a comment of stars ends at its end", "[/***/1/* **/]", [1]],
      ["a comma behind the last", '{"a": [1, 2,], }', { a: [1, 2] }],
      ["a mark of the order of bytes, and lines of Windows", "\uFEFF{\r\n// x\r\n}\r\n", {}],
      ["a comment that ends with the file", "1 // one", 1],
    ] as const
  ) test(what, () => assertEquals(parseJsonText(text), value));

  test("is JSON.parse's where JSON is strict", () => {
    for (
      const text of [
        ' { "a" : [ ] , "b" : { } } ',
        '"\\u00e9\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\"\\\\ é😀"',
        "[-0, 0.5, 1e3, 1E-2, -12.25e+2, true, false, null]",
        '{"": "", "__proto__": {"x": 1}, "constructor": 1}',
      ]
    ) {
      const [read, parsed] = [parseJsonText(text), JSON.parse(text)];
      assertEquals(JSON.stringify(read), JSON.stringify(parsed));
      assertEquals(read, parsed);
    }
  });

  test("a key called __proto__ is a key, and changes no object", () => {
    const read = parseJsonText('{"__proto__": {"polluted": true}}') as Record<string, unknown>;
    assertEquals(Object.keys(read), ["__proto__"]);
    assertEquals(read.polluted, undefined);
  });

  for (
    const [what, text, line, column, message] of [
      ["an empty file", "", 1, 1, /it ends in the middle/],
      ["a file of comments only", "// none\n", 2, 1, /it ends in the middle/],
      ["a bracket that is not closed", '{\n  "a": [1,\n', 2, 8, /the \] of this is missing/],
      ["a text that is not closed", '{"a": "b\n}', 1, 7, /the quote that ends this text/],
      ["a comment that is not closed", '{} /* "a"', 1, 4, /the end of this comment/],
      ["a comma that is missing", '{\n  "a": 1\n  "b": 2\n}', 3, 3, /a comma, or \}, is missing/],
      ["a comma too many", "[1,,2]", 1, 4, /here is no value/],
      ["a key without quotes", "{\n\ta: 1}", 2, 2, /keys stand in double quotes/],
      ["single quotes", "['a']", 1, 2, /double quotes/],
      ["a text without quotes", '{"a": bread}', 1, 7, /here is no value/],
      ["a number that is none", "[01]", 1, 2, /here is no value/],
      ["…that goes on as a word", "[1px]", 1, 2, /here is no value/],
      ["what only JavaScript knows", "[NaN]", 1, 2, /here is no value/],
      ["a colon that is missing", '{"a" 1}', 1, 6, /a colon is missing/],
      ["a key that comes twice", '{"a": 1,\r\n "a": 2}', 2, 2, /the key "a" comes twice/],
      ["an escape that is none", '["\\x41"]', 1, 3, /no escape/],
      ["…of too few digits", '["\\u12"]', 1, 3, /no escape/],
      ["a tab in a text", '["a\tb"]', 1, 4, /control character/],
      ["two values", "{} {}", 1, 4, /more comes after the end/],
    ] as const
  ) {
    test(`${what}: an error with line and column`, () => {
      const fault = assertThrows(() => parseJsonText(text), JsonFault);
      assertEquals([fault.line, fault.column], [line, column], fault.message);
      assertEquals(message.test(fault.message), true, fault.message);
    });
  }

  test("what is nested without end is refused, not followed", () => {
    assertThrows(() => parseJsonText("[".repeat(100_000)), JsonFault, "nested too deeply");
    assertEquals(JSON.stringify(parseJsonText(`${"[".repeat(100)}${"]".repeat(100)}`)).length, 200);
  });
});
