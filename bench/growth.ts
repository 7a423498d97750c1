/**
 * How the cost of an event grows: with the events of a stream, with its tables, with the columns of a table. CPU of
 * `PgStream` an event, each time in a process of its own, which counts the events of a copied slot by an async
 * handler and confirms them. What a stream costs once counts too: looking at its tables, and compiling
 * what is hot. Beside it, the same of a raw socket that counts changes and throws them away, `raw_…`: a server that takes longer
 * for each change sends smaller packets, and those cost whoever reads them.
 *
 * - `cpu_per_event_1m_vs_100k`: so many inserts, in transactions of 100. With `--full` 10 million beside 1 million:
 *   `cpu_per_event_10m_vs_1m`, which takes ten times as long.
 * - `cpu_per_event_1000_tables_vs_1`: as many inserts, each of the next table; all have the same columns.
 * - `cpu_per_event_1000_unlike_tables_vs_1`: the same where each table has columns of its own.
 * - `cpu_per_event_200_columns_vs_20`: rows of so many short texts.
 *
 * ```sh
 * deno task bench growth [--json] [--full] [--rows 100000] [--rounds 3] [--only tables]
 * ```
 */
import { parseArgs } from "node:util";
import { startPostgres } from "../tests/support/servers/postgres.ts";
import { remove, type Shape, tableNames, write } from "./support/grown.ts";
import { measureChild } from "./support/measured_child.ts";
import { dropSlot } from "./support/slots.ts";
import { inTurns, machine, median, print, ratio, type Report, rounded } from "./support/report.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    rows: { type: "string" },
    rounds: { type: "string", default: "3" },
    only: { type: "string", default: "" },
  },
});
const rounds = Number(values.rounds);
const few = Number(values.rows ?? (values.full ? 1_000_000 : 100_000));

const TABLES = 1000;
const some: Shape = { events: few, tables: 1, columns: 7 };
// Where the first event of each table would be most of its events, it would be that which is measured.
const perTable: Shape = { events: Math.max(few, 200 * TABLES), tables: 1, columns: 7 };
const narrow: Shape = { events: Math.min(few, 50_000), tables: 1, columns: 20 };
/** By the key of the report: much beside little. */
const QUESTIONS: Record<string, readonly [much: Shape, little: Shape]> = {
  [`${short(few * 10)}_vs_${short(few)}`]: [{ ...some, events: few * 10 }, some],
  [`${TABLES}_tables_vs_1`]: [{ ...perTable, tables: TABLES }, perTable],
  [`${TABLES}_unlike_tables_vs_1`]: [{ ...perTable, tables: TABLES, unlike: true }, perTable],
  "200_columns_vs_20": [{ ...narrow, columns: 200 }, narrow],
};

const server = await startPostgres({
  lifetimeMs: values.full ? 3_600_000 : 1_200_000,
  // The raw socket sends no password.
  hba: "host all all 127.0.0.1/32 trust",
  settings: {
    max_wal_size: "16GB",
    checkpoint_timeout: "1h",
    autovacuum: "off",
    max_locks_per_transaction: "256",
  },
});
try {
  const report: Report = { ...machine(), rounds };
  for (const [question, [much, little]] of Object.entries(QUESTIONS)) {
    if (!question.includes(values.only)) continue;
    await write(server, "much", much);
    await write(server, "little", little);
    const found = await inTurns(rounds, {
      much: () => microseconds("pgstream", "much", much),
      little: () => microseconds("pgstream", "little", little),
      rawMuch: () => microseconds("raw", "much", much),
      rawLittle: () => microseconds("raw", "little", little),
    });
    report[`cpu_per_event_${question}`] = rounded(ratio(found.much, found.little));
    report[`raw_cpu_per_event_${question}`] = rounded(ratio(found.rawMuch, found.rawLittle));
    const [large, small] = question.split("_vs_") as [string, string];
    const unit = large.split("_").slice(1).map((word) => `_${word}`).join("");
    report[`cpu_per_event_${large}_us`] = rounded(median(found.much));
    report[`cpu_per_event_${small}${unit}_us`] = rounded(median(found.little));
    report[`raw_cpu_per_event_${large}_us`] = rounded(median(found.rawMuch));
    report[`raw_cpu_per_event_${small}${unit}_us`] = rounded(median(found.rawLittle));
    for (const name of ["much", "little"]) await remove(server, name);
  }
  print(report, values.json);
} finally {
  await server.stop("immediate");
}

/** CPU of a process that takes all of the events, for each of them. */
async function microseconds(
  client: "pgstream" | "raw",
  name: string,
  { events, tables }: Shape,
): Promise<number> {
  const slot = `${name}_copy`;
  await server.query(`SELECT pg_copy_logical_replication_slot('${name}', '${slot}')`);
  const all = tableNames(name, tables).join();
  const args = [client, server.dsn, slot, name, all];
  const { cpuSeconds } = await measureChild("replay.ts", events, ...args);
  await dropSlot(server, slot);
  return cpuSeconds / events * 1e6;
}

/** A number of events as it stands in a key: 100k, 10m. */
function short(events: number): string {
  if (events % 1_000_000 === 0) return `${events / 1_000_000}m`;
  return events % 1000 === 0 ? `${events / 1000}k` : `${events}`;
}
