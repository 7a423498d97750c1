import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { saslPrep } from "../../../src/wire/sasl_prep.ts";

test("a password is prepared as the server prepares it when it is set", () => {
  const table: [string, string][] = [
    ["user", "user"],
    ["USER", "USER"],
    ["with space", "with space"],
    ["\x07ascii control", "\x07ascii control"],
    // RFC 4013, section 3.
    ["I\u00adX", "IX"],
    ["\u00aa", "a"],
    ["\u2168", "IX"],
    // Decomposed and composed are one password.
    ["pa\u0308ss", "p\u00e4ss"],
    ["a\u00a0b\u3000c", "a b c"],
    ["\ufb01sh", "fish"],
    ["\u{20000}", "\u{20000}"],
  ];
  for (const [password, prepared] of table) assertEquals(saslPrep(password), prepared);
});

test("what SASLprep forbids is used as it is", () => {
  const table = [
    "\ufb01\u0007",
    "\ufb01\u0080",
    "\ufb01\ue000",
    "\ufb01\ufffd",
    "\ufb01\u{e0001}",
    "\ufb01\u{1f600}", // an emoji: Unicode 3.2 did not have it
    "\ufb01\u05d0", // left-to-right and right-to-left
    "\u0627\u0031\ufefc1", // right-to-left that ends otherwise
    "\u00ad",
  ];
  for (const password of table) assertEquals(saslPrep(password), password);
});
