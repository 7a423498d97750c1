/** A program of `bench/support/programs/` in a process of its own, on the runtime that runs the benchmark. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Ends by itself, by SIGKILL where it takes longer than it may. What it prints is read line by line. */
export class Program {
  readonly #name: string;
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #closed: Promise<unknown>;

  /**
   * Starts it.
   *
   * @param name of a file in `programs/`, or the URL of another one
   * @param lifetimeMs how long it may take in all
   */
  constructor(name: string, args: readonly (string | number)[], lifetimeMs: number) {
    const path = fileURLToPath(new URL(name, new URL("./programs/", import.meta.url)));
    // A profiler's options are for the program, too.
    const given = process.versions.deno === undefined
      ? process.execArgv
      : ["run", "-A", "--no-check"];
    this.#name = name;
    this.#process = spawn(process.execPath, [...given, path, ...args.map(String)], {
      stdio: ["ignore", "pipe", "inherit"],
      timeout: lifetimeMs,
      killSignal: "SIGKILL",
    });
    this.#closed = once(this.#process, "close");
    this.#lines = createInterface({ input: this.#process.stdout! })[Symbol.asyncIterator]();
  }

  /** The next line that it prints; fails where it ends before. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`${this.#name} ended before it was done`);
    return value;
  }

  /** The same line as what it says in JSON. */
  async figures<Figures>(): Promise<Figures> {
    return JSON.parse(await this.line());
  }

  /** Waits until it is gone; fails where it did not end well. */
  async ended(): Promise<void> {
    await this.#closed;
    const { exitCode, signalCode } = this.#process;
    if (exitCode !== 0) throw new Error(`${this.#name} ended with ${exitCode ?? signalCode}`);
  }
}
