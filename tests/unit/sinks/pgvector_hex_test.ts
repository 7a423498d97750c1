import { test } from "node:test";
import { assertEquals } from "@std/assert";
import { formatHexVector } from "../../../src/sinks/pgvector_hex.ts";

/** What C's strtof makes of each number. */
function read(text: string): number[] {
  return text.replace(/^ \[(.*)\]$/, "$1").split(",").map((number) => {
    const [, sign, digits, exponent] = /^ ?(-?)0x([0-9a-f]+)p([-+]?\d+)$/.exec(number) ??
      [, "", number === "0" ? "0" : "none", "0"];
    return (sign === "-" ? -1 : 1) * parseInt(digits!, 16) * 2 ** Number(exponent);
  });
}

test("numbers are written with their own digits, and those of few bits with two", () => {
  assertEquals(
    formatHexVector(Float32Array.of(1, -1, 0.5, 0, -0, 255, 0.1)),
    " [ 0x80p-07,-0x80p-07, 0x80p-08,0,0, 0xffp+00, 0xcccccdp-27]",
  );
});

test("the least, the greatest and all in between are written exactly", () => {
  const ends = [2 ** -149, 2 ** -126, 2 ** -126 - 2 ** -149, (2 - 2 ** -23) * 2 ** 127];
  assertEquals(read(formatHexVector(ends)), ends);
  assertEquals(
    read(formatHexVector(ends.map((number) => -number))),
    ends.map((number) => -number),
  );
  const aroundFew = [0x8000ffff, 0x10000, 0xffff, 0xff0000].flatMap((fraction) =>
    [0, 1, 34, 35, 50, 51, 52, 133, 134, 135, 150, 232, 233, 249, 250, 254].map((biased) => {
      const float = fraction & 0x807fffff | biased << 23;
      return new Float32Array(Uint32Array.of(float).buffer)[0]!;
    })
  );
  assertEquals(read(formatHexVector(aroundFew)), aroundFew);
  const bits = new Uint32Array(20_000);
  let state = 1;
  for (let index = 0; index < bits.length; index++) {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    bits[index] = state;
  }
  const floats = new Float32Array(bits.buffer).filter(Number.isFinite);
  assertEquals(read(formatHexVector(floats)), [...floats]);
});

test("a part of a larger array, and numbers that are no floats", () => {
  const all = Float32Array.of(1, 2, 3, 4);
  assertEquals(read(formatHexVector(all.subarray(1, 3))), [2, 3]);
  const doubles = [0.1, -1e-60, 1 / 3, 16777217];
  assertEquals(
    read(formatHexVector(doubles)),
    [...Float32Array.from(doubles, (n) => n || 0)].map(
      (number) => number || 0,
    ),
  );
});
