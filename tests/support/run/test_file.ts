/** One file of tests on one runtime. */

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Job, type Outcome, runProgram } from "./job.ts";
import { readJunit } from "./junit.ts";
import type { RuntimeName } from "./runtimes.ts";

const FILE_TIMEOUT_MS = 300_000;
const TEST_TIMEOUT_MS = 120_000;

/** What is run, and by what. */
export interface TestFile {
  runtime: RuntimeName;
  /** The runtime's path. */
  program: string;
  /** Relative to the checkout. */
  file: string;
  /** Deno's path, for tests that install something or call it. */
  deno: string;
}

/** A job that runs one file. */
export function testJob(test: TestFile): Job {
  return { label: `${test.runtime.padEnd(5)} ${test.file}`, run: () => runTest(test) };
}

function argumentsFor(runtime: RuntimeName, file: string, report: string): string[] {
  switch (runtime) {
    case "deno":
      return ["test", "-A", "--no-check", `--junit-path=${report}`, file];
    case "bun": {
      const reporter = ["--reporter=junit", `--reporter-outfile=${report}`];
      return ["test", `--timeout=${TEST_TIMEOUT_MS}`, ...reporter, `./${file}`];
    }
    case "node":
      // Without --test, which would put a process between us and the one that may have to be killed.
      return [
        "--test-reporter=spec",
        "--test-reporter-destination=stdout",
        "--test-reporter=junit",
        `--test-reporter-destination=${report}`,
        file,
      ];
  }
}

async function runTest({ runtime, program, file, deno }: TestFile): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), "pgstream-report-"));
  const report = join(folder, "junit.xml");
  const ending = await runProgram(program, argumentsFor(runtime, file, report), {
    timeoutMs: FILE_TIMEOUT_MS,
    env: { PGSTREAM_DENO: deno },
  });
  const cases = readJunit(await readFile(report, "utf8").catch(() => ""));
  await rm(folder, { recursive: true });

  let { failure } = ending;
  if (cases.some(({ result }) => result === "failed")) {
    failure = null;
  } else if (cases.length === 0 && !skippedByBun(ending.output)) {
    failure ??= "ended without a report of any test";
  }
  return { ...ending, cases, failure };
}

// Bun writes no report where all of a file is skipped by its groups.
function skippedByBun(output: string): boolean {
  return /^Ran 0 tests across 1 file/m.test(output);
}
