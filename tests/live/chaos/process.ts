/** Processes of consumers: started on one of the runtimes, listened to, and killed. */

import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type RuntimeName, runtimePath } from "../../support/run/runtimes.ts";

/** What this process runs on. */
export const ownRuntime: RuntimeName = process.versions.deno !== undefined
  ? "deno"
  : process.versions.bun !== undefined
  ? "bun"
  : "node";

/** A line that a consumer said: a word, and what belongs to it. */
export interface Said {
  word: string;
  rest: string;
}

/** How a process ended. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A process that was started. */
export class ConsumerProcess {
  readonly #child: ChildProcess;
  readonly #waiting: { word: string; resolve: (rest: string | null) => void }[] = [];
  /** What it said, in order. */
  readonly said: Said[] = [];
  /** What it printed on stderr. */
  errors = "";
  /** Resolves when it has ended and all that it said is heard. */
  readonly exited: Promise<Exit>;
  /** How it ended; null while it runs. */
  exit: Exit | null = null;

  /** @param program relative to this folder */
  static async start(
    runtime: RuntimeName,
    program: string,
    args: string[],
  ): Promise<ConsumerProcess> {
    const path = fileURLToPath(new URL(program, import.meta.url));
    const flags = runtime === "deno" ? ["run", "-A", "--no-check"] : [];
    return new ConsumerProcess(await runtimePath(runtime), [...flags, path, ...args]);
  }

  private constructor(command: string, args: string[]) {
    this.#child = spawn(command, args, {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", NODE_NO_WARNINGS: "1" },
    });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => this.errors += text);
    createInterface({ input: this.#child.stdout! }).on("line", (line) => {
      const { groups } = /^(?<word>\S*) ?(?<rest>.*)$/.exec(line)!;
      const said = { word: groups!.word!, rest: groups!.rest! };
      this.said.push(said);
      this.#tell((waiting) => waiting === said.word, said.rest);
    });
    this.exited = new Promise((resolve, reject) => {
      this.#child.on("error", reject);
      this.#child.on("close", (code, signal) => {
        this.exit = { code, signal };
        this.#tell(() => true, null);
        resolve(this.exit);
      });
    });
  }

  /** What follows this word, once it is said; null where it ends without. */
  heard(word: string): Promise<string | null> {
    const found = this.said.find((said) => said.word === word);
    if (found !== undefined) return Promise.resolve(found.rest);
    if (this.exit !== null) return Promise.resolve(null);
    return new Promise((resolve) => this.#waiting.push({ word, resolve }));
  }

  /** Sends it a signal. */
  signal(signal: NodeJS.Signals): void {
    // Not by `child.kill`, after which Deno reports this signal as what ended it, whatever did.
    if (this.exit === null) process.kill(this.#child.pid!, signal);
  }

  /** Kills it, and waits until it is gone. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.exited;
  }

  #tell(said: (word: string) => boolean, rest: string | null): void {
    for (const waiting of this.#waiting.splice(0)) {
      if (said(waiting.word)) waiting.resolve(rest);
      else this.#waiting.push(waiting);
    }
  }
}
