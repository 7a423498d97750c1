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
import process from "node:process";
import { parseArgs } from "node:util";
import postgres from "postgres";
import { PgStream } from "../mod.ts";
import { Connector } from "../src/wire/connector.ts";
import { startPostgres } from "../tests/support/servers/postgres.ts";
import { inTurns, machine, median, print, ratio, rounded } from "./support/report.ts";

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
  const most = { rss: 0, oldestMs: 0 };
  let round = 0;
  const { ours, raw } = await inTurns(ROUNDS, {
    ours: async () => {
      const end = watch(sql);
      const speed = await backfill(server.dsn);
      const { rss, oldestMs } = await end();
      // Before the first copy: what that takes is not the backfill's.
      if (round++ === 0) most.rss = rss;
      most.oldestMs = Math.max(most.oldestMs, oldestMs);
      return speed;
    },
    raw: () => rawCopy(server.dsn),
  });
  print({
    ...machine(),
    rows: count,
    backfill_vs_copy: rounded(ratio(ours, raw)),
    backfill_rows_per_s: Math.round(median(ours)),
    copy_rows_per_s: Math.round(median(raw)),
    mb_above_idle: rounded((most.rss - idle) / MB, 1),
    oldest_transaction_ms: Math.round(most.oldestMs),
  }, json);
} finally {
  await sql.end();
  await server.stop("immediate");
}
