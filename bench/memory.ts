/**
 * What a process takes above its idle size while it streams one transaction of 1,000,000 rows to a handler that is
 * slower than the server, beside pg-logical-replication with its flow control, on the same server in the same run.
 *
 * The handler pauses once in 1,000 rows. Each contender is a child of its own, in which resident memory is looked at
 * before and after each pause, and every 20 ms. Idle is that child with everything loaded, connected, and nothing to
 * read for a second. Rounds alternate; medians of them, and of the ratio. `…_heap_mb` and `…_external_mb` are what the
 * engine itself says of its heap and of buffers, at the most, with what it had when it was idle.
 *
 * ```sh
 * deno task bench memory [--json] [--rows 1000000] [--rounds 3] [--pause 15]
 * ```
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { install } from "../tests/support/install.ts";
import { startPostgres } from "../tests/support/servers/postgres.ts";
import { Program } from "./support/program.ts";
import type { MemoryFigures } from "./support/programs/memory.ts";
import { inTurns, machine, median, print, ratio, type Report, rounded } from "./support/report.ts";
import { createSlot, dropSlot } from "./support/slots.ts";
import type { SourceName } from "./support/sources/source.ts";

const MB = 1024 * 1024;
const ROUND_LIMIT_MS = 240_000;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rows: { type: "string", default: "1000000" },
    rounds: { type: "string", default: "3" },
    pause: { type: "string", default: "15" },
  },
});
const [rows, rounds, pauseMs] = [values.rows, values.rounds, values.pause].map(Number) as [
  number,
  number,
  number,
];

const { folder } = await install("pg-logical-replication");
const server = await startPostgres({
  lifetimeMs: 1_200_000,
  settings: { max_wal_size: "2GB", autovacuum: "off" },
});
const found: Record<SourceName, MemoryFigures[]> = { pgstream: [], pg_logical_replication: [] };
let runs = 0;

/** One round. @returns megabytes above idle */
async function measure(name: SourceName): Promise<number> {
  const slot = `memory_${++runs}`;
  await server.query(`CREATE TABLE ${slot} (id int PRIMARY KEY, title text, body text, state text,
      score float8, author_id int, at timestamptz)`);
  await createSlot(server, slot, slot);
  const args = [name, folder, server.dsn, slot, slot, rows, pauseMs];
  const program = new Program("memory.ts", args, ROUND_LIMIT_MS);
  const line = await program.line();
  if (line !== "idle") throw new Error(`${name} said ${line}`);
  await server.query(
    `INSERT INTO ${slot} SELECT n, 'title ' || n, repeat('some text ', 12), 'active',
    n / 7.0, n % 1000, now() FROM generate_series(1, ${rows}) n`,
  );
  const figures = await program.figures<MemoryFigures>();
  await program.ended();
  await dropSlot(server, slot);
  await server.query(`DROP TABLE ${slot}`);
  found[name].push(figures);
  return (figures.rss - figures.idleRss) / MB;
}

function figuresOf(prefix: string, rounds: readonly MemoryFigures[]): Report {
  const middle = (key: keyof MemoryFigures) => median(rounds.map((figures) => figures[key]));
  return {
    [`${prefix}_idle_mb`]: rounded(middle("idleRss") / MB, 1),
    [`${prefix}_heap_mb`]: rounded(middle("heapUsed") / MB, 1),
    [`${prefix}_external_mb`]: rounded(middle("external") / MB, 1),
    [`${prefix}_rows_per_s`]: Math.round(rows / middle("ms") * 1000),
  };
}

try {
  const mb = await inTurns(rounds, {
    pgstream: () => measure("pgstream"),
    pg_logical_replication: () => measure("pg_logical_replication"),
  });
  print({
    ...machine(),
    rounds,
    rows,
    big_tx_rss_mb: rounded(median(mb.pgstream), 1),
    big_tx_rss_vs_pg_logical_replication: rounded(ratio(mb.pgstream, mb.pg_logical_replication)),
    pg_logical_replication_big_tx_rss_mb: rounded(median(mb.pg_logical_replication), 1),
    ...figuresOf("pgstream", found.pgstream),
    ...figuresOf("pg_logical_replication", found.pg_logical_replication),
  }, values.json);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await server.stop("immediate");
}
