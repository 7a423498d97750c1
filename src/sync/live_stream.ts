/** What comparing and mending a store needs of the stream that fills it. */

import type { Lsn } from "../lsn.ts";

/** A server, while a stream comes from it. */
export interface LiveServer {
  /** As IDENTIFY_SYSTEM has it. */
  readonly systemId: string;
  readonly timeline: number;
  /** `pg_postmaster_start_time()` as text. */
  readonly startedAt: string;
}

/** A stream that runs. */
export interface LiveStream {
  /** Where it comes from now; null while it has no connection. */
  readonly server: LiveServer | null;
  /**
   * Resolves when all of the table is handled that was committed before this position, and no initial backfill
   * of it is under way.
   *
   * @throws `signal.reason`; what ended the stream, or `not-running`, where it does not run any more
   */
  caughtUp(lsn: Lsn, signal: AbortSignal): Promise<void>;
  /** Hands out the rows of these keys anew, as `backfill()` does; resolves when they are handled. @throws as it does */
  rewrite(keys: readonly string[], signal: AbortSignal): Promise<void>;
  /**
   * Calls back once all that was queued is handled, and before anything behind it is begun; what comes next waits
   * until the call has settled.
   *
   * @throws what the call throws; else as `caughtUp`
   */
  atBarrier(call: () => Promise<void>, signal: AbortSignal): Promise<void>;
}
