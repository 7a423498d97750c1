import process from "node:process";
import { describe, test } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { readCopyRow, splitCopyRow } from "../../../src/values/copy_text.ts";
import { writeCopyRow } from "../../support/copy_row.ts";
import { seededRandom } from "../../support/random.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const split = (line: string): (string | null)[] => splitCopyRow(bytes(`${line}\n`));

function read(payload: Uint8Array, columns: readonly string[]): Record<string, string | null> {
  const row = {};
  readCopyRow(row, columns, payload, 0, payload.length);
  return row;
}

describe("a row of COPY", () => {
  test("without escapes is split at its tabs", () => {
    assertEquals(split("1\tÜnï 🐘\t"), ["1", "Ünï 🐘", ""]);
    assertEquals(split("\ufeffone"), ["\ufeffone"]);
  });

  test("tells NULL from the empty text, and both from the text \\N", () => {
    assertEquals(split("\\N\t\t\\\\N\ta\\\\N\t\\N"), [null, "", "\\N", "a\\N", null]);
    assertEquals(split(""), [""]);
    assertEquals(split("\\N"), [null]);
  });

  test("has every escape of the manual undone", () => {
    assertEquals(split("\\b\\f\\n\\r\\t\\v\\\\"), ["\b\f\n\r\t\v\\"]);
  });

  test("of a whole alphabet of trouble reads back as it was written", () => {
    const seed = Date.now() >>> 0;
    const next = seededRandom(seed);
    const random = (below: number) => Math.floor(next() * below);
    const alphabet = ["\\", "\t", "\n", "\r", "\b", "\f", "\v", "N", "n", "x41", "101", ".", "é"];
    alphabet.push("🐘", "\u0001", "\ufffd", "\ufeff", "a", "");
    for (let round = 0; round < 5000; round++) {
      const row = Array.from(
        { length: 1 + random(6) },
        () =>
          random(8) === 0
            ? null
            : Array.from({ length: random(6) }, () => alphabet[random(alphabet.length)]!).join(""),
      );
      const written = writeCopyRow(row);
      assertEquals(splitCopyRow(written), row, `seed ${seed}, round ${round}`);
      const columns = row.map((_, column) => `c${column}`);
      assertEquals(Object.values(read(written, columns)), row, `seed ${seed}, round ${round}`);
    }
  });

  test("has a value for each column, or is refused", () => {
    assertEquals(read(bytes("\n"), []), {});
    assertEquals(read(bytes("\n"), ["a"]), { a: "" });
    for (const line of ["", "secret", "secret\tb\tc", "secret\\tb"]) {
      const error = assertThrows(() => read(bytes(`${line}\n`), ["a", "b"]), RangeError);
      assert(!error.message.includes("secret"), error.message);
    }
    for (const line of ["secret", "\t"]) {
      assertThrows(() => read(bytes(`${line}\n`), []), RangeError);
    }
  });

  test("is read out of the middle of a larger chunk, which stays as it is", () => {
    const chunk = bytes("x\n1\t\\N\ny");
    const before = chunk.slice();
    assertEquals(splitCopyRow(chunk.subarray(2, 7)), ["1", null]);
    assertEquals(chunk, before);
  });

  test("may write bytes as numbers, together UTF-8", () => {
    assertEquals(split("\\101\\x42\\x4x\\7z"), ["AB\u0004x\u0007z"]);
    assertEquals(split("\\303\\251\t\\xc3\\xA9"), ["é", "é"]);
    assertEquals(split("é\\n\\x41🐘\\q\\🐘"), ["é\nA🐘q🐘"]);
    assertEquals(split("\\xg\\9"), ["xg9"]);
    // More than a byte holds: the manual's own server keeps the low eight bits.
    assertEquals(split("\\501"), ["A"]);
  });

  test("that is none is refused, and its values are not repeated", () => {
    const wrong = [
      "",
      "secret",
      "secret\nsecret\n",
      "secret\rsecret\n",
      "secret\0\n",
      "secret\\\n",
      "\\\tsecret\n",
      "secret\\000\n",
      "secret\\x0\n",
      "secret\\303\n",
      "\\.\n",
    ];
    for (const payload of wrong) {
      for (const attempt of [splitCopyRow, (payload: Uint8Array) => read(payload, ["a"])]) {
        const error = assertThrows(() => attempt(bytes(payload)), RangeError);
        assert(!error.message.includes("secret"), error.message);
      }
    }
    assertThrows(() => splitCopyRow(Uint8Array.of(0xc3, 0x0a)), RangeError);
    assertThrows(() => splitCopyRow(Uint8Array.of(0x5c, 0xff, 0x0a)), RangeError);
    assertThrows(() => splitCopyRow(Uint8Array.of(0xed, 0xa0, 0x80, 0x0a)), RangeError);
  });

  test("of eight megabytes, one of them written as a number, is read in less than a second", () => {
    const long = bytes(`\\101${"x".repeat(8 << 20)}\n`);
    const before = process.cpuUsage();
    assertEquals(splitCopyRow(long)[0]!.length, 1 + (8 << 20));
    const { user, system } = process.cpuUsage(before);
    assert(user + system < 1_000_000, `${user + system} µs of CPU`);
  });

  test("of any bytes gives values or a RangeError, nothing else", () => {
    let state = 1;
    for (let round = 0; round < 20_000; round++) {
      const payload = Uint8Array.from({ length: round % 12 }, () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return [
          0x5c,
          0x09,
          0x0a,
          0x4e,
          0x78,
          0x30,
          0x37,
          0xc3,
          0xa9,
          state >>> 24,
        ][state >>> 16 & 7]!;
      });
      try {
        assert(splitCopyRow(payload).length > 0);
      } catch (error) {
        assert(error instanceof RangeError, `${error}`);
      }
    }
  });
});
