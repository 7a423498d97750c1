/** When a slot is lost, if nobody reads it on. */

/** What a slot kept at a time. */
export interface SlotReading {
  /** Milliseconds of any clock that is never set. */
  atMs: number;
  /** As `SlotStatus` has them. */
  retainedWalBytes: number | null;
  /** As `SlotStatus` has it. */
  safeWalBytes: number | null;
}

/**
 * Seconds until the server gives the slot up, at the rate between two readings.
 *
 * @returns null where nobody can tell: there is no limit, no time between, or it keeps no more than before
 */
export function secondsUntilLost(earlier: SlotReading, later: SlotReading): number | null {
  if (later.safeWalBytes === null) return null;
  if (later.retainedWalBytes === null || earlier.retainedWalBytes === null) return null;
  const grown = later.retainedWalBytes - earlier.retainedWalBytes;
  const seconds = (later.atMs - earlier.atMs) / 1000;
  if (grown <= 0 || seconds <= 0) return null;
  return later.safeWalBytes / (grown / seconds);
}
