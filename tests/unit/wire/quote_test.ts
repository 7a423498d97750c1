import { assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { quoteIdentifier, quoteLiteral, quoteReplicationLiteral } from "../../../src/wire/quote.ts";

test("a name cannot end its quotes", () => {
  assertEquals(quoteIdentifier("Table"), '"Table"');
  assertEquals(quoteIdentifier('We"ird, P.ub'), '"We""ird, P.ub"');
  assertEquals(quoteIdentifier('"; DROP TABLE x; --'), '"""; DROP TABLE x; --"');
});

test("a literal cannot end its quotes, with or without standard_conforming_strings", () => {
  assertEquals(quoteLiteral("it's"), "'it''s'");
  assertEquals(quoteLiteral(""), "''");
  assertEquals(quoteLiteral("a\\'b"), " E'a\\\\''b'");
  assertEquals(quoteReplicationLiteral("a\\'b"), "'a\\''b'");
});

test("what cannot be quoted is refused", () => {
  assertThrows(() => quoteIdentifier(""), RangeError);
  assertThrows(() => quoteIdentifier("a\0b"), RangeError);
  assertThrows(() => quoteLiteral("a\0b"), RangeError);
  assertThrows(() => quoteReplicationLiteral("\0"), RangeError);
});
