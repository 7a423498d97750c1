import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { shortNumbers } from "../../../src/sinks/qdrant_numbers.ts";

test("numbers have few digits, and are the same floats when they are read", () => {
  assertEquals(
    JSON.stringify(shortNumbers(Float32Array.of(0.1, -0.3, 1, 0, -0, 123.456, 1e9, 2 ** -149))),
    "[0.100000001,-0.300000012,1,0,0,123.456001,1000000000,1.401298464324817e-45]",
  );
  const bits = new Uint32Array(200_000);
  let state = 1;
  for (let index = 0; index < bits.length; index++) {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    bits[index] = state;
  }
  const floats = new Float32Array(bits.buffer).filter(Number.isFinite);
  assertEquals(Float32Array.from(JSON.parse(JSON.stringify(shortNumbers(floats)))), floats);
  // As models give them.
  const usual = floats.filter((float) => Math.abs(float) > 1e-4 && Math.abs(float) < 1);
  assert(usual.length > 1000);
  for (const number of shortNumbers(usual)) {
    assert(`${Math.abs(number)}`.replace(/^0\.0*/, "").length <= 9, `${number}`);
  }
});

test("a part of a larger array is that part", () => {
  assertEquals(shortNumbers(Float32Array.of(1, 0.2, 0.3, 4).subarray(1, 3)), [
    0.200000003,
    0.300000012,
  ]);
});
