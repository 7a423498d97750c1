/**
 * What a stream costs, in time and in CPU, beside a raw socket that throws away what it gets, and beside other clients:
 * how much of the server's speed is left, and how much of a core is taken.
 *
 * One server has written a transaction of many inserts, one of updates, and many of a single row. Each client
 * replays all of it, in a process of its own, from a copy of a slot that nobody reads; every change is counted by
 * an async handler where the client has handlers. The time and the CPU are those from before it connects until
 * the last change is counted; for `PgStream` until all is confirmed, which is looked at in the slot. A large
 * transaction is sent once the server has decoded all of it: all clients wait for that alike.
 *
 * pg-logical-replication runs with its flow control and default acknowledgement, which answers each message with
 * a write; and once more without any. pgwire decodes text, and parses no value that nobody reads.
 *
 * Left out: `subscribe` of postgres.js. It makes a temporary slot of its own when it connects, and starts there: it
 * cannot be given one that keeps changes.
 *
 * ```sh
 * deno task bench stream [--json] [--rows 800000] [--rounds 3]
 * ```
 */
import { parseArgs } from "node:util";
import { parseLsn } from "../mod.ts";
import { startPostgres } from "../tests/support/servers/postgres.ts";
import { dropSlot } from "./support/slots.ts";
import { measureChild, type Measured } from "./support/measured_child.ts";
import { inTurns, machine, median, print, ratio, type Report, rounded } from "./support/report.ts";

const CLIENTS = [
  "raw",
  "pgstream",
  "pg-logical-replication",
  "pg-logical-replication-unconfirmed",
  "pgwire",
] as const;
type Client = typeof CLIENTS[number];

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rows: { type: "string", default: "800000" },
    rounds: { type: "string", default: "3" },
  },
});
const rows = Number(values.rows);
const inserts = Math.round(rows / 8) * 5;
const updates = Math.round(rows / 8);
const singles = rows - inserts - updates;

const server = await startPostgres({
  lifetimeMs: 1_800_000,
  // The raw socket sends no password.
  hba: "host all all 127.0.0.1/32 trust",
  // Nothing of the server's own runs beside it, and nothing makes it send the table's shape again.
  settings: { max_wal_size: "8GB", checkpoint_timeout: "1h", autovacuum: "off" },
});
try {
  const endLsn = await writeChanges();
  const measured = Object.fromEntries(CLIENTS.map((client) => [client, []])) as unknown as Record<
    Client,
    Measured[]
  >;
  const contenders = Object.fromEntries(CLIENTS.map((client) => [client, async () => {
    const found = await replay(client, endLsn);
    measured[client].push(found);
    return found.wallSeconds;
  }])) as Record<Client, () => Promise<number>>;
  await inTurns(Number(values.rounds), contenders);
  const wall = (client: Client) => measured[client].map(({ wallSeconds }) => wallSeconds);
  const cpu = (client: Client) => measured[client].map(({ cpuSeconds }) => cpuSeconds);
  const report: Report = { ...machine(), changes: rows, rounds: Number(values.rounds) };
  const peer = "pg-logical-replication";
  report.stream_wall_vs_raw = rounded(ratio(wall("pgstream"), wall("raw")));
  report.stream_cpu_vs_raw = rounded(ratio(cpu("pgstream"), cpu("raw")));
  for (const other of [peer, `${peer}-unconfirmed`, "pgwire"] as const) {
    report[`stream_cpu_vs_${keyOf(other)}`] = rounded(ratio(cpu("pgstream"), cpu(other)));
  }
  for (const client of CLIENTS) {
    report[`${keyOf(client)}_wall_s`] = rounded(median(wall(client)));
    report[`${keyOf(client)}_cpu_s`] = rounded(median(cpu(client)));
    report[`${keyOf(client)}_changes_per_s`] = Math.round(rows / median(wall(client)));
  }
  print(report, values.json);
} finally {
  await server.stop("immediate");
}

/** Makes the table, the slot that stays, and the changes. @returns where they end */
async function writeChanges(): Promise<string> {
  await server.query(`
    CREATE TABLE changes (id int PRIMARY KEY, title text, body text, author_id int,
      score float8, published boolean, created_at timestamptz);
    CREATE PUBLICATION bench FOR TABLE changes`);
  await server.query("SELECT pg_create_logical_replication_slot('bench', 'pgoutput')");
  await server.query("SET synchronous_commit = off");
  const insert = `INSERT INTO changes SELECT n, 'On slots, part ' || n,
    repeat('What is not confirmed is kept. ', 4), n % 1000, n / 7.0, n % 3 = 0, now()`;
  await server.query(`${insert} FROM generate_series(1, ${inserts}) n`);
  await server.query(`UPDATE changes SET score = score + 1 WHERE id <= ${updates}`);
  await server.query(`DO $$ BEGIN FOR n IN ${inserts + 1} .. ${inserts + singles} LOOP
    ${insert}; COMMIT; END LOOP; END $$`);
  // Behind the last commit: nothing else writes.
  const [end] = await server.query<{ lsn: string }>("SELECT pg_current_wal_insert_lsn() AS lsn");
  return end!.lsn;
}

/** One client on a slot of its own. */
async function replay(client: Client, endLsn: string): Promise<Measured> {
  const slot = "bench_copy";
  await server.query(`SELECT pg_copy_logical_replication_slot('bench', '${slot}')`);
  const args = [client, server.dsn, slot, "bench", "changes"];
  const measured = await measureChild("replay.ts", rows, ...args);
  if (client === "pgstream") {
    const [{ confirmed } = { confirmed: "0/0" }] = await server.query<{ confirmed: string }>(
      `SELECT confirmed_flush_lsn AS confirmed FROM pg_replication_slots WHERE slot_name = '${slot}'`,
    );
    if (parseLsn(confirmed) < parseLsn(endLsn)) {
      throw new Error(`Confirmed was ${confirmed}, not ${endLsn}`);
    }
  }
  await dropSlot(server, slot);
  return measured;
}

/** As it stands in a report's keys. */
function keyOf(client: Client): string {
  return client.replaceAll("-", "_");
}
