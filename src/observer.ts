/** Who is told of a stream's work while it does it: for metrics and traces. */

/** What takes time: a call of the handlers, a call of an embedder, a write into a store. */
export interface Work {
  /** `batch`: events are handled; `embed`: texts become vectors; `sink`: points are written and removed. */
  kind: "batch" | "embed" | "sink";
  /** The table, `schema.table`, where it is for one. */
  table?: string;
  /** How many events, texts, or points. */
  size: number;
}

/** What a stream did. */
export type Incident = "retry" | "reconnect";

/**
 * Is told by a stream what it does, as it does it. Every member is optional. What one throws is logged, and the
 * work goes on, but for `observe`, which does the work.
 */
export interface StreamObserver {
  /**
   * Called in place of the work: it must call `run` once, and return what that returns, or reject as it does.
   * What runs inside may be observed itself, as embedding is within a batch.
   */
  observe?<T>(work: Work, run: () => Promise<T>): Promise<T>;
  /** An event was handled, or given up. Called for each of them: it should be quick. */
  settled?(
    event: { schema: string; table: string; operation: string },
    skipped: boolean,
  ): void;
  /** Something was done that should not be done often. */
  happened?(incident: Incident): void;
}
