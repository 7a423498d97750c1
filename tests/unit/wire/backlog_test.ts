import { assert, assertEquals, assertLess, assertStrictEquals } from "@std/assert";
import { test } from "node:test";
import { Backlog, type Block } from "../../../src/wire/backlog.ts";
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
      waiting += length + 5;
    } else if (next === expected.length) {
      assert(!backlog.advance());
      assertEquals(atHand(backlog).length, 0);
    } else {
      const [length, value] = expected[next++]!;
      assert(backlog.advance());
      const bytes = atHand(backlog);
      assert(bytes.length === length && bytes.every((byte) => byte === value), `step ${step}`);
      waiting -= length + 5;
    }
    assertStrictEquals(backlog.waitingBytes, waiting);
  }
});

test("gives back messages that came in one chunk one by one, in whatever mixture with others", () => {
  const random = seededRandom(11);
  const backlog = new Backlog();
  for (let round = 0; round < 200; round++) {
    const lengths = Array.from({ length: 1 + round % 50 }, () => Math.floor(random() * 3000));
    const chunk = new Uint8Array(lengths.reduce((sum, length) => sum + 5 + length, 0));
    const expected: Uint8Array[] = [];
    let end = 0;
    for (const [index, length] of lengths.entries()) {
      new DataView(chunk.buffer).setInt32(end + 1, length + 4);
      const start = end + 5;
      end = start + length;
      chunk.fill(index, start, end);
      // One that is left out, as notices are, or was not whole before the next chunk, parts them.
      if (random() < 0.1) continue;
      const apart = random() < 0.1;
      backlog.push(
        apart
          ? { bytes: chunk.slice(start, end), start: 0, end: length }
          : { bytes: chunk, start, end },
      );
      expected.push(chunk.slice(start, end));
    }
    for (const bytes of expected) {
      assert(backlog.advance());
      assertEquals(atHand(backlog), bytes);
    }
    assert(!backlog.advance());
    assertStrictEquals(backlog.waitingBytes, 0);
  }
});

test("leaves the entry at hand as it is while others come", () => {
  const backlog = new Backlog();
  backlog.push(span(5, 1));
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

test("hands its memory on to the one after it", () => {
  const spare: Block[] = [];
  const buffers = new Set<ArrayBufferLike>();
  for (let round = 0; round < 100; round++) {
    const backlog = new Backlog(spare);
    for (let times = 0; times < 10_000; times++) backlog.push(span(96, round));
    while (backlog.advance()) buffers.add(backlog.bytes.buffer);
  }
  assertLess(buffers.size, 8);
});
