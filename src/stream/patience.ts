/** How long a handler that is in the middle of an event may still take once the stream is to end. */
import { LONGEST_TIMER_MS } from "../backoff.ts";

/** A time limit that can be set again while somebody waits for it. Used once. */
export class Patience {
  readonly #over = Promise.withResolvers<void>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #limitMs: number | null = null;
  #ended = false;

  /** @param timeoutMs a limit that runs from now; left out: none yet. */
  constructor(timeoutMs?: number) {
    if (timeoutMs !== undefined) this.limit(timeoutMs);
  }

  /** The limit that was set last; null: none yet. */
  get limitMs(): number | null {
    return this.#limitMs;
  }

  /** From now on, in place of what was set before. `Infinity`: for ever. */
  limit(timeoutMs: number): void {
    if (this.#ended) return;
    clearTimeout(this.#timer);
    this.#limitMs = timeoutMs;
    // What is longer is for ever.
    if (timeoutMs > LONGEST_TIMER_MS) return;
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
      this.end();
    }
  }

  /** Nobody waits any more: no timer keeps the process alive. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }
}
