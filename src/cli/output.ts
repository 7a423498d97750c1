/** Standard output for much text, at the reader's pace. */

import process from "node:process";
import type { Terminal } from "./terminal.ts";

/** What of Deno is used: its `process.stdout` writes to a pipe while everything else stands still. */
interface DenoLike {
  stdout: { write(bytes: Uint8Array): Promise<number> };
}

/** Writes, and waits for the reader, while the process goes on: a connection is kept alive meanwhile. */
export class Output {
  readonly #left = new AbortController();
  readonly #deno: DenoLike | undefined;

  /** From here on a reader that leaves does not end the process. */
  constructor(terminal: Terminal) {
    terminal.onReaderLeft(() => this.#left.abort());
    const { Deno } = globalThis as { Deno?: DenoLike };
    this.#deno = terminal.isPerson ? undefined : Deno;
  }

  /** Aborted when whoever reads has left, as `head` does: what is written then goes nowhere. */
  get left(): AbortSignal {
    return this.#left.signal;
  }

  /** Resolves when the reader, or its pipe, has taken all of it. One call at a time. */
  async write(text: string): Promise<void> {
    if (this.left.aborted) return;
    if (this.#deno !== undefined) return await this.#writeByDeno(this.#deno, text);
    const { promise, resolve } = Promise.withResolvers<void>();
    // An error is told to the listener of the stream, too.
    process.stdout.write(text, () => resolve());
    // A write into what is gone need not call back.
    this.left.addEventListener("abort", () => resolve(), { once: true });
    await promise;
  }

  async #writeByDeno({ stdout }: DenoLike, text: string): Promise<void> {
    let bytes: Uint8Array = new TextEncoder().encode(text);
    try {
      while (bytes.length > 0) bytes = bytes.subarray(await stdout.write(bytes));
    } catch (error) {
      if ((error as { code?: unknown }).code !== "EPIPE") throw error;
      this.#left.abort();
    }
  }
}
