import { describe, test } from "node:test";
import { assertEquals } from "@std/assert";
import { whatIsOpen } from "../../../src/wire/sql_condition.ts";

describe("a condition that is put into a statement", () => {
  for (
    const condition of [
      "id > 1000",
      "(a OR b) AND c IN (1, 2)",
      "a = ');' AND b = 'it''s ('",
      `"c)" = 1 AND "d"")" = 2`,
      "a = $$)$$ AND b = $q$ ) $$ ; $q$",
      "a = E'\\')' OR b = e'\\\\'",
      "a = '\\' AND b = 1", // a backslash is one
      "a > 1 -- ) ;",
      "a > 1 -- '\n AND b > 2",
      "a > 1 /* ) /* nested ' */ ; */ AND b",
      "a$1$ = b$1$", // names
      "größe > 1 AND é$$ = 2",
      "a = 'x'\n'y'",
      "a = E'x' AND b = 'y'",
      "a[1] = (b).c",
      "a - -1 > 0",
      "U&'d\\0061' = a",
      "a ~ '^\\(' AND 1E'5' IS NULL",
    ]
  ) {
    test(`stays what it is: ${JSON.stringify(condition)}`, () => {
      assertEquals(whatIsOpen(condition), null);
    });
  }

  for (
    const [condition, open] of [
      ["a > 1); DROP TABLE t; SELECT (1", "a parenthesis"],
      ["a > 1), TABLE t WHERE (true", "a parenthesis"],
      ["true) OR (true", "a parenthesis"],
      ["(a > 1", "a parenthesis"],
      ["a > 1;", "a semicolon"],
      ["a = 'x", "a quote"],
      ["a = E'x\\'", "a quote"],
      ['"a', "a quote"],
      ["a = $$x", "a dollar quote"],
      ["a = $q$x$$", "a dollar quote"],
      ["a /* x", "a comment"],
      ["a /* /* x */", "a comment"],
      ["a = '\\'); DROP TABLE t; --'", "a parenthesis"],
      ["a = aE'\\'); DROP TABLE t; --'", "a parenthesis"], // a name, and a text behind it
      ["a = '$$' ) $$", "a parenthesis"],
      ["1$$ ' $$) --'", "a parenthesis"],
      ["a --\r)", "a parenthesis"],
      ["a = \u00a0E'\\'); DROP TABLE t; --'", "a parenthesis"], // a letter
      // The second line goes on with the backslashes of the first.
      ["a = E'x'\n' \\' ' ); DROP TABLE t; --'", "a text in quotes"],
      ["a = E'x' -- \n ' \\' ' ); DROP TABLE t; --'", "a text in quotes"],
    ] as const
  ) {
    test(`is refused: ${JSON.stringify(condition)}`, () => {
      assertEquals(whatIsOpen(condition), open);
    });
  }
});
