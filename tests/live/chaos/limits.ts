/** What must not be exceeded: patience of the server, memory, time to stop, WAL that is held back. */

import postgres from "postgres";
import { PgStream } from "../../../mod.ts";
import { sleep, until } from "../../support/streams.ts";
import { ConsumerProcess } from "./process.ts";
import { playRound, type RoundResult, type Stage, withWalSenderTimeout } from "./round.ts";

const TIMEOUT_MS = 2_000;
const BLOCKED_MS = 10 * TIMEOUT_MS;
const ROWS = 1_000_000;
const QUEUE_BYTES = 8 * 1024 * 1024;
const STOPS = 5;
const BATCH_MB = 256;
const MEMORY_LIMIT_MS = 300_000;

/** A handler that is blocked for ten times `wal_sender_timeout` keeps its connection. */
export function blocked(stage: Stage, seed: number): Promise<RoundResult> {
  return withWalSenderTimeout(stage, TIMEOUT_MS, () => playBlocked(stage, seed));
}

function playBlocked(stage: Stage, seed: number): Promise<RoundResult> {
  return playRound(stage, seed, {
    subjects: 1,
    subject: () => Promise.resolve({ plan: { firstCallMs: BLOCKED_MS, how: "onChange" } }),
    async harm({ subjects: [subject], result, count }) {
      await subject!.beginStreaming();
      const pid = await subject!.walsenderPid();
      const end = performance.now() + BLOCKED_MS;
      while (performance.now() < end) {
        const now = await subject!.walsenderPid();
        if (now !== pid) result.complaints.push(`the walsender was ${pid}, and is ${now}`);
        await sleep(200);
      }
      count("handler blocked for 20 s");
    },
    judge({ subjects: [subject], result }) {
      const { duplicates } = subject!.outcome!.oracle.verdict;
      if (duplicates > 0) result.complaints.push(`${duplicates} events came twice`);
    },
  });
}

/** How long a fast shutdown takes beside a client that has nothing to do. */
export function fastStop(stage: Stage, seed: number): Promise<RoundResult> {
  return playRound({ ...stage, writingMs: 500 }, seed, {
    subjects: 1,
    async harm({ world: { server, random }, subjects: [subject], measure, count }) {
      await subject!.beginStreaming();
      for (let stop = 0; stop < STOPS; stop++) {
        await until("the stream to be back", () => subject!.walsenderPid());
        await sleep(500 + random() * 1000);
        const since = performance.now();
        await server.shutdown("fast");
        measure("fast stop beside an idle client, ms", performance.now() - since);
        count("fast stop");
        await server.start();
      }
    },
  });
}

/** What a slot holds back when others write what nobody watches. */
export function retention(stage: Stage, seed: number): Promise<RoundResult> {
  return playRound({ ...stage, writingMs: 0 }, seed, {
    subjects: 1,
    async harm({ world, subjects: [subject], measure, count }) {
      await subject!.beginStreaming();
      const { server, schema } = world;
      const sql = postgres(server.dsn, { max: 1, onnotice: () => {} });
      try {
        await sql.unsafe(`CREATE TABLE ${schema}.unwatched (big text);
          ALTER TABLE ${schema}.unwatched ALTER big SET STORAGE EXTERNAL`);
        for (let mb = 0; mb < stage.unwatchedMb; mb += BATCH_MB) {
          await sql.unsafe(`INSERT INTO ${schema}.unwatched
            SELECT repeat('x', 1000000) FROM generate_series(1, ${BATCH_MB});
            TRUNCATE ${schema}.unwatched`);
          count(`${BATCH_MB} MB of unwatched writes`);
        }
        // A slot moves when the client confirms what came after the server's last note of open transactions.
        let segments = Infinity;
        await until("the slot to move", async () => {
          await sql.unsafe("CHECKPOINT");
          await sleep(500);
          const [row] = await sql.unsafe<{ bytes: number; segment: number }[]>(
            `SELECT (checkpoint.redo_lsn - slot.restart_lsn)::float8 AS bytes,
              control.bytes_per_wal_segment AS segment
            FROM pg_control_checkpoint() checkpoint, pg_control_init() control,
              pg_replication_slots slot
            WHERE slot.slot_name = '${subject!.slotName}'`,
          );
          segments = Math.max(0, row!.bytes / row!.segment);
          return segments <= 2;
        }, 60_000).catch(() => {});
        measure("WAL retained past the checkpoint, segments", segments);
      } finally {
        await sql.end({ timeout: 1 });
      }
    },
  });
}

/** What a transaction of a million rows takes of memory, with a sink that is slow. */
export async function memory(stage: Stage, seed: number): Promise<RoundResult> {
  const { server, runtimes } = stage;
  const runtime = runtimes[seed % runtimes.length]!;
  const name = `chaos_memory_${seed}`;
  const result: RoundResult = {
    faults: { "1 M rows into a slow sink": 1 },
    verdicts: [],
    runtimes: [runtime],
    figures: {},
    complaints: [],
  };
  await server.query(`DROP TABLE IF EXISTS ${name};
    CREATE TABLE ${name} (id int PRIMARY KEY, v text)`);
  const manager = new PgStream({ dsn: server.dsn, slotName: name, logger: false }).watch(name);
  await manager.setup();
  const consumer = await ConsumerProcess.start(runtime, "../../support/memory_consumer.ts", [
    ...[server.dsn, name, name],
    // Two transactions, and a pause of 10 ms after each thousand rows.
    ...[QUEUE_BYTES, 2, 1000, 10].map(String),
  ]);
  try {
    await server.query(`INSERT INTO ${name} SELECT n, repeat('x', 100)
      FROM generate_series(1, 10000) n`);
    const idle = await told(consumer, 1);
    await server.query(`INSERT INTO ${name} SELECT n, repeat('x', 100)
      FROM generate_series(10001, 10000 + ${ROWS}) n`);
    const { handled, mostBytes } = await told(consumer, 2);
    if (handled !== ROWS) result.complaints.push(`${handled} of ${ROWS} rows were handled`);
    const mb = (mostBytes! - idle.nowBytes!) / 1024 ** 2;
    result.figures["memory above idle for 1 M rows, MB"] = [mb];
    await Promise.race([consumer.exited, sleep(15_000)]);
  } catch (error) {
    result.complaints.push(`${error}\n${consumer.errors}`);
  } finally {
    await consumer.kill();
    await until("the slot to be free", () => manager.teardown().then(() => true, () => false));
    await server.query(`DROP TABLE ${name}`);
  }
  return result;
}

/** What the consumer printed of its nth transaction. */
async function told(
  consumer: ConsumerProcess,
  transaction: number,
): Promise<Record<string, number>> {
  const line = await until(
    `transaction ${transaction} to be handled`,
    () => {
      const line =
        consumer.said.filter(({ word }) => word.includes('"mostBytes"'))[transaction - 1];
      // It may end soon after its last line.
      if (line === undefined && consumer.exit !== null) {
        throw new Error(`It ended with ${consumer.exit.code}`);
      }
      return line;
    },
    MEMORY_LIMIT_MS,
  );
  return JSON.parse(line.word) as Record<string, number>;
}
