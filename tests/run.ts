/**
 * Runs all tests: each file in a process of its own, on Deno, and where it uses `node:test` on Bun
 * and Node as well. Ends in a line `N passed, N failed, N skipped`.
 *
 * ```sh
 * deno task test                       # everything
 * deno task test --only bun unit/wire  # the files whose path holds this text, on Bun
 * ```
 */

import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type JunitCase, readJunit } from "./support/junit.ts";
import { type RuntimeName, runtimePath, RUNTIMES } from "./support/runtimes.ts";

const FILE_TIMEOUT_MS = 300_000;
const TEST_TIMEOUT_MS = 120_000;
const MAX_OUTPUT_LINES = 200;

const root = fileURLToPath(new URL("..", import.meta.url));

interface Job {
  runtime: RuntimeName;
  program: string;
  /** Relative to the root. */
  file: string;
}

interface Outcome {
  cases: JunitCase[];
  /** Why the file failed as a whole, though none of its tests did. */
  failure: string | null;
  output: string;
  seconds: number;
}

function argumentsFor(runtime: RuntimeName, file: string, report: string): string[] {
  switch (runtime) {
    case "deno":
      return ["test", "-A", "--no-check", `--junit-path=${report}`, file];
    case "bun":
      return [
        "test",
        `--timeout=${TEST_TIMEOUT_MS}`,
        "--reporter=junit",
        `--reporter-outfile=${report}`,
        `./${file}`,
      ];
    case "node":
      // Without --test, which would add a process that outlives the one that we can end.
      return [
        "--test-reporter=spec",
        "--test-reporter-destination=stdout",
        "--test-reporter=junit",
        `--test-reporter-destination=${report}`,
        file,
      ];
  }
}

async function runFile({ runtime, program, file }: Job, deno: string): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), "pgstream-report-"));
  const report = join(folder, "junit.xml");
  const startedAt = performance.now();
  const env: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: "1", PGSTREAM_DENO: deno };
  delete env.FORCE_COLOR;
  const child = spawn(program, argumentsFor(runtime, file, report), {
    cwd: root,
    env,
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
  }, FILE_TIMEOUT_MS);
  const ending = await new Promise<string | null>((resolve) => {
    child.on("error", (error) => resolve(`did not start: ${error.message}`));
    // "exit" and not "close": a child of a killed test may hold the pipes open.
    child.on("exit", (code, signal) => resolve(code === 0 ? null : `ended with ${signal ?? code}`));
  });
  clearTimeout(timer);
  const cases = readJunit(await readFile(report, "utf8").catch(() => ""));
  await rm(folder, { recursive: true });
  const blamed = cases.some((found) => found.result === "failed");
  return {
    cases,
    failure: late
      ? `took more than ${FILE_TIMEOUT_MS / 1000} s`
      : blamed || isEmpty(runtime, cases, output)
      ? null
      : ending,
    output,
    seconds: (performance.now() - startedAt) / 1000,
  };
}

// Bun calls it an error that all tests of a file are skipped by their group.
function isEmpty(runtime: RuntimeName, cases: JunitCase[], output: string): boolean {
  return runtime === "bun" && cases.length === 0 && /\b0 pass\n 0 fail\n/.test(output) &&
    !/\d+ errors?\n/.test(output);
}

class Totals {
  passed = 0;
  failed = 0;
  readonly #failures: string[] = [];
  readonly #skips: string[] = [];

  add({ runtime, file }: Job, { cases, failure, output, seconds }: Outcome): void {
    const label = `${runtime.padEnd(4)} ${file}`;
    const passed = cases.filter((found) => found.result === "passed").length;
    const failed = cases.filter((found) => found.result === "failed");
    const skipped = cases.filter((found) => found.result === "skipped");
    this.passed += passed;
    this.failed += failed.length + (failure === null ? 0 : 1);
    for (const { name } of failed) this.#failures.push(`${label}: ${name}`);
    if (failure !== null) this.#failures.push(`${label}: ${failure}`);
    for (const { name, reason } of skipped) {
      this.#skips.push(`${label}: ${name}${reason === "" ? "" : ` (${reason})`}`);
    }
    const bad = failed.length > 0 || failure !== null;
    const counts = `${passed} passed${failed.length > 0 ? `, ${failed.length} failed` : ""}`;
    print(`${bad ? "FAIL" : "ok  "} ${label.padEnd(60)} ${counts}, ${seconds.toFixed(1)} s`);
    if (bad) print(tail(output).replaceAll(/^/gm, "     | "));
  }

  /** @returns the exit code. */
  finish(): number {
    for (const skip of this.#skips) print(`skipped: ${skip}`);
    for (const failure of this.#failures) print(`failed:  ${failure}`);
    const none = this.passed + this.failed === 0;
    if (none) print("no test ran");
    const skipped = this.#skips.length === 0 ? "" : `, ${this.#skips.length} skipped`;
    print(`${this.passed} passed, ${this.failed} failed${skipped}`);
    return none || this.failed > 0 ? 1 : 0;
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

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { only: { type: "string", multiple: true } },
    allowPositionals: true,
  });
  const wanted = RUNTIMES.filter((name) => values.only?.includes(name) ?? true);
  if (wanted.length === 0) throw new Error(`--only takes one of ${RUNTIMES.join(", ")}`);

  const files = await findTests(positionals);
  const jobs: Job[] = [];
  const totals = new Totals();
  for (const runtime of wanted) {
    const program = await runtimePath(runtime);
    const portable = files.filter((file) => runtime === "deno" || !file.startsWith("tests/deno/"));
    jobs.push(...portable.map((file) => ({ runtime, program, file })));
  }
  const deno = await runtimePath("deno").catch(() => "");
  async function work(): Promise<void> {
    for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
      totals.add(job, await runFile(job, deno));
    }
  }
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), 4) }, work));
  return totals.finish();
}

process.exit(await main());
