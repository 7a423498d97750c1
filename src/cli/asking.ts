/** Asks a person, on the terminal. */

import process from "node:process";
import { createInterface, type Interface } from "node:readline/promises";
import { usageError } from "./errors.ts";

/** Somebody who can be asked. `close()` has to be called. */
export class Asking {
  readonly #interface: Interface;
  readonly #signal: AbortSignal;
  readonly #gone: Promise<never>;

  /**
   * Begins to listen.
   *
   * @param what is to be asked, for the error where there is nobody: `"which table"`
   * @param hint what to say instead
   * @throws {CliError} of kind `usage` where there is nobody: input, or what the question is written to, is no terminal.
   */
  constructor(signal: AbortSignal, what: string, hint: string) {
    if (process.stdin.isTTY !== true || process.stderr.isTTY !== true) {
      throw usageError(`There is nobody to ask ${what}`, hint);
    }
    // The terminal's own editing of lines will do: with readline's, Ctrl+C were a key as any other.
    this.#interface = createInterface({
      input: process.stdin,
      output: process.stderr,
      terminal: false,
    });
    this.#signal = signal;
    const gone = Promise.withResolvers<never>();
    gone.promise.catch(() => {});
    this.#interface.once("close", () => gone.reject(usageError("There was no answer", hint)));
    this.#gone = gone.promise;
  }

  /**
   * Asks until the answer will do.
   *
   * @param otherwise what an empty answer means
   * @param fault tells what is wrong with an answer; null where it will do
   * @throws {CliError} of kind `usage` where the input ends (Ctrl+D); `signal.reason`.
   */
  async ask(
    question: string,
    otherwise: string,
    fault: (answer: string) => string | null = () => null,
  ): Promise<string> {
    for (;;) {
      const given = await this.#question(`${question} [${otherwise}] `);
      const answer = given.trim() === "" ? otherwise : given.trim();
      const wrong = fault(answer);
      if (wrong === null) return answer;
      process.stderr.write(`  ${wrong}\n`);
    }
  }

  /** Asks whether something is to be done; nothing but yes is yes. @throws as `ask()` */
  async confirm(question: string): Promise<boolean> {
    return /^y(es)?$/i.test((await this.#question(`${question} [y/N] `)).trim());
  }

  /** Listens no more. */
  close(): void {
    this.#interface.close();
  }

  async #question(text: string): Promise<string> {
    const signal = this.#signal;
    signal.throwIfAborted();
    try {
      return await Promise.race([this.#interface.question(text, { signal }), this.#gone]);
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
  }
}
