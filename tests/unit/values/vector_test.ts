import { describe, test } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  formatSparseVector,
  formatVector,
  parseSparseVector,
  parseVector,
  vectorFault,
} from "../../../src/values/vector.ts";

describe("vector text", () => {
  test("an array is written as JavaScript prints its numbers", () => {
    assertEquals(formatVector([1, -2.5, 1e-7, 0.1]), "[1,-2.5,1e-7,0.1]");
  });

  test("a Float32Array is written with no more digits than it needs", () => {
    assertEquals(formatVector(Float32Array.of(0.1, 1, -2.5, 1e-7)), "[0.1,1,-2.5,1e-7]");
  });

  test("every kind of 32-bit float reads back to the same bits", () => {
    const seed = Date.now() >>> 0;
    const random = mulberry32(seed);
    const bits = Uint32Array.from({ length: 20_000 }, () => random() * 2 ** 32);
    const floats = new Float32Array(bits.buffer).map((value) => Number.isFinite(value) ? value : 0);
    const edges = Float32Array.of(0, 2 ** -149, -(2 ** -126), 3.4028234663852886e38, 2 ** 24 + 2);
    for (const vector of [floats, edges]) {
      assertEquals(parseVector(formatVector(vector)), vector, `seed ${seed}`);
    }
  });

  test("no 32-bit float is written with a digit that it does not need beyond seven", () => {
    const seed = Date.now() >>> 0;
    const random = mulberry32(seed);
    const floats = Float32Array.from(
      { length: 20_000 },
      () => (random() - 0.5) * 10 ** (random() * 40 - 20),
    );
    const written: number[] = JSON.parse(formatVector(floats));
    for (const [at, float] of floats.entries()) {
      const least = [7, 8, 9].map((digits) => Number(float.toPrecision(digits)))
        .find((value) => Math.fround(value) === float)!;
      assertEquals(Math.fround(written[at]!), float, `seed ${seed}`);
      // Of two that are as near, either may be taken.
      const isNoLonger = String(written[at]).length <= String(least).length;
      assert(isNoLonger, `${written[at]} for ${least}, seed ${seed}`);
    }
  });

  test("what pgvector prints is read, whatever blanks and exponents are in it", () => {
    assertEquals(parseVector("[1,2.5,-3e-05]"), Float32Array.of(1, 2.5, -3e-5));
    assertEquals(parseVector(" [ 1 , 2 ] "), Float32Array.of(1, 2));
  });

  test("a sparse vector's indices are from 0, and in its text from 1", () => {
    assertEquals(parseSparseVector("{1:1.5,3:-2e-05}/5"), {
      dimensions: 5,
      indices: [0, 2],
      values: [1.5, -2e-5],
    });
    assertEquals(parseSparseVector("{}/3"), { dimensions: 3, indices: [], values: [] });
    for (const text of ["", "{}", "{1}/2", "{1:}/2", "{a:1}/2", "{1:x}/2", "{1:1}/", "[1,2]"]) {
      assertThrows(() => parseSparseVector(text), RangeError);
    }
  });

  test("a sparse vector is written without what is 0, as a 32-bit float", () => {
    assertEquals(formatSparseVector([1.5, 0, -2e-5, -0, 1e-60]), "{1:1.5,3:-0.00002}/5");
    assertEquals(formatSparseVector(Float32Array.of(0, 0.1)), "{2:0.1}/2");
    assertEquals(formatSparseVector([0, 0]), "{}/2");
    assertThrows(() => formatSparseVector([1, NaN]), RangeError);
  });

  test("what is no vector is refused, and not repeated", () => {
    for (
      const text of [
        "",
        "[]",
        "1,2",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[secret]",
        "[NaN]",
        "{1,2}",
        "[1e39]",
      ]
    ) {
      const error = assertThrows(() => parseVector(text), RangeError);
      assertEquals(error.message.includes("secret"), false);
    }
  });

  test("an element that no 32-bit float holds is named by its place", () => {
    assertEquals(vectorFault([1, 2]), null);
    assertEquals(vectorFault([1, NaN]), "element 1 (of 2, from 0) is not a finite 32-bit float");
    assertEquals(vectorFault([-1e39]), "element 0 (of 1, from 0) is not a finite 32-bit float");
    assertEquals(vectorFault([]), "it is empty");
    // deno-lint-ignore no-explicit-any -- what callers without types do
    const untyped: any[] = [["1"], [null], new Array(2)];
    for (const vector of untyped) {
      assertEquals(
        vectorFault(vector),
        `element 0 (of ${vector.length}, from 0) is not a finite 32-bit float`,
      );
    }
    assertThrows(() => formatVector([NaN]), RangeError, "element 0");
  });
});

function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
