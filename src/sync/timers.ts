/** Time, as it can be passed in. */

/** A clock and its timers. */
export interface Timers {
  /** Milliseconds since a moment that does not change. */
  now(): number;
  /** Calls back once, after so many milliseconds. */
  setTimeout(callback: () => void, ms: number): unknown;
  /** Does not call back. */
  clearTimeout(timer: unknown): void;
}

/** The runtime's own; the clock is one that is never set. */
export const systemTimers: Timers = {
  now: () => performance.now(),
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  clearTimeout: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
};
