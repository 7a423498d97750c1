/** Texts of rows by a template: what is embedded must not change from one version to the next. */

import { assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { CliError } from "../../../src/cli/errors.ts";
import { readTemplate } from "../../../src/cli/template.ts";

const textOf = (template: string | string[], row: Record<string, unknown>) =>
  readTemplate(template, "text").textOf(row);

describe("a template", () => {
  for (
    const [what, template, row, text] of [
      ["a column", "body", { body: "b" }, "b"],
      ["…that is NULL", "body", { body: null }, null],
      ["…that is empty", "body", { body: " \n" }, null],
      ["several columns", ["title", "body"], { title: "t", body: "b" }, "t\n\nb"],
      ["…of which one is NULL", ["title", "body"], { title: null, body: "b" }, "b"],
      ["…of which all are", ["title", "body"], { title: null, body: "" }, null],
      ["pieces between", "{{title}}: {{ body }}!", { title: "t", body: "b" }, "t: b!"],
      ["…NULL is empty there", "{{title}}: {{body}}", { title: null, body: "b" }, ": b"],
      ["…and where all are, there is no text", "T: {{title}}", { title: null }, null],
      ["a column twice", "{{a}}{{a}}", { a: "x" }, "xx"],
      ["a column with spaces and dots in its name", "{{my col.x}}", { "my col.x": "x" }, "x"],
      ["what a value holds is no template", "{{a}}{{b}}", { a: "{{b}}", b: "$&" }, "{{b}}$&"],
      ["a single brace is text", "{ {{a}} }", { a: "x" }, "{ x }"],
      ["a column with braces in its name, in an array", ["{{a}}"], { "{{a}}": "x" }, "x"],
      ["numbers", "{{a}} {{b}}", { a: 1.5, b: 9007199254740993n }, "1.5 9007199254740993"],
      ["a boolean", "a", { a: false }, "false"],
      ["a date", "a", { a: new Date(0) }, "1970-01-01T00:00:00.000Z"],
      [
        "an array, and JSON",
        "{{a}} {{b}}",
        { a: ["x", 1n], b: { c: null } },
        '["x","1"] {"c":null}',
      ],
    ] as const
  ) {
    test(what, () => assertEquals(textOf(template as string | string[], row), text));
  }

  test("tells the columns that it needs, each once", () => {
    assertEquals(readTemplate("{{b}} {{a}} {{b}}", "text").columns, ["b", "a"]);
    assertEquals(readTemplate(["b", "a"], "text").columns, ["b", "a"]);
  });

  for (const template of ["{{a", "a}}", "{{}}", "{{ }}", "{{{a}}}", "{{a}} {{b", "{{a{b}}"]) {
    test(`${template} names no column`, () => {
      const error = assertThrows(() => readTemplate(template, "tables.documents.text"), CliError);
      assertEquals(error.summary, "tables.documents.text has braces that name no column");
    });
  }

  test("no column at all is refused", () => {
    assertThrows(() => readTemplate([], "text"), CliError, "text names no column");
  });

  test("a row that has not the column is told: it is not published", () => {
    const error = assertThrows(() => textOf("{{title}} {{made}}", { title: "t" }), CliError);
    assertEquals(error.summary, 'text names the column "made", which the publication has not');
  });
});
