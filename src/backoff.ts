/** How long to wait before something is tried again. */

/** The longest that a timer of JavaScript can wait: what is set for longer fires at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The bounds of a wait, in milliseconds. */
export interface BackoffLimits {
  /** What the first wait is at most. */
  minDelayMs: number;
  /** What no wait goes beyond. */
  maxDelayMs: number;
}

/** How something that fails is tried again. */
export interface RetryLimits extends BackoffLimits {
  /** How often; who uses it says whether the first time counts. */
  attempts: number;
}

/**
 * A wait that doubles with each failure. A random half of it is left out, so that those who failed
 * together do not come back together.
 *
 * @param failures in a row, from 1
 * @param random from 0 to below 1
 * @returns milliseconds
 */
export function backoffMs(
  failures: number,
  { minDelayMs, maxDelayMs }: BackoffLimits,
  random: () => number = Math.random,
): number {
  // Beyond that many doublings any wait is the longest, and 0 times infinity is no number.
  const longest = Math.min(maxDelayMs, minDelayMs * 2 ** Math.min(failures - 1, 50));
  return longest / 2 + random() * longest / 2;
}

/** Resolves after so many milliseconds, or as soon as the signal is aborted; never rejects. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, Math.min(ms, LONGEST_TIMER_MS));
    signal.addEventListener("abort", end);
  });
}

/** Resolves in another turn of the event loop: what waits for a socket or a timer goes first. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
