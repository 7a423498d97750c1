/** A program that is run, watched, and judged: a file of tests on a runtime, or a check of the sources. */

import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";
import type { JunitCase } from "./junit.ts";

/** The folder of the checkout. */
export const root: string = fileURLToPath(new URL("../../..", import.meta.url));

/** What there is to run. */
export interface Job {
  label: string;
  run(): Promise<Outcome>;
}

/** What became of it. */
export interface Outcome {
  cases: JunitCase[];
  /** Why it failed as a whole, though none of its cases did. */
  failure: string | null;
  output: string;
  seconds: number;
}

/** How a program ended. */
export interface Ending {
  /** Null where it ended well. */
  failure: string | null;
  /** Of stdout and stderr, as they came. */
  output: string;
  seconds: number;
}

/** Runs a program in the checkout until it ends, or kills it after `timeoutMs`. */
export async function runProgram(
  program: string,
  args: string[],
  { timeoutMs, env }: { timeoutMs: number; env?: NodeJS.ProcessEnv },
): Promise<Ending> {
  const startedAt = performance.now();
  const child = spawn(program, args, {
    cwd: root,
    env: { ...process.env, FORCE_COLOR: undefined, NO_COLOR: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => output += text);
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  let closed = (): void => {};
  const drained = new Promise<void>((resolve) => closed = resolve);
  child.on("close", closed);
  const failure = await new Promise<string | null>((resolve) => {
    child.on("error", (error) => resolve(`did not start: ${error.message}`));
    child.on("exit", (code, signal) => resolve(code === 0 ? null : `ended with ${signal ?? code}`));
  });
  clearTimeout(timer);
  // What a killed program leaves behind may hold its pipes open.
  const givenUp = setTimeout(closed, 500);
  await drained;
  clearTimeout(givenUp);
  return {
    failure: late ? `took more than ${timeoutMs / 1000} s` : failure,
    output: stripVTControlCharacters(output),
    seconds: (performance.now() - startedAt) / 1000,
  };
}
