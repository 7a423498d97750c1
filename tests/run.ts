/**
 * Runs all tests: each file in a process of its own, on Deno, and where it uses `node:test` on Bun
 * and Node as well. Ends in a line `N passed, N failed, N skipped`.
 *
 * ```sh
 * deno task test                       # everything
 * deno task test --only bun unit/wire  # on Bun, the files whose path holds this text
 * deno task ok                         # format, lint, types, docs and packaging first, as a gate
 * ```
 */

import { readdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { type Job, type Outcome, root } from "./support/run/job.ts";
import { checkJobs } from "./support/run/checks.ts";
import { type RuntimeName, runtimePath, RUNTIMES } from "./support/run/runtimes.ts";
import { testJob } from "./support/run/test_file.ts";

/** Not more than there are processors: some tests compare how fast two things are. */
const PARALLEL = Math.min(availableParallelism(), 4);
const MAX_OUTPUT_LINES = 200;

/** Reports each job when it is done, and all of them at the end. */
class Totals {
  #passed = 0;
  readonly #failures: string[] = [];
  readonly #skips: string[] = [];

  add(label: string, { cases, failure, output, seconds }: Outcome): void {
    const counts = { passed: 0, failed: 0, skipped: 0 };
    for (const { name, result, reason } of cases) {
      counts[result]++;
      const line = `${label}: ${name}${reason === "" ? "" : ` (${reason})`}`;
      if (result === "failed") this.#failures.push(line);
      if (result === "skipped") this.#skips.push(line);
    }
    this.#passed += counts.passed;
    if (failure !== null) this.#failures.push(`${label}: ${failure}`);
    const bad = counts.failed > 0 || failure !== null;
    const failed = counts.failed === 0 ? "" : `, ${counts.failed} failed`;
    const summary = `${counts.passed} passed${failed}, ${seconds.toFixed(1)} s`;
    print(`${bad ? "FAIL" : "ok  "} ${label.padEnd(60)} ${summary}`);
    if (bad) print(tail(output).replaceAll(/^/gm, "     | "));
  }

  /** @returns the exit code. */
  finish(): number {
    for (const skip of this.#skips) print(`skipped: ${skip}`);
    for (const failure of this.#failures) print(`failed:  ${failure}`);
    const failed = this.#failures.length;
    const none = this.#passed + failed === 0;
    if (none) print("no test ran");
    const skipped = this.#skips.length === 0 ? "" : `, ${this.#skips.length} skipped`;
    print(`${this.#passed} passed, ${failed} failed${skipped}`);
    return none || failed > 0 ? 1 : 0;
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function tail(output: string): string {
  const lines = output.trimEnd().split("\n");
  if (lines.length <= MAX_OUTPUT_LINES) return lines.join("\n");
  return ["…", ...lines.slice(-MAX_OUTPUT_LINES)].join("\n");
}

async function findTests(filters: string[]): Promise<string[]> {
  const entries = await readdir(join(root, "tests"), { recursive: true });
  return entries
    .filter((entry) => entry.endsWith("_test.ts"))
    .map((entry) => relative(root, join(root, "tests", entry)))
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
    .sort();
}

/** `tests/deno/` is for what only Deno can tell; everything else is portable. */
function runsOn(runtime: RuntimeName, file: string): boolean {
  return runtime === "deno" || !file.startsWith("tests/deno/");
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      gate: { type: "boolean", default: false },
    },
    allowPositionals: true,
  });
  const wanted = RUNTIMES.filter((name) => values.only?.includes(name) ?? true);
  if (wanted.length === 0) throw new Error(`--only takes one of ${RUNTIMES.join(", ")}`);

  const deno = await runtimePath("deno");
  const jobs: Job[] = values.gate ? await checkJobs(deno) : [];
  const files = await findTests(positionals);
  for (const runtime of wanted) {
    const program = await runtimePath(runtime);
    for (const file of files.filter((file) => runsOn(runtime, file))) {
      jobs.push(testJob({ runtime, program, file, deno }));
    }
  }
  const totals = new Totals();
  async function work(): Promise<void> {
    for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
      totals.add(job.label, await job.run());
    }
  }
  await Promise.all(Array.from({ length: PARALLEL }, work));
  return totals.finish();
}

process.exit(await main());
