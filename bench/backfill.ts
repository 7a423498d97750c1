/**
 * How many existing rows a second are handed to a handler that counts them, beside a bare `COPY … TO STDOUT` of
 * the same table whose rows are counted and thrown away, in the same run. Rounds alternate, and the median
 * counts. Beside it: what the process takes above its idle size, and how old the source's oldest
 * transaction gets.
 *
 * ```sh
 * deno task bench backfill [--json] [--rows 1000000]
 * ```
 */
import { cpus } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import postgres from "postgres";
import { PgStream } from "../mod.ts";
import { Connector } from "../src/wire/connector.ts";
import { startPostgres } from "../tests/support/servers/postgres.ts";

const ROUNDS = 3;
const MB = 1024 * 1024;

const { values: { json, rows } } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rows: { type: "string", default: "1000000" },
  },
});
const count = Number(rows);

/** Rows a second. */
async function rawCopy(dsn: string): Promise<number> {
  const connection = await new Connector({ dsn }).connect();
  const began = performance.now();
  let read = 0;
  for await (const rows of connection.copyOut("COPY public.documents TO STDOUT")) {
    while (rows.advance()) read++;
  }
  const seconds = (performance.now() - began) / 1000;
  await connection.close();
  if (read !== count) throw new Error(`${read} rows were copied`);
  return read / seconds;
}

/** Rows a second, with a slot of its own each time. */
async function backfill(dsn: string): Promise<number> {
  const stream = new PgStream({ dsn, slotName: "bench", backfill: "initial", logger: false });
  let handled = 0;
  stream.watch("documents").onChange(() => {
    handled++;
  });
  await stream.setup();
  const began = performance.now();
  await stream.catchUp();
  const seconds = (performance.now() - began) / 1000;
  await stream.teardown();
  if (handled !== count) throw new Error(`${handled} rows were handled`);
  return handled / seconds;
}

/** Looks at the process and at the server's transactions every few milliseconds, until it is told to end. */
function watch(sql: postgres.Sql): () => Promise<{ rss: number; oldestMs: number }> {
  let rss = 0;
  let oldestMs = 0;
  let over = false;
  const watching = (async () => {
    while (!over) {
      rss = Math.max(rss, process.memoryUsage().rss);
      const [row] = await sql`SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)
        * 1000), 0)::float8 AS ms FROM pg_stat_activity WHERE application_name = 'pgstream'
        AND backend_type = 'client backend'`;
      oldestMs = Math.max(oldestMs, row!.ms);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })();
  return async () => {
    over = true;
    await watching;
    return { rss, oldestMs };
  };
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

const runtime = process.versions.deno !== undefined
  ? `Deno ${process.versions.deno}`
  : process.versions.bun !== undefined
  ? `Bun ${process.versions.bun}`
  : `Node ${process.versions.node}`;
const server = await startPostgres({ lifetimeMs: 600_000 });
const sql = postgres(server.dsn, { max: 1, onnotice: () => {} });
try {
  await server.query(
    `CREATE TABLE documents (id int PRIMARY KEY, title text, body text, at timestamptz);
    INSERT INTO documents SELECT n, 'title ' || n, repeat('x', 80), now()
    FROM generate_series(1, ${count}) n`,
  );
  await server.query("VACUUM ANALYZE documents");
  const idle = process.memoryUsage().rss;
  const raw: number[] = [];
  const ours: number[] = [];
  const most = { rss: 0, oldestMs: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    const end = watch(sql);
    ours.push(await backfill(server.dsn));
    const { rss, oldestMs } = await end();
    // Before the first copy: what that takes is not the backfill's.
    if (round === 0) most.rss = rss;
    most.oldestMs = Math.max(most.oldestMs, oldestMs);
    raw.push(await rawCopy(server.dsn));
  }
  const report = {
    runtime,
    cpu: cpus()[0]?.model ?? "unknown",
    rows: count,
    copy_rows_per_s: Math.round(median(raw)),
    backfill_rows_per_s: Math.round(median(ours)),
    backfill_vs_copy: +(median(ours) / median(raw)).toFixed(2),
    mb_above_idle: +((most.rss - idle) / MB).toFixed(1),
    oldest_transaction_ms: Math.round(most.oldestMs),
  };
  if (json) console.log(JSON.stringify(report));
  else for (const [key, value] of Object.entries(report)) console.log(key.padEnd(40), value);
} finally {
  await sql.end();
  await server.stop("immediate");
}
