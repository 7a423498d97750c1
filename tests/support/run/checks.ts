/** What is asked of the sources, beside that the tests pass. */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Job, root, runProgram } from "./job.ts";

const CHECK_TIMEOUT_MS = 300_000;

/** Where examples in docstrings need no server, so that they can be run. */
const RUNNABLE_DOCS = [
  "src/lsn.ts",
  "src/table_name.ts",
  "src/pgoutput",
  "src/sinks/memory.ts",
  "src/sinks/rows.ts",
  "src/sinks/sink.ts",
  "src/sync/batched_embedder.ts",
  "src/sync/chunk_text.ts",
  "src/transport/transport.ts",
  "src/values",
  "src/wire/quote.ts",
  "src/wire/sasl_prep.ts",
];

/** The checks, in the order in which somebody would want to know. @param deno its path. */
export async function checkJobs(deno: string): Promise<Job[]> {
  const config = JSON.parse(await readFile(join(root, "deno.json"), "utf8")) as {
    exports: Record<string, string>;
  };
  const checks = [
    ["fmt", "--check"],
    ["lint"],
    ["check", "."],
    ["check", "--doc", "mod.ts", "src"],
    ...(existsSync(join(root, "README.md")) ? [["check", "--doc-only", "README.md"]] : []),
    ["doc", "--lint", ...Object.values(config.exports)],
    ["test", "--doc", ...RUNNABLE_DOCS],
    ["publish", "--dry-run", "--allow-dirty"],
  ];
  return checks.map((args) => ({
    label: `check deno ${args.slice(0, 3).join(" ")}`,
    async run() {
      const ending = await runProgram(deno, args, { timeoutMs: CHECK_TIMEOUT_MS });
      const passed = { name: args.join(" "), result: "passed" as const, reason: "" };
      return { ...ending, cases: ending.failure === null ? [passed] : [] };
    },
  }));
}
