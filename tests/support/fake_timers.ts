/** Time that passes when it is told to, and at once. */

import { setImmediate } from "node:timers";
import type { Timers } from "../../src/sync/timers.ts";

interface Timer {
  dueMs: number;
  callback: () => void;
}

/** Timers of a test. */
export class FakeTimers implements Timers {
  #nowMs = 0;
  readonly #timers = new Set<Timer>();

  now = (): number => this.#nowMs;

  setTimeout = (callback: () => void, ms: number): unknown => {
    const timer = { dueMs: this.#nowMs + Math.max(0, ms), callback };
    this.#timers.add(timer);
    return timer;
  };

  clearTimeout = (timer: unknown): void => {
    this.#timers.delete(timer as Timer);
  };

  /** How many have not called back yet. */
  get pending(): number {
    return this.#timers.size;
  }

  /** A promise that is resolved when so much time has passed. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.setTimeout(resolve, ms));
  }

  /** Lets time pass, from timer to timer, until there is none any more, or for so long. */
  async run(forMs = Infinity): Promise<void> {
    const endMs = this.#nowMs + forMs;
    for (;;) {
      // What was resolved goes on first.
      await new Promise((resolve) => setImmediate(resolve));
      let next: Timer | undefined;
      for (const timer of this.#timers) {
        if (timer.dueMs <= endMs && (next === undefined || timer.dueMs < next.dueMs)) next = timer;
      }
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.callback();
    }
    if (endMs < Infinity) this.#nowMs = endMs;
  }
}
