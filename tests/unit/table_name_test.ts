import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { formatTableName, parseTableName, quoteTableName } from "../../src/table_name.ts";
import { seededRandom } from "../support/random.ts";

test("a name is split at the first dot outside double quotes, and is in public without one", () => {
  const known: [string, string, string][] = [
    ["documents", "public", "documents"],
    ["blog.articles", "blog", "articles"],
    ["a.b.c", "a", "b.c"],
    ["a..b", "a", ".b"],
    ['"We""ird"."Ta.ble"', 'We"ird', "Ta.ble"],
    ['"a.b"', "public", "a.b"],
    ['"a.b".c', "a.b", "c"],
    ['a."b.c"', "a", "b.c"],
    ['""""', "public", '"'],
    ['"""."""', "public", '"."'],
    ['"a"".b"', "public", 'a".b'],
  ];
  for (const [name, schema, table] of known) {
    assertEquals(parseTableName(name), { schema, table }, name);
  }
});

test("a name is literal: no case is folded, no space trimmed, no letter replaced", () => {
  for (const name of ["User", "ÜBER", " t ", "a\tb", "straße", "日本", "t'; --", "a\\b"]) {
    assertEquals(parseTableName(name), { schema: "public", table: name });
    assertEquals(parseTableName(`"${name}"`), { schema: "public", table: name });
  }
});

test("what is no name is refused, not guessed", () => {
  const texts = [
    "",
    ".",
    "a.",
    ".a",
    '""',
    '"".a',
    'a.""',
    '"',
    '"a',
    'a"',
    'a"b',
    '"a"b',
    '"a" ."b"',
  ];
  for (const text of [...texts, 'a"b.c', 'a.b"c', '"a".b"', "a\0b", '"a\0"', "a.b\0"]) {
    assertThrows(() => parseTableName(text), RangeError, "Not a table name", JSON.stringify(text));
  }
});

test("a name in a message reads back as the same table, and as no other", () => {
  const seed = 11;
  const random = seededRandom(seed);
  const alphabet = ["a", "B", ".", '"', " ", "é"];
  const part = () =>
    Array.from(
      { length: 1 + Math.floor(random() * 5) },
      () => alphabet[Math.floor(random() * alphabet.length)],
    ).join("");
  const seen = new Map<string, string>();
  for (let i = 0; i < 3000; i++) {
    const name = { schema: part(), table: part() };
    const text = formatTableName(name);
    assertEquals(parseTableName(text), name, `${text}, seed ${seed}`);
    const identity = JSON.stringify(name);
    assertEquals(seen.get(text) ?? identity, identity, `${text}, seed ${seed}`);
    seen.set(text, identity);
  }
});

test("a zero byte, which would cut a statement short, never gets into SQL", () => {
  assertThrows(() => quoteTableName({ schema: "a\0b", table: "c" }), RangeError, "zero byte");
  assertThrows(() => quoteTableName({ schema: "a", table: "b\0c" }), RangeError, "zero byte");
});

test("messages quote only what needs it, SQL always", () => {
  assertEquals(formatTableName({ schema: "public", table: "User" }), "public.User");
  assertEquals(formatTableName({ schema: "a.b", table: 'c"d' }), '"a.b"."c""d"');
  assertEquals(quoteTableName({ schema: "public", table: "User" }), '"public"."User"');
  const hostile = quoteTableName({ schema: 's"; DROP TABLE t; --', table: "a.b" });
  assertEquals(hostile, '"s""; DROP TABLE t; --"."a.b"');
  assertNotEquals(
    quoteTableName({ schema: "a", table: "b.c" }),
    quoteTableName({ schema: "a.b", table: "c" }),
  );
});
