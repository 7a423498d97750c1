/**
 * Whether `pgstream tail` keeps up with a busy table: from the commit of a large transaction until all of it is printed
 * as JSON lines into `/dev/null`, beside a `PgStream` whose handler does nothing, so that what is compared is what
 * printing costs. Each is a process of its own with a temporary slot, is there before the transaction is written, and
 * ends by itself after as many events as there are; the time is until it has ended.
 *
 * `pg_recvlogical` is no part of the PostgreSQL that npm has.
 *
 * ```sh
 * deno task bench tail [--json] [--rows 400000] [--rounds 3]
 * ```
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startPostgres } from "../tests/support/servers/postgres.ts";
import { inTurns, machine, median, print, ratio, rounded } from "./support/report.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rows: { type: "string", default: "400000" },
    rounds: { type: "string", default: "3" },
  },
});
const rows = Number(values.rows);
/** No process is to outlive a benchmark that hangs. */
const LIFETIME_MS = 120_000;

const server = await startPostgres({ lifetimeMs: 900_000, settings: { max_wal_size: "8GB" } });

/** @returns seconds from the commit to the end of the process */
async function measure(file: string, args: readonly string[]): Promise<number> {
  await server.query("TRUNCATE changes");
  const path = fileURLToPath(new URL(file, import.meta.url));
  const deno = process.versions.deno === undefined ? [] : ["run", "-A", "--no-check"];
  const child = spawn(process.execPath, [...deno, path, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    timeout: LIFETIME_MS,
    killSignal: "SIGKILL",
  });
  const ended = once(child, "exit");
  const said = createInterface({ input: child.stderr! });
  const [line] = await Promise.race([once(said, "line"), ended]);
  if (!String(line).startsWith("Watching")) throw new Error(`${file}: ${line}`);
  await server.query(`INSERT INTO changes SELECT n, 'On slots, part ' || n,
    repeat('What is not confirmed is kept. ', 4), n % 1000, now() FROM generate_series(1, ${rows}) n`);
  const began = performance.now();
  const [status] = await ended;
  if (status !== 0) throw new Error(`${file} ended with ${status}`);
  return (performance.now() - began) / 1000;
}

try {
  await server.query(`
    CREATE TABLE changes (id int PRIMARY KEY, title text, body text, author_id int,
      created_at timestamptz) WITH (autovacuum_enabled = off);
    CREATE PUBLICATION bench FOR TABLE changes`);
  const shared = ["--dsn", server.dsn, "--publication", "bench", "--operation", "insert"];
  const seconds = await inTurns(Number(values.rounds), {
    tail: () =>
      measure("../src/cli/bin.ts", [
        ...["tail", "changes", "--json", "--limit", `${rows}`],
        ...shared,
      ]),
    handler: () =>
      measure("support/programs/count.ts", [server.dsn, "bench", "changes", `${rows}`]),
  });
  print({
    ...machine(),
    rows,
    rounds: Number(values.rounds),
    tail_events_per_s: Math.round(rows / median(seconds.tail)),
    handler_events_per_s: Math.round(rows / median(seconds.handler)),
    tail_wall_vs_handler: rounded(ratio(seconds.tail, seconds.handler)),
  }, values.json);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await server.stop("immediate");
}
