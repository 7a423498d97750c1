import { assertEquals, assertInstanceOf, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import { PgStreamError } from "../../../src/errors.ts";
import { PgStream } from "../../../src/stream/pg_stream.ts";

// deno-lint-ignore no-explicit-any
type Anything = any;

function refusal(...what: unknown[]): PgStreamError {
  try {
    new PgStream({ dsn: "postgresql://localhost/db" }).watch(...what as [Anything, Anything]);
  } catch (error) {
    assertInstanceOf(error, PgStreamError);
    return error;
  }
  throw new Error(`Was taken: ${JSON.stringify(what)}`);
}

test("watch() takes names, or one name with what of it is published, and nothing in between", () => {
  const stream = new PgStream({ dsn: "postgresql://localhost/db" });
  assertEquals(stream.watch("a", "b").watch("c", { columns: ["id"] }).watch("d", {}), stream);
  for (
    const what of [
      [["a", "b"]],
      [{ columns: ["id"] }],
      ["a", "b", { columns: ["id"] }],
      ["a", { columns: ["id"] }, "b"],
      [{ where: "x" }, { where: "x" }],
      ["a", null],
      ["a", ["id"]],
      [7],
    ]
  ) {
    assertEquals(refusal(...what).kind, "table-name", JSON.stringify(what));
  }
});

test("watch() names the option that is none, before anybody connects", () => {
  const misspelt = refusal("documents", { column: ["id"] });
  assertEquals(misspelt.kind, "invalid-option");
  assertStringIncludes(misspelt.message, "column of");
  const columns = refusal("documents", { columns: [] });
  assertEquals(columns.kind, "invalid-option");
  assertStringIncludes(columns.message, "columns");
  assertStringIncludes(columns.message, "documents");
  assertEquals(refusal("documents", { where: "x > '\0'" }).kind, "invalid-option");
});
