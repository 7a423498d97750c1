/** The command line in a process of its own, on the runtime that runs the test, with pipes for a terminal. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { until } from "./streams.ts";

const BIN = fileURLToPath(new URL("../../src/cli/bin.ts", import.meta.url));
/** No command is to outlive a test that hangs. */
const LIFETIME_MS = 100_000;

/** What starts `pgstream` on this runtime: a program, and what comes before the command's own arguments. */
export function pgstreamCommand(): string[] {
  const deno = process.versions.deno === undefined ? [] : ["run", "-A", "--no-check"];
  return [process.execPath, ...deno, BIN];
}

/** How a command is run. */
export interface CliOptions {
  /** Variables beside, or in place of, those of the test; what says where a database is, is left out otherwise. */
  env?: Record<string, string>;
  /** Default: the test's. */
  cwd?: string;
  /** What it reads; then its input ends. Default: nothing. */
  input?: string;
}

/** What a command left. */
export interface CliResult {
  stdout: string;
  stderr: string;
  /** Its exit status, or the signal that ended it. */
  status: number | string;
}

/** The test's variables, without those that would tell a command of another database. */
export function cliEnvironment(env: Record<string, string> = {}): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) =>
    !/^(PG[A-Z]+|DATABASE_URL|OPENAI_\w+|QDRANT_API_KEY|FORCE_COLOR)$/.test(name)
  );
  return { ...Object.fromEntries(own), NO_COLOR: "1", ...env };
}

/** A command that runs. It is dead once `ended` has resolved. */
export class Cli {
  /** What it has printed so far. */
  stdout = "";
  /** What it has said beside it so far. */
  stderr = "";
  /** When it is over. */
  readonly ended: Promise<CliResult>;
  readonly #process: ChildProcess;
  #over = false;

  /** Starts it. @param args without the program's name */
  constructor(args: readonly string[], { env, cwd, input }: CliOptions = {}) {
    const [program, ...before] = pgstreamCommand();
    const child = spawn(program!, [...before, ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      env: cliEnvironment(env),
      timeout: LIFETIME_MS,
      killSignal: "SIGKILL",
      ...cwd === undefined ? {} : { cwd },
    });
    this.#process = child;
    child.stdin!.on("error", () => {});
    child.stdin!.end(input ?? "");
    child.stdout!.setEncoding("utf8").on("data", (text: string) => this.stdout += text);
    child.stderr!.setEncoding("utf8").on("data", (text: string) => this.stderr += text);
    this.ended = once(child, "close").then(([status, signal]) => {
      this.#over = true;
      return { stdout: this.stdout, stderr: this.stderr, status: status ?? signal };
    });
  }

  /** What it has printed, whole lines only. */
  get lines(): string[] {
    return this.stdout.split("\n").slice(0, -1);
  }

  /** Waits until what it printed, or said, shows something; fails where it ends before. */
  async shows(what: RegExp, timeoutMs = 30_000): Promise<void> {
    await until(`${what} of pgstream`, () => {
      if (what.test(this.stdout) || what.test(this.stderr)) return true;
      if (this.#over) throw new Error(`It ended after: ${this.stdout}\n${this.stderr}`);
      return false;
    }, timeoutMs);
  }

  /** Sends a signal. */
  signal(signal: NodeJS.Signals): void {
    // Not by the child's own kill(), which Deno carries out once only.
    if (!this.#over) process.kill(this.#process.pid!, signal);
  }

  /** Ends it at once, where it has not ended. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.ended;
  }
}

/** Runs a command to its end. */
export async function pgstream(
  args: readonly string[],
  options: CliOptions = {},
): Promise<CliResult> {
  return await new Cli(args, options).ended;
}
