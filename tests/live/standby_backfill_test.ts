/** Existing rows that are read from a standby, beside the changes that it replays. */

import { assert, assertEquals, assertGreater, assertMatch } from "@std/assert";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { MemoryStateStore, parseLsn, PgStream, type PgStreamOptions } from "../../mod.ts";
import { initial, over, sameRows, StoreModel } from "../support/backfills.ts";
import {
  loggingSnapshots,
  promote,
  replayed,
  startStandby,
} from "../support/servers/copied_server.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer, testMajors } from "../support/servers/test_postgres.ts";
import {
  type Database,
  LogLines,
  openClient,
  sleep,
  started,
  uniqueName,
  until,
  within,
} from "../support/streams.ts";
import { currentLsn, Gate } from "../support/test_table.ts";
import { backfill, straw } from "./chaos/backfill.ts";
import { ownRuntime } from "./chaos/process.ts";
import type { RoundResult, Stage } from "./chaos/round.ts";
import type { Scenario } from "./chaos/scenarios.ts";

const seed = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
const rounds = Number(process.env.CHAOS_ROUNDS ?? 2);
const SHORT = { writingMs: 500, faultyEvents: 0, unwatchedMb: 0 };

const sumOf = (results: readonly RoundResult[], fault: string) =>
  results.reduce((sum, { faults }) => sum + (faults[fault] ?? 0), 0);
const complaintsOf = (results: readonly RoundResult[]) =>
  results.flatMap(({ complaints }) => complaints);

const databaseOf = (server: PostgresServer): Database => {
  return { dsn: server.dsn, query: (sql) => server.query(sql) };
};

/** A table with rows on the primary, and a stream of it from the standby, whose slot is made. */
async function tableWithRows(
  primary: PostgresServer,
  standby: PostgresServer,
  rows: number,
  options: PgStreamOptions = {},
): Promise<{ table: string; slotName: string; stream: PgStream; model: StoreModel }> {
  const [slotName, table] = [uniqueName(), uniqueName("rows")];
  await primary.query(`CREATE TABLE ${table} (id int PRIMARY KEY, v text)`);
  await primary.query(`INSERT INTO ${table} SELECT n, 'old' FROM generate_series(1, ${rows}) n`);
  await primary.query(`CREATE PUBLICATION ${slotName} FOR TABLE ${table}`);
  await replayed(primary, standby);
  const model = new StoreModel();
  const stream = new PgStream({
    ...initial,
    dsn: standby.dsn,
    slotName,
    logger: false,
    stateStore: new MemoryStateStore(),
    reconnect: { minDelayMs: 10, maxDelayMs: 200 },
    ...options,
  }).watch(table).onChange(model.take);
  await loggingSnapshots(primary, () => stream.setup());
  return { table, slotName, stream, model };
}

