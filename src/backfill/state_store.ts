/** Where the progress of a backfill is kept between runs: the contract, and a store in memory. */

/**
 * Keeps texts by key. Any key-value store will do.
 *
 * The stream calls `get` for each table before its first rows, and `set` each time that rows were
 * handled: one call at a time, so that no two writers of a key meet. Keys are short lines of text
 * that name the stream and the table; values are JSON text of up to some kB, and hold values of the
 * primary key. What a method throws ends the run; where it is a `PgStreamError` with `retryable`, it
 * is tried again.
 *
 * @example
 * ```ts
 * class MapStateStore implements StateStore {
 *   readonly #values = new Map<string, string>();
 *   get(key: string) {
 *     return Promise.resolve(this.#values.get(key) ?? null);
 *   }
 *   async set(key: string, value: string) {
 *     this.#values.set(key, value);
 *     await writeSomewhereSafe(this.#values);
 *   }
 * }
 *
 * declare function writeSomewhereSafe(values: Map<string, string>): Promise<void>;
 * ```
 */
export interface StateStore {
  /** What was last set under the key; null where nothing was. */
  get(key: string): Promise<string | null>;
  /**
   * Puts a value in place of the key's last one. Atomic: whenever the process dies, `get` gives the
   * old value or the new one, whole. Durable: when it resolves, the new one is there after a crash,
   * or else rows are handed out again.
   */
  set(key: string, value: string): Promise<void>;
  /** Lets go of what the store opened, when the stream is stopped. May be called twice. */
  close?(): Promise<void>;
}

/** Keeps state as long as the process runs: after a restart everything is backfilled again. */
export class MemoryStateStore implements StateStore {
  readonly #values = new Map<string, string>();

  /** What was last set under the key; null where nothing was. */
  get(key: string): Promise<string | null> {
    return Promise.resolve(this.#values.get(key) ?? null);
  }

  /** Puts a value in place of the key's last one. */
  set(key: string, value: string): Promise<void> {
    this.#values.set(key, value);
    return Promise.resolve();
  }
}
