/** Cells of a terminal that texts take: what is aligned by them stays aligned. */

import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { cut, padded, widthOf } from "../../../src/cli/text_width.ts";

test("what people see as one character takes one cell, or two", () => {
  const widths: Record<string, number> = {
    "": 0,
    "plain": 5,
    "Käse": 4,
    // A letter and its mark.
    "Ka\u0308se": 4,
    "日本語": 6,
    "한국어": 6,
    // Narrow ones of both.
    "ﾊﾟﾝ": 3,
    "ﾡ": 1,
    "「」": 4,
    "ＡＢ": 4,
    "㈱": 2,
    "🥖": 2,
    "👩‍👩‍👧": 2,
    "🇫🇷": 2,
    "…→": 2,
    // With nothing to stand on.
    "\u0301": 0,
    "\u200b": 0,
  };
  for (const [text, width] of Object.entries(widths)) assertEquals(widthOf(text), width, text);
});

test("a text is cut between characters, and never wider than it may be", () => {
  assertEquals(cut("plain", 5), "plain");
  assertEquals(cut("plain", 4), "pla…");
  assertEquals(cut("日本語", 5), "日本…");
  assertEquals(cut("日本語", 4), "日…");
  assertEquals(cut("a👩‍👩‍👧b", 3), "a…");
  assertEquals(cut("plain", 1), "…");
});

test("a text is padded by cells", () => {
  assertEquals(padded("日本", 6), "日本  ");
  assertEquals(padded("plain", 3), "plain");
});
