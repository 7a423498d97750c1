import { assert, assertEquals, assertLess, assertStrictEquals } from "@std/assert";
import { test } from "node:test";
import { Backlog } from "../../../src/wire/backlog.ts";
import { seededRandom } from "../../support/random.ts";

const atHand = ({ bytes, start, end }: Backlog) => bytes.slice(start, end);

/** A run of `length` bytes in the middle of others. */
function span(length: number, value: number) {
  const bytes = new Uint8Array(length + 20);
  bytes.fill(value, 10, 10 + length);
  return { bytes, start: 10, end: 10 + length };
}

test("gives back what was put in, in order, whatever the lengths, and counts what waits", () => {
  const random = seededRandom(7);
  const backlog = new Backlog();
  const expected: [length: number, value: number][] = [];
  let waiting = 0;
  let next = 0;
  for (let step = 0; step < 20_000; step++) {
    if (random() < 0.5 + 0.3 * Math.sin(step / 1000)) {
      const longest = random() < 0.02 ? 600_000 : random() < 0.1 ? 5000 : 300;
      const length = Math.floor(random() * longest);
      backlog.push(span(length, step % 256));
      expected.push([length, step % 256]);
      waiting += length + 4;
    } else if (next === expected.length) {
      assert(!backlog.advance());
      assertEquals(atHand(backlog).length, 0);
    } else {
      const [length, value] = expected[next++]!;
      assert(backlog.advance());
      const bytes = atHand(backlog);
      assert(bytes.length === length && bytes.every((byte) => byte === value), `step ${step}`);
      waiting -= length + 4;
    }
    assertStrictEquals(backlog.waitingBytes, waiting);
  }
});

test("copies what it is given, and leaves the entry at hand as it is while others come", () => {
  const backlog = new Backlog();
  const borrowed = span(5, 1);
  backlog.push(borrowed);
  borrowed.bytes.fill(9);
  assert(backlog.advance());
  for (let times = 0; times < 10_000; times++) backlog.push(span(100, 2));
  assertEquals(atHand(backlog), new Uint8Array(5).fill(1));
});

test("uses its memory again: what passes through does not add up", () => {
  const backlog = new Backlog();
  const buffers = new Set<ArrayBufferLike>();
  for (let round = 0; round < 100; round++) {
    for (let times = 0; times < 10_000; times++) backlog.push(span(96, round));
    while (backlog.advance()) buffers.add(backlog.bytes.buffer);
  }
  // A million bytes at a time, a hundred times.
  assertLess(buffers.size, 8);
});