for (const major of testMajors(18, 17, 16)) {
  describe(
    `rows of a standby of PostgreSQL ${major}, CHAOS_SEED=${seed}`,
    { skip: needsOwnServer },
    () => {
      let primary: PostgresServer;
      let standby: PostgresServer;
      before(async () => {
        primary = await startPostgres({ major, settings: { max_prepared_transactions: "20" } });
        standby = await startStandby(primary, {
          slotName: "standby",
          // Whoever reads while a TRUNCATE is replayed is thrown out soon.
          settings: {
            hot_standby_feedback: "on",
            max_standby_streaming_delay: "50ms",
            // One that has always received more than it has replayed.
            ...major === 17 ? { recovery_min_apply_delay: "20ms" } : {},
          },
        });
      });
      after(async () => {
        await standby?.stop("immediate");
        await primary?.stop("immediate");
      });

      async function play(scenario: Scenario, count: number, first = 0): Promise<RoundResult[]> {
        const stage: Stage = { server: primary, standby, runtimes: [ownRuntime], ...SHORT };
        const results: RoundResult[] = [];
        for (let round = first; round < first + count; round++) {
          results.push(await scenario(stage, seed + major * 1000 + round));
        }
        return results;
      }

      test("beside changes make the tables, and nothing goes back in time (37)", async () => {
        const results = await play(backfill, rounds);
        assertEquals(complaintsOf(results), []);
        assertGreater(sumOf(results, "transaction"), 20);
      });

      test("that are read without any care are found out", async () => {
        let complaints = "";
        for (let round = 0; round < 12 && complaints === ""; round++) {
          complaints = complaintsOf(await play(straw, 1, round)).join("\n");
        }
        assertMatch(complaints, /back in time|stands before what came before it|stale|lost|orphan/);
      });

      test("wait for transactions that were open on the primary, and say so (41)", async () => {
        const logger = new LogLines();
        const { table, stream, model } = await tableWithRows(primary, standby, 20, { logger });
        const sql = openClient(primary.dsn);
        try {
          const ended = await sql.begin(async (sql) => {
            await sql.unsafe("CREATE TEMP TABLE other (id int) ON COMMIT DROP");
            await sql.unsafe(`UPDATE ${table} SET v = 'open' WHERE id = 1`);
            await sql.unsafe("SELECT pg_current_wal_flush_lsn()");
            await primary.query(`INSERT INTO ${table} VALUES (1000, 'new')`);
            await replayed(primary, standby);
            const running = await started(stream);
            await until("the new row", () => model.rows.has("1000"));
            await sleep(500);
            assertEquals(model.backfilled, []);
            await until(
              "the warning",
              () =>
                logger.lines.some((line) =>
                  /waits for transactions .* pg_stat_activity/.test(line)
                ),
            );
            return running;
          });
          await over(stream);
          await replayed(primary, standby);
          await until("the update", () => model.rows.get("1")?.v === "open");
          await ended.stop();
          await sameRows(databaseOf(primary), model, table);
        } finally {
          await sql.end({ timeout: 1 });
          await stream.teardown();
        }
      });

      test("are read again where the standby threw the reader out (42)", async () => {
        const logger = new LogLines();
        const { table, stream, model } = await tableWithRows(primary, standby, 60, { logger });
        const running = await started(stream);
        await over(stream);
        const before = model.backfilled.length;
        const reading = stream.backfill(table, { where: "pg_sleep(0.03) IS NOT NULL" });
        const conflicts = () =>
          logger.lines.filter((line) => /^warn .*conflict with recovery/.test(line)).length;
        // A lock on the primary, which the reader's keeps the standby from replaying.
        await until("two conflicts", async () => {
          await primary.query(`ALTER TABLE ${table} ALTER v SET STORAGE EXTERNAL`);
          await primary.query(`UPDATE ${table} SET v = v || '.' WHERE id % 10 = 0`);
          await sleep(100);
          return conflicts() >= 2;
        });
        await within("the rows to be read again", reading, 30_000);
        assertEquals(new Set(model.backfilled.slice(before)).size, 60);
        const lsn = await currentLsn(databaseOf(primary));
        await until("the last change", () => parseLsn(stream.status().handledLsn) >= lsn);
        await sameRows(databaseOf(primary), model, table);
        await running.stop();
        await stream.teardown();
      });
    },
  );

  test(
    `rows of a standby of PostgreSQL ${major} that is promoted meanwhile`,
    { skip: needsOwnServer },
    async () => {
      const primary = await startPostgres({ major });
      const standby = await startStandby(primary, {
        slotName: "standby",
        settings: { hot_standby_feedback: "on" },
      });
      const done = new AbortController();
      const options = { backfillChunk: { maxRows: 40 } };
      const { table, stream, model } = await tableWithRows(primary, standby, 3000, options);
      try {
        const promoted = new Gate();
        let slow = true;
        stream.onChange(async () => {
          // Read on while that goes on, and not to the end.
          if (slow) await sleep(1);
          if (slow && model.backfilled.length > 1500) await promoted.pass();
        });
        const running = await started(stream);
        let server = primary;
        const writing = (async () => {
          for (let round = 0; !done.signal.aborted; round++) {
            await server.query(
              `UPDATE ${table} SET v = 'round ${round}' WHERE id % 300 = ${round % 300}`,
            ).catch(() => {});
            // No more than a slow handler can take.
            await sleep(150);
          }
        })();
        await until("some rows", () => (stream.status().backfill?.rows ?? 0) > 100);
        await primary.kill9();
        await promote(standby);
        server = standby;
        const { backfill } = stream.status();
        assert(backfill !== null, "all was read before the promotion");
        slow = false;
        promoted.open();
        await over(stream);
        done.abort();
        await writing;
        await standby.query(`INSERT INTO ${table} VALUES (100000, 'last')`);
        await until("the last row", () => model.rows.has("100000"), 30_000);
        await running.stop();
        await sameRows(databaseOf(standby), model, table);
        // But for those that changes told of meanwhile.
        assertGreater(new Set(model.backfilled).size, 2500);
        assert(!model.events.some(({ operation }) => operation === "truncate"));
      } finally {
        done.abort();
        await stream.stop();
        await standby.stop("immediate");
        await primary.stop("immediate");
      }
    },
  );
}
