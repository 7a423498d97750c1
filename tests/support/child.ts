/** A program of `tests/support/` in a process of its own, on the runtime that runs the test. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { until } from "./streams.ts";

/** No program is to outlive a test that hangs. */
const LIFETIME_MS = 100_000;

/** A program that runs. It is dead once `kill()` has resolved. */
export class Child {
  /** What it has printed, line by line. */
  readonly lines: string[] = [];
  readonly #process: ChildProcess;
  readonly #ended: Promise<number | string>;
  #over = false;

  /** @param program the name of a file in `tests/support/`. */
  constructor(program: string, ...args: string[]) {
    const path = fileURLToPath(new URL(program, import.meta.url));
    const deno = process.versions.deno === undefined ? [] : ["run", "-A", "--no-check"];
    this.#process = spawn(process.execPath, [...deno, path, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
      timeout: LIFETIME_MS,
      killSignal: "SIGKILL",
    });
    const printed = createInterface({ input: this.#process.stdout! });
    printed.on("line", (line) => this.lines.push(line));
    this.#ended = Promise.all([once(this.#process, "exit"), once(printed, "close")])
      .then(([[status, signal]]) => status ?? signal)
      .finally(() => this.#over = true);
  }

  /** Its exit status, or the signal that ended it, when all that it printed is in `lines`. */
  get ended(): Promise<number | string> {
    return this.#ended;
  }

  /** Waits until it has printed so many lines; fails where it ends before. */
  async printed(count: number, timeoutMs = 30_000): Promise<void> {
    await until(`${count} lines of a program`, () => {
      if (this.lines.length >= count) return true;
      if (this.#over) throw new Error(`It ended after: ${this.lines.join("\n")}`);
      return false;
    }, timeoutMs);
  }

  /** Ends it, by SIGKILL where nothing else is said, and waits until it is gone. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<number | string> {
    this.signal(signal);
    return await this.#ended;
  }

  /** Sends a signal and does not wait. */
  signal(signal: NodeJS.Signals): void {
    // Not by the child's own kill(), which Deno carries out once only.
    if (!this.#over) process.kill(this.#process.pid!, signal);
  }
}
