import { assert, assertEquals, assertThrows } from "@std/assert";
import process from "node:process";
import { describe, test } from "node:test";
import { chunkRanges, chunkText } from "../../../src/sync/chunk_text.ts";
import { EmbedError } from "../../../src/sync/embedder.ts";
import { seededRandom } from "../../support/random.ts";

const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });

/** Where characters begin, as people see them, and where the text ends. */
function characterStarts(text: string): Set<number> {
  return new Set([...Array.from(segmenter.segment(text), ({ index }) => index), text.length]);
}

describe("chunkText", () => {
  test("leaves a text that fits as it is, and makes no chunk of none", () => {
    const chunk = chunkText({ maxChars: 10, overlap: 3 });
    assertEquals(chunk(""), []);
    assertEquals(chunk("  0123456 "), ["  0123456 "]);
    assertEquals(chunk("0123456789"), ["0123456789"]);
  });

  test("ends chunks behind paragraphs, else lines and sentences, else words, else anywhere", () => {
    const chunk = (text: string, maxChars: number) => chunkText({ maxChars, overlap: 0 })(text);
    assertEquals(chunk("One two. Three\n\nfour. Five six", 24), [
      "One two. Three\n\n",
      "four. Five six",
    ]);
    assertEquals(chunk("One two.\r\n \r\nThree. four", 20), ["One two.\r\n \r\n", "Three. four"]);
    assertEquals(chunk("One two. Three four", 16), ["One two. ", "Three four"]);
    assertEquals(chunk('He said "no!" Three four', 20), ['He said "no!" ', "Three four"]);
    assertEquals(chunk("One two\nthree four", 16), ["One two\n", "three four"]);
    assertEquals(chunk("いい天気です。行きましょうか", 12), ["いい天気です。", "行きましょうか"]);
    assertEquals(chunk("One two three four", 12), ["One two ", "three four"]);
    assertEquals(chunk("a bcdefghijklmn", 10), ["a ", "bcdefghijk", "lmn"]);
    // Nothing in the second half of what fits: not a paragraph of three letters.
    assertEquals(chunk("One\n\ntwo three four five six", 24), [
      "One\n\ntwo three four ",
      "five six",
    ]);
  });

  test("begins again at a sentence or word of the chunk before, not beyond the overlap", () => {
    const chunk = (text: string, overlap: number) => chunkText({ maxChars: 20, overlap })(text);
    assertEquals(chunk("One two three four five six", 9), ["One two three four ", "four five six"]);
    assertEquals(chunk("One two three       four five", 5), ["One two three       ", "four five"]);
    assertEquals(chunk("One two threefour five six", 5), ["One two threefour ", "five six"]);
    assertEquals(chunk("いい天気ですから公園に行きたいのです。そうしましょう", 4), [
      "いい天気ですから公園に行きたいのです。",
      "のです。そうしましょう",
    ]);
    const text = "One two. Six seven eight. Nine";
    assertEquals(chunkText({ maxChars: 26, overlap: 24 })(text), [
      "One two. Six seven eight. ",
      "Six seven eight. Nine",
    ]);
    assertEquals(chunk("0123456789012345678901234", 4), ["01234567890123456789", "678901234"]);
  });

  test("cuts no character that people see as one", () => {
    const family = "👨‍👩‍👧‍👦"; // 11 units
    const flag = "🇩🇪"; // 4
    const marked = "e\u0301\u0323"; // 3
    const chunk = (text: string, maxChars: number, overlap = 0) =>
      chunkText({ maxChars, overlap })(text);
    assertEquals(chunk(family.repeat(3), 25), [family.repeat(2), family]);
    assertEquals(chunk(flag.repeat(5), 11), [flag.repeat(2), flag.repeat(2), flag]);
    assertEquals(chunk(marked.repeat(5), 7), [marked.repeat(2), marked.repeat(2), marked]);
    assertEquals(chunk(marked.repeat(3), 7, 4), [marked.repeat(2), marked.repeat(2)]);
    assertEquals(chunk("abc\r\n\r\n\r\n\r\n", 6), ["abc\r\n", "\r\n\r\n\r\n"]);
    // A mark on a space belongs to the space.
    assertEquals(chunk("aaaa \u0301bbb", 5), ["aaaa", " \u0301bbb"]);
    // One that is longer than a chunk is cut all the same, but into no half of a pair.
    assertEquals(chunk(family, 4), ["👨‍", "👩‍", "👧‍", "👦"]);
  });

  test("cuts neither pairs nor marks where the runtime has no Intl.Segmenter", async () => {
    const { Segmenter } = Intl;
    Reflect.deleteProperty(Intl, "Segmenter");
    try {
      const path = "../../../src/sync/chunk_text.ts?without-segmenter";
      const { chunkText } = await import(path);
      const chunk = chunkText({ maxChars: 7, overlap: 0 });
      assertEquals(chunk("🙂".repeat(5)), ["🙂".repeat(3), "🙂".repeat(2)]);
      assertEquals(chunk("e\u0301\u0323".repeat(3)), ["e\u0301\u0323".repeat(2), "e\u0301\u0323"]);
      assertEquals(chunk("a👍🏽b👩‍👩"), ["a👍🏽b", "👩‍👩"]);
      const overlapping = chunkText({ maxChars: 8, overlap: 3 });
      assertEquals(overlapping("🙂".repeat(6)), ["🙂".repeat(4), "🙂".repeat(3)]);
    } finally {
      Object.defineProperty(Intl, "Segmenter", {
        value: Segmenter,
        configurable: true,
        writable: true,
      });
    }
  });

  test("is called after its version and options, which fingerprints hold", () => {
    assertEquals(chunkText().name, "chunkText@1(2000,200)");
    assertEquals(chunkText({ maxChars: 50 }).name, "chunkText@1(50,5)");
    assertEquals(chunkText({ maxChars: 9000, overlap: 0 }).name, "chunkText@1(9000,0)");
  });

  test("refuses an overlap that leaves no room, and sizes that are none", () => {
    for (
      const options of [
        { maxChars: 100, overlap: 100 },
        { maxChars: 100, overlap: -1 },
        { overlap: 1.5 },
        { overlap: NaN },
        { maxChars: 1 },
        { maxChars: Infinity },
      ]
    ) {
      const error = assertThrows(() => chunkText(options), EmbedError);
      assertEquals(error.kind, "embed-options");
    }
  });

  test("loses nothing of any text, keeps to the size, and cuts no character", () => {
    const seed = Number(process.env.PGSTREAM_SEED ?? Math.floor(Math.random() * 2 ** 32));
    const random = seededRandom(seed);
    const pieces = [
      ...["a", "word", "é", "e\u0301", "\u0301", "\u0323\u0301", " ", "  ", "\n", "\n\n", "\r\n"],
      ...[
        ". ",
        "! ",
        '." ',
        "。",
        "你好",
        "🙂",
        "👍🏽",
        "👨‍👩‍👧",
        "🇩🇪",
        "🇫🇷",
        "\u200d",
        "\u00a0",
        "क्षि",
        "한",
        "ᄒ",
      ],
      ...["longwordwithoutanyspaceinit", "\0", "\ufe0f", "١؟ "],
    ];
    for (let round = 0; round < 1500; round++) {
      let text = "";
      const length = Math.floor(random() ** 2 * 120);
      const kinds = 1 + Math.floor(random() * pieces.length);
      const first = Math.floor(random() * pieces.length);
      for (let n = 0; n < length; n++) {
        text += pieces[(first + Math.floor(random() * kinds)) % pieces.length];
      }
      const maxChars = 2 + Math.floor(random() ** 2 * 60);
      const overlap = Math.floor(random() * maxChars);
      const told = `seed ${seed}, round ${round}: ${JSON.stringify({ text, maxChars, overlap })}`;

      const ranges = chunkRanges(text, maxChars, overlap);
      const chunks = chunkText({ maxChars, overlap })(text);
      assertEquals(chunks, ranges.map(([start, end]) => text.slice(start, end)), told);
      const starts = characterStarts(text);
      let covered = 0;
      let whole = "";
      let lastStart = -1;
      for (const [start, end] of ranges) {
        assert(start > lastStart && end > covered, told);
        assert(start <= covered && covered - start <= overlap, told);
        assert(end - start <= maxChars, told);
        for (const at of [start, end]) {
          assert(!/^[\udc00-\udfff]/.test(text.slice(at)) || at === 0, told);
          // Only what does not fit into any chunk is cut.
          if (!starts.has(at)) assert(longestAround(starts, at) > maxChars, `${at}, ${told}`);
        }
        whole += text.slice(covered, end);
        covered = end;
        lastStart = start;
      }
      assertEquals(whole, text, told);
    }
  });

  test("takes time that grows as the text does", () => {
    const texts = {
      "one word": "x".repeat(10_000_000),
      emoji: "👍🏽".repeat(500_000),
      marks: "\u0301".repeat(1_000_000),
      spaces: " ".repeat(10_000_000),
      newlines: "\n".repeat(5_000_000),
      words: "some words. And more\n\n".repeat(200_000),
    };
    for (const [what, text] of Object.entries(texts)) {
      const startedAt = performance.now();
      const chunks = chunkText()(text);
      const ms = performance.now() - startedAt;
      assert(chunks.length >= text.length / 2000);
      assert(ms < 5000, `${what}: ${Math.round(ms)} ms`);
      if (process.env.PGSTREAM_SHOW) console.log(what, Math.round(ms));
    }
  });
});

function longestAround(starts: Set<number>, at: number): number {
  let start = at;
  let end = at;
  while (!starts.has(start)) start--;
  while (!starts.has(end)) end++;
  return end - start;
}
