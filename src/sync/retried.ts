/** Calls of a store, or a source, that are made again where they fail by what may pass. */

import { backoffMs, type RetryLimits } from "../backoff.ts";
import { isRetryable, type PgStreamError } from "../errors.ts";

/** How calls are made again. */
export interface RetriedOptions {
  /** Null: what fails once fails. */
  retry: RetryLimits | null;
  /** Resolves after so many milliseconds, or when the signal is aborted. */
  pause: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Ends it: calls reject with its reason. */
  signal: AbortSignal;
}

/** The object with these of its methods, as far as it has them, each of which is tried again. */
export function retried<T extends object, K extends keyof T>(
  target: T,
  methods: readonly K[],
  options: RetriedOptions,
): Pick<T, K> {
  const made = {} as Pick<T, K>;
  for (const name of methods) {
    const method = target[name] as ((...given: unknown[]) => Promise<unknown>) | undefined;
    if (method === undefined) continue;
    const again = (...given: unknown[]) => trying(() => method.apply(target, given), options);
    made[name] = again as T[K];
  }
  return made;
}

async function trying<T>(
  work: () => Promise<T>,
  { retry, pause, signal }: RetriedOptions,
): Promise<T> {
  for (let failures = 1;; failures++) {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      if (retry === null || failures > retry.attempts || !mayPass(error)) throw error;
      await pause(backoffMs(failures, retry), signal);
    }
  }
}

function mayPass(error: unknown): boolean {
  // What was read by then was read in another order.
  return isRetryable(error) && (error as PgStreamError).kind !== "key-changed";
}
