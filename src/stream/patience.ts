/** How long a handler that is in the middle of an event may still take once the stream is to end. */

/** A time limit that can be set again while somebody waits for it. */
export class Patience {
  readonly #over = Promise.withResolvers<void>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #limitMs: number | null = null;

  /** The limit that was set last; null: none yet. */
  get limitMs(): number | null {
    return this.#limitMs;
  }

  /** From now on, in place of what was set before. */
  limit(timeoutMs: number): void {
    clearTimeout(this.#timer);
    this.#limitMs = timeoutMs;
    this.#timer = setTimeout(this.#over.resolve, timeoutMs);
  }

  /** True where the promise settled in time; never rejects. Without a limit it waits for ever. */
  async settled(promise: Promise<unknown>): Promise<boolean> {
    try {
      return await Promise.race([
        promise.then(() => true, () => true),
        this.#over.promise.then(() => false),
      ]);
    } finally {
      clearTimeout(this.#timer);
    }
  }
}
