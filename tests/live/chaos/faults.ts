/** Many events through eight lanes into a sink that fails 5 % of the time: the order of each item holds. */

import postgres from "postgres";
import { parseLsn, PgStream } from "../../../mod.ts";
import { seededRandom } from "../../support/random.ts";
import { sleep, within } from "../../support/streams.ts";
import type { PostgresServer } from "../../support/servers/postgres.ts";
import type { FaultsPlan, FaultsReport } from "./faults_consumer.ts";
import { verdictOf } from "./oracle.ts";
import { ConsumerProcess } from "./process.ts";
import type { RoundResult, Stage } from "./round.ts";

const ITEMS = 2000;
const WRITERS = 2;
/** Room for each key to move to, and to come back from. */
const AWAY = 1_000_000;
const PATIENCE_MS = 60_000;

/** One round: about as many events as can be handled while they are written. */
export async function faults(stage: Stage, seed: number): Promise<RoundResult> {
  const { server, runtimes, faultyEvents } = stage;
  const runtime = runtimes[seed % runtimes.length]!;
  const name = `chaos_faults_${seed}`;
  const result: RoundResult = {
    faults: {},
    verdicts: [],
    runtimes: [runtime],
    figures: {},
    complaints: [],
  };
  await server.query(`DROP TABLE IF EXISTS ${name};
    CREATE TABLE ${name} (id int PRIMARY KEY, item int NOT NULL, v int NOT NULL);
    ALTER TABLE ${name} REPLICA IDENTITY FULL`);
  const manager = new PgStream({ dsn: server.dsn, slotName: name, logger: false }).watch(name);
  await manager.setup();
  const plan: FaultsPlan = {
    options: {
      dsn: server.dsn,
      slotName: name,
      concurrency: 8,
      // Beyond any doubt: at 5 %, one in 10^26 would be given up.
      retry: { attempts: 20, minDelayMs: 0 },
    },
    table: name,
    items: ITEMS,
    how: seed % 2 === 0 ? "onChange" : "onBatch",
    seed,
    failing: 0.05,
  };
  const consumer = await ConsumerProcess.start(runtime, "faults_consumer.ts", [
    JSON.stringify(plan),
  ]);
  try {
    const written = await write(server, name, seed, faultyEvents);
    const behind = await untilConfirmed(server, name, consumer);
    await consumer.heard("started");
    consumer.signal("SIGTERM");
    const said = await within("the consumer to stop", consumer.heard("report"));
    if (behind) result.complaints.push("the slot did not reach the end");
    if (said === null) {
      result.complaints.push(`ended with ${consumer.exit?.code}: ${consumer.errors}`);
    } else {
      await judge(JSON.parse(said) as FaultsReport, written, server, name, result);
    }
  } catch (error) {
    result.complaints.push(`${error}`);
  } finally {
    await consumer.kill();
    await manager.teardown().catch((error) => result.complaints.push(`${error}`));
    await server.query(`DROP TABLE ${name}`);
  }
  return result;
}

/** @returns how many changes were committed. */
async function write(
  server: PostgresServer,
  table: string,
  seed: number,
  events: number,
): Promise<number> {
  const counts = await Promise.all(
    Array.from({ length: WRITERS }, async (_, writer) => {
      const random = seededRandom(seed * WRITERS + writer);
      const sql = postgres(server.dsn, { max: 1, onnotice: () => {} });
      const size = ITEMS / WRITERS;
      const first = writer * size;
      let count = 0;
      // A random stretch of the items of this writer, where they are now; others share no item with it.
      const stretch = () => {
        const from = first + Math.floor(random() * size);
        return `item BETWEEN ${from} AND ${Math.min(first + size, from + random() * 500) - 1}`;
      };
      const run = async (text: string, each = 1) => {
        const rows = await sql.unsafe(text);
        count += rows.count * each;
      };
      await run(`INSERT INTO ${table} SELECT n, n, 1
        FROM generate_series(${first}, ${first + size - 1}) n`);
      while (count < events / WRITERS) {
        await sql.unsafe("BEGIN");
        for (let statement = 0; statement < 1 + random() * 5; statement++) {
          const chance = random();
          if (chance < 0.7) {
            await run(`UPDATE ${table} SET v = v + 1 WHERE ${stretch()}`);
          } else if (chance < 0.85) {
            await run(`UPDATE ${table} SET v = v + 1, id = (id + ${AWAY}) % ${2 * AWAY}
              WHERE ${stretch()}`);
          } else {
            await run(
              `WITH gone AS (DELETE FROM ${table} WHERE ${stretch()} RETURNING *)
              INSERT INTO ${table} SELECT id, item, v + 1 FROM gone`,
              2,
            );
          }
        }
        await sql.unsafe("COMMIT");
      }
      await sql.end();
      return count;
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Waits until all that was written is confirmed. @returns true where it never was. */
async function untilConfirmed(
  server: PostgresServer,
  slotName: string,
  consumer: ConsumerProcess,
): Promise<boolean> {
  const [end] = await server.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
  let reached = 0n;
  let progressAt = performance.now();
  while (consumer.exit === null && performance.now() - progressAt < PATIENCE_MS) {
    const [slot] = await server.query<{ lsn: string }>(
      `SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots
      WHERE slot_name = '${slotName}'`,
    );
    const confirmed = parseLsn(slot!.lsn);
    if (confirmed >= parseLsn(end!.lsn)) return false;
    if (confirmed > reached) progressAt = performance.now();
    reached = confirmed;
    await sleep(50);
  }
  return true;
}

async function judge(
  report: FaultsReport,
  written: number,
  server: PostgresServer,
  table: string,
  result: RoundResult,
): Promise<void> {
  const rows = await server.query<{ item: number; v: number }>(`SELECT item, v FROM ${table}`);
  const stale = rows.filter(({ item, v }) => report.versions[item] !== v).length;
  const verdict = verdictOf({
    committed: written,
    lost: Math.max(written - report.handled, stale),
    misordered: report.misordered + report.overlapping,
    unexplained: Math.max(report.handled - written, 0),
    complaints: report.complaints,
  });
  result.verdicts.push(verdict);
  result.faults = { "sink fault": report.failed, retry: report.retries };
  result.complaints.push(...report.complaints);
  if (report.handled !== written) {
    result.complaints.push(`${written} changes were committed, ${report.handled} handled`);
  }
  if (stale > 0) result.complaints.push(`${stale} items are not at their last version`);
}
