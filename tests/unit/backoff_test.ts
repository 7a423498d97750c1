import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertLess,
  assertLessOrEqual,
} from "@std/assert";
import { describe, test } from "node:test";
import { backoffMs, pause } from "../../src/backoff.ts";
import { seededRandom } from "../support/random.ts";

const LIMITS = { minDelayMs: 100, maxDelayMs: 1000 };
const almostOne = 1 - Number.EPSILON;

describe("the wait before the next try", () => {
  test("doubles with each failure up to its limit, of which chance leaves at least a half", () => {
    const longest = [100, 200, 400, 800, 1000, 1000, 1000];
    longest.forEach((ms, i) => {
      assertEquals(backoffMs(i + 1, LIMITS, () => 0), ms / 2);
      assertLessOrEqual(backoffMs(i + 1, LIMITS, () => almostOne), ms);
      assertGreaterOrEqual(backoffMs(i + 1, LIMITS, () => almostOne), ms * 0.999);
    });
  });

  test("differs between those who failed together", () => {
    const random = seededRandom(1);
    const waits = new Set(Array.from({ length: 100 }, () => backoffMs(3, LIMITS, random)));
    assertEquals(waits.size, 100);
    assert(backoffMs(3, LIMITS) !== backoffMs(3, LIMITS), "without a source of chance, too");
  });

  test("is a number within its limits after any number of failures", () => {
    const limits = [
      LIMITS,
      { minDelayMs: 0, maxDelayMs: 0 },
      { minDelayMs: 0, maxDelayMs: 5000 },
      { minDelayMs: 5, maxDelayMs: 5 },
      { minDelayMs: 0.1, maxDelayMs: Number.MAX_VALUE },
    ];
    for (const { minDelayMs, maxDelayMs } of limits) {
      for (const failures of [1, 2, 31, 32, 53, 64, 1023, 1024, 1025, 2000, 1e9, Infinity]) {
        for (const chance of [0, 0.5, almostOne]) {
          const ms = backoffMs(failures, { minDelayMs, maxDelayMs }, () => chance);
          const what = `${ms} after ${failures}, from ${minDelayMs} to ${maxDelayMs}`;
          assert(Number.isFinite(ms) && ms >= minDelayMs / 2 && ms <= maxDelayMs, what);
        }
      }
    }
  });
});

describe("a pause", () => {
  const never = new AbortController().signal;

  test("takes as long as it says", async () => {
    const began = performance.now();
    await pause(30, never);
    assertGreaterOrEqual(performance.now() - began, 28);
  });

  test("ends as soon as the signal is aborted, and never rejects", async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("no")), 5);
    const began = performance.now();
    await pause(3_600_000, controller.signal);
    assertLess(performance.now() - began, 60_000);
    await pause(3_600_000, controller.signal);
    assertLess(performance.now() - began, 60_000);
  });

  test("longer than a timer can be is not cut short", async () => {
    for (const ms of [2 ** 31, 1e12, Infinity]) {
      const controller = new AbortController();
      let over = false;
      const pausing = pause(ms, controller.signal).then(() => over = true);
      await pause(20, never);
      assertEquals(over, false, `${ms}`);
      controller.abort();
      await pausing;
    }
  });

  test("leaves no listener behind", async () => {
    const listeners = new Set<unknown>();
    const watched = {
      aborted: false,
      addEventListener: (_type: string, listener: unknown) => listeners.add(listener),
      removeEventListener: (_type: string, listener: unknown) => listeners.delete(listener),
    } as unknown as AbortSignal;
    for (let i = 0; i < 10; i++) await pause(0, watched);
    assertEquals(listeners.size, 0);
  });
});
