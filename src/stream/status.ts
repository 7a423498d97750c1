/** What a stream tells of itself. LSNs are strings: a report survives `JSON.stringify`. */

/** How a stream is doing. */
export interface StreamStatus {
  /** `failed`: `start()` was rejected, and `lastError` says why. */
  state: "idle" | "connecting" | "streaming" | "reconnecting" | "stopping" | "stopped" | "failed";
  /** The last position that was received. */
  receivedLsn: string;
  /** Everything before this is handled, and confirmed or about to be. */
  confirmedLsn: string;
  /** WAL between the two, in bytes. */
  lagBytes: number;
  /** Bytes that wait for the handler or are in its hands. */
  queueBytes: number;
  /** Transactions with events that were handled. */
  transactions: number;
  /** Events that were handled. */
  events: Record<"insert" | "update" | "delete" | "truncate", number>;
  /** How often a handler was called again for the same events. */
  retries: number;
  /** Events that were given up. */
  skipped: number;
  /** How often the connection was remade. */
  reconnects: number;
  /** What made the stream fail last. */
  lastError: string | null;
}

/** What `catchUp()` did. */
export interface CatchUpReport {
  /** Events that were handled. */
  events: number;
  /** Transactions with events that were handled. */
  transactions: number;
  /** The position up to which everything was handled. */
  lsn: string;
}

/** The status of a stream that was never started. */
export function emptyStatus(): StreamStatus {
  return {
    /** `failed`: `start()` was rejected, and `lastError` says why. */
    state: "idle",
    receivedLsn: "0/0",
    confirmedLsn: "0/0",
    lagBytes: 0,
    queueBytes: 0,
    transactions: 0,
    events: { insert: 0, update: 0, delete: 0, truncate: 0 },
    retries: 0,
    skipped: 0,
    reconnects: 0,
    lastError: null,
  };
}
