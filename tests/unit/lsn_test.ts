import { assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { formatLsn, parseLsn } from "../../src/lsn.ts";

test("an LSN reads and prints as Postgres prints it, up to the last bit", () => {
  const known: [string, bigint][] = [
    ["0/0", 0n],
    ["0/1A3F28", 0x1a3f28n],
    ["16/B374D848", 97_500_059_720n],
    ["1/0", 2n ** 32n],
    ["2000000/1", 2n ** 57n + 1n],
    ["FFFFFFFF/FFFFFFFF", 2n ** 64n - 1n],
  ];
  for (const [text, lsn] of known) {
    assertEquals(parseLsn(text), lsn);
    assertEquals(formatLsn(lsn), text);
  }
});

test("an LSN in small letters or with leading zeros is the same", () => {
  assertEquals(parseLsn("00000016/b374d848"), parseLsn("16/B374D848"));
});

test("what is no LSN is refused, not guessed", () => {
  const texts = ["", "0", "/", "0/", "/0", "0/0/0", "0/-1", "G/0", " 0/0", "0/0\n", "123456789/0"];
  for (const text of texts) assertThrows(() => parseLsn(text), RangeError, "Not an LSN");
});
