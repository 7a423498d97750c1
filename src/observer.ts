/** Who is told of a stream's work while it does it: for metrics and traces. */

/** What takes time: a call of a handler, a call of an embedder, a write into a store. */
export interface Work {
  /**
   * `batch`: a handler is called, of which `sync` is one; `embed`: texts become vectors; `sink`: `sync` writes rows into
   * a store. The last two happen within a `batch`.
   */
  kind: "batch" | "embed" | "sink";
  /** How many events, texts, or rows. */
  size: number;
}

/** Does a piece of work in place of the stream. */
export type Observe = <T>(work: Work, run: () => Promise<T>) => Promise<T>;

/**
 * Is told by a stream what it does, as it does it; it must not throw. How far a stream is, and what it has counted, is
 * in `stream.status()`.
 */
export interface StreamObserver {
  /**
   * Called for each piece of work: it calls `run` once and returns what that returns, or rejects as that does. What
   * it does otherwise is as if the handler, the embedder or the store did it. A handler that returns nothing is waited
   * for then, which costs some microtasks.
   */
  observe?: Observe;
  /** An event was handled, or given up. Called for each of them: it should be quick. */
  settled?(
    event: {
      readonly schema: string;
      readonly table: string;
      readonly operation: "insert" | "update" | "delete" | "truncate";
    },
    skipped: boolean,
  ): void;
}
