/** The demo is the first thing that anybody runs: it must work, and its answers must follow the changes. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { execFile } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";

const program = fileURLToPath(new URL("../../examples/demo/main.ts", import.meta.url));

function runDemo(...args: string[]): Promise<{ code: number; stdout: string; errors: string[] }> {
  const run = process.versions.deno === undefined
    ? [program]
    : ["run", "-A", "--no-check", program];
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [...run, ...args],
      { timeout: 100_000, env: { ...process.env, NO_COLOR: "1" } },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : Number(error.code ?? -1);
        // Whatever is installed on the way is told there too.
        const errors = stderr.split("\n").filter((line) => line.startsWith("demo:"));
        resolve({ code, stdout, errors });
      },
    );
  });
}

/** The best answer to each question, in the order in which they were asked. */
function bestAnswers(stdout: string): string[] {
  return [...stdout.matchAll(/\? .*\n\s+[\d.]+\s+(\w+)/g)].map((match) => match[1]!);
}

test("the demo's answers follow the changes of the table", async () => {
  const { code, stdout, errors } = await runDemo();
  assertEquals({ code, errors }, { code: 0, errors: [] }, stdout);
  assertEquals(bestAnswers(stdout), [
    "animals",
    "refunds",
    "breakfast",
    "dogs",
    "vouchers",
    "restaurant",
  ]);
  assertMatch(stdout, /10 of 10 rows/);
  assertMatch(stdout, /\d+\/[0-9A-F]+ +update +dogs +moved from "animals" +\d+ ms/);
  assertMatch(stdout, /update +wifi +same text, not embedded/);
  assertMatch(
    stdout,
    new RegExp(
      [
        "verify +10 rows, 10 vectors: no difference",
        "quiet deleted +10 rows, 9 vectors: 1 missing, 0 stale, 0 orphaned",
        "repair +10 rows, 10 vectors: 1 missing, 0 stale, 0 orphaned; 1 repaired",
        "verify +10 rows, 10 vectors: no difference",
      ].join("\\n +"),
    ),
  );
  assertMatch(stdout, /done {2}7 changes followed/);
});

test("the demo leaves nothing on a server of one's own", { skip: needsOwnServer }, async () => {
  const server = await startPostgres({ major: 17 });
  try {
    const { code, stdout } = await runDemo("--dsn", server.dsn);
    assertEquals(code, 0, stdout);
    const left = await server.query(
      `SELECT slot_name::text AS name FROM pg_replication_slots
       UNION ALL SELECT pubname FROM pg_publication
       UNION ALL SELECT relname FROM pg_class WHERE relname LIKE 'pgstream%'
       UNION ALL SELECT nspname FROM pg_namespace WHERE nspname LIKE 'pgstream%'`,
    );
    assertEquals(left, []);
  } finally {
    await server.stop();
  }
});

test("the demo says in one line what is wrong, and never a password", async () => {
  for (const dsn of ["postgresql://u:canary@127.0.0.1:9/x", "postgresql://u:canary@[/x"]) {
    const { code, stdout, errors } = await runDemo("--dsn", dsn);
    assertEquals([code, errors.length], [1, 1]);
    assertMatch(errors[0]!, /--dsn/);
    assert(!`${stdout}${errors}`.includes("canary"));
  }
  assertEquals((await runDemo("--nope")).code, 2);
});
