/**
 * Sessions that write the same rows, on servers of several majors. None of them has pgvector for certain, so vectors
 * are texts here, which the sink does not mind; with vectors: `native_pgvector_test.ts`.
 */

import { after, afterEach, before, describe, test } from "node:test";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import postgres from "postgres";
import { PgVectorSink, type PgVectorSinkOptions } from "../../src/sinks/pgvector.ts";
import type { RowState, RowWrite, StreamPosition } from "../../src/sinks/rows.ts";
import { SinkError } from "../../src/sinks/sink.ts";
import { at, row, scanAll, statesOf, SYSTEM } from "../contract/row_sink/rows.ts";
import { type Pgbouncer, startPgbouncer } from "../support/servers/pgbouncer.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { TcpProxy } from "../support/tcp_proxy.ts";
import { uniqueName, until, within, withServerOptions } from "../support/streams.ts";

const TABLE = "public.documents";

/** A table made by hand, as the sink's own hint says. */
async function makeTable(db: TestPostgres): Promise<string> {
  const table = uniqueName("vectors");
  await db.query(
    `CREATE TABLE ${table} (id text PRIMARY KEY, vector text NOT NULL, payload jsonb)`,
  );
  const sink = new PgVectorSink({ dsn: db.dsn, table });
  const error = await assertRejects(() => sink.prepareRows(), SinkError);
  await sink.close();
  await db.query(error.hint!.replace(/^.*?or run: /, ""));
  return table;
}

function position(endLsn: string): StreamPosition {
  return {
    systemId: SYSTEM,
    timeline: 1,
    slotName: "slot",
    endLsn,
    commitLsn: null,
    ordinal: null,
  };
}

for (const major of testMajors(10, 18)) {
  describe(`sessions that write the same rows, PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    const ends: (() => Promise<unknown>)[] = [];
    before(async () => {
      db = await testPostgres({ major });
    });
    afterEach(async () => {
      for (const end of ends.splice(0).reverse()) await end();
    });
    after(() => db.stop());

    function openSink(table: string, options: Partial<PgVectorSinkOptions> = {}): PgVectorSink {
      const sink = new PgVectorSink({
        ...(options.sql === undefined ? { dsn: db.dsn } : {}),
        table,
        ...options,
      });
      ends.push(() => sink.close());
      return sink;
    }

    function openPool(
      dsn: string,
      options: { max?: number; backoff?: () => number } = {},
    ): postgres.Sql {
      const sql = postgres(dsn, { onnotice: () => {}, ...options });
      ends.push(() => sql.end());
      return sql;
    }

    /** A transaction that is open until it is told to end. */
    async function openTransaction(): Promise<{
      sql: postgres.TransactionSql;
      commit(): Promise<void>;
    }> {
      const client = postgres(db.dsn, { max: 1, onnotice: () => {} });
      ends.push(() => client.end());
      const { promise: told, resolve: tell } = Promise.withResolvers<void>();
      const { promise: begun, resolve: begin } = Promise.withResolvers<postgres.TransactionSql>();
      const ended = client.begin(async (sql) => {
        begin(sql);
        await told;
      });
      const commit = async () => {
        tell();
        await ended;
      };
      ends.push(commit);
      return { sql: await begun, commit };
    }

    const isWaiting = () =>
      until(
        "a session waits for another",
        async () =>
          (await db.query(`SELECT 1 FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database()`)).length > 0,
      );

    async function assertHas(sink: PgVectorSink, ...rows: RowWrite[]): Promise<void> {
      const byId = (a: RowState, b: RowState) => a.id < b.id ? -1 : 1;
      assertEquals(
        (await scanAll(sink, TABLE)).sort(byId),
        rows.flatMap(statesOf).sort(byId),
      );
    }

    const older = row(TABLE, "1", at("0/1"), ["old", "older", "oldest"], { payload: { v: 1 } });
    const newer = row(TABLE, "1", at("0/2"), ["new"], { payload: { v: 2 } });
    const gone = row(TABLE, "1", at("0/2"), []);
    const races: [
      what: string,
      before: RowWrite[],
      first: RowWrite,
      second: RowWrite,
      left: RowWrite,
    ][] = [
      ["an older write behind a newer one adds nothing", [], newer, older, newer],
      ["a newer write behind an older one leaves nothing of it", [], older, newer, newer],
      ["a removal behind an older write that it cannot see yet removes it", [], older, gone, gone],
      [
        "an older write behind a newer one changes nothing of a row that was there",
        [row(TABLE, "1", at("0/0"), ["a", "b"])],
        newer,
        older,
        newer,
      ],
      [
        "an older removal behind a newer write removes nothing",
        [row(TABLE, "1", at("0/0"), ["a", "b"])],
        newer,
        { ...gone, position: at("0/1") },
        newer,
      ],
    ];
    for (const isolation of ["read committed", "repeatable read"]) {
      for (const [what, before, first, second, left] of races) {
        test(`${what}, where the default is ${isolation}`, async () => {
          const table = await makeTable(db);
          const dsn = withServerOptions(
            db.dsn,
            `-c default_transaction_isolation=${isolation.replace(" ", "\\ ")}`,
          );
          const sink = openSink(table, { dsn });
          await sink.apply(before, null);
          const transaction = await openTransaction();
          await new PgVectorSink({ sql: transaction.sql, table }).apply([first], null);
          const behind = sink.apply([second], null);
          await isWaiting();
          await transaction.commit();
          await within("the second write", behind);
          await assertHas(sink, left);
        });
      }
    }

    test("a table that is emptied behind a write that is not seen yet is empty", async () => {
      const table = await makeTable(db);
      const sink = openSink(table);
      await sink.prepareRows();
      const transaction = await openTransaction();
      await new PgVectorSink({ sql: transaction.sql, table }).apply([older], null);
      const behind = sink.deleteTable(TABLE, at("0/2"));
      await isWaiting();
      await transaction.commit();
      await within("the removal", behind);
      await assertHas(sink);
    });

    test("a process that lost its slot, and comes late, writes nothing", async () => {
      const table = await makeTable(db);
      const sink = openSink(table);
      await sink.prepareRows();
      const transaction = await openTransaction();
      const other = row(TABLE, "2", at("0/2"), ["other"]);
      const successor = new PgVectorSink({ sql: transaction.sql, table });
      await successor.apply([gone, other], position("0/20"));
      const late = sink.apply([older], position("0/10"));
      await isWaiting();
      await transaction.commit();
      await within("the late write", late);
      await assertHas(sink, other);
      const stored = await sink.position({ systemId: SYSTEM, slotName: "slot" });
      assertEquals(stored, position("0/20"));
    });

    test("many rows, in opposite orders, at the same time: no deadlock, and each has its last state", async () => {
      const table = await makeTable(db);
      const keys = Array.from({ length: 300 }, (_, index) => `key ${index}`);
      const writers = [0, 1, 2, 3].map((writer) => ({
        sink: openSink(table),
        keys: writer % 2 === 0 ? keys : keys.toReversed(),
        writer,
      }));
      const texts = (lsn: number) => ["a", "b", "c"].slice(0, lsn % 4);
      const write = (key: string, lsn: number) =>
        row(TABLE, key, at(`0/${lsn.toString(16).toUpperCase()}`), texts(lsn));
      await Promise.all(writers.map(async ({ sink, keys, writer }) => {
        for (let round = 1; round <= 10; round++) {
          const lsn = round * 4 + writer;
          const position = writer === 0 ? { ...positionOf(round) } : null;
          await sink.apply(keys.map((key) => write(key, lsn)), position);
        }
      }));
      await assertHas(writers[0]!.sink, ...keys.map((key) => write(key, 43)));
    });
    const positionOf = (round: number) => position(`0/${round}`);

    test("a session that is killed before it commits has written nothing, and tries again", async () => {
      const table = await makeTable(db);
      const sink = openSink(table);
      await sink.apply([older], position("0/10"));
      const blocker = await openTransaction();
      await blocker.sql.unsafe(`LOCK TABLE ${table} IN SHARE MODE`);
      const failing = sink.apply([newer], position("0/20")).then(() => null, (error) => error);
      await isWaiting();
      await db.query(`SELECT pg_terminate_backend(l.pid) FROM pg_locks l
        WHERE NOT l.granted AND l.relation = '${table}'::regclass`);
      const error = await within("the killed write", failing);
      assert(error instanceof SinkError);
      assertEquals([error.kind, error.retryable], ["sink-unreachable", true]);
      await blocker.commit();
      await assertHas(sink, older);
      const source = { systemId: SYSTEM, slotName: "slot" };
      assertEquals(await sink.position(source), position("0/10"));
      await sink.apply([newer], position("0/20"));
      await assertHas(sink, newer);
      assertEquals(await sink.position(source), position("0/20"));
    });

    test("a connection that is cut in a transaction is made anew, however often", async () => {
      const table = await makeTable(db);
      const proxy = await TcpProxy.start(db.dsn);
      ends.push(() => proxy.stop());
      const sink = openSink(table, {
        sql: openPool(proxy.through(db.dsn), { max: 3, backoff: () => 0 }),
      });
      await sink.prepareRows();
      // More often than the pool has connections.
      for (let time = 1; time <= 12; time++) {
        const blocker = await openTransaction();
        await blocker.sql.unsafe(`LOCK TABLE ${table} IN SHARE MODE`);
        const failing = sink.apply([older], null).then(() => null, (error) => error);
        await isWaiting();
        proxy.cut();
        const error = await within("the write that was cut", failing);
        assert(error instanceof SinkError);
        assertEquals([error.kind, error.retryable], ["sink-unreachable", true]);
        await blocker.commit();
      }
      await within(
        "the writes after it",
        Promise.all([newer, newer, newer].map((row) => sink.apply([row], null))),
      );
      await until(
        "what was cut has ended",
        async () =>
          (await db.query(`SELECT 1 FROM pg_locks WHERE relation = '${table}'::regclass`))
            .length === 0,
      );
      await assertHas(sink, newer);
    });

    test("a server that was not there for many calls is written to when it is", async () => {
      const table = await makeTable(db);
      const proxy = await TcpProxy.start(db.dsn);
      const dsn = proxy.through(db.dsn);
      const sink = openSink(table, { sql: openPool(dsn, { max: 3, backoff: () => 0 }) });
      await sink.prepareRows();
      await proxy.stop();
      const port = Number(new URL(dsn).port);
      for (let time = 1; time <= 4; time++) {
        const calls = Array.from(
          { length: 12 },
          () => sink.apply([older], null).then(() => null, (error) => error),
        );
        for (const error of await within("calls that fail", Promise.all(calls))) {
          assert(error instanceof SinkError);
          assertEquals([error.kind, error.retryable], ["sink-unreachable", true]);
        }
      }
      const server = await TcpProxy.start(db.dsn, port);
      ends.push(() => server.stop());
      const calls = Array.from({ length: 30 }, () => sink.apply([newer], null));
      await within("calls that work", Promise.all(calls));
      await assertHas(sink, newer);
    });

    test("a deadlock with somebody else's locks is worth another try", async () => {
      const table = await makeTable(db);
      // The session that looks first is the one that is told.
      const dsn = withServerOptions(db.dsn, "-c deadlock_timeout=3s");
      const sink = openSink(table, { dsn });
      const write = (lsn: string) =>
        ["1", "2"].map((key) => row(TABLE, key, at(lsn), [`${key} at ${lsn}`]));
      await sink.apply(write("0/1"), null);
      const other = await openTransaction();
      const touch = (key: string) =>
        other.sql.unsafe(`UPDATE ${table} SET payload = '{}' WHERE source_key = $1`, [key]);
      await other.sql.unsafe("SET LOCAL deadlock_timeout = '1h'");
      await touch("2");
      const writing = sink.apply(write("0/2"), null).then(() => null, (error) => error);
      await isWaiting();
      await Promise.all([touch("1"), within("the write", writing)]);
      const error = await writing;
      assert(error instanceof SinkError);
      assertEquals([error.kind, error.code, error.retryable], ["sink-rejected", "40P01", true]);
      await other.commit();
      await sink.apply(write("0/2"), null);
      await assertHas(sink, ...write("0/2"));
    });

    describe("behind PgBouncer in transaction mode", () => {
      let pooler: Pgbouncer | Error;
      before(async () => {
        pooler = await startPgbouncer(db.dsn).catch((error) => error);
      });
      after(async () => {
        if (!(pooler instanceof Error)) await pooler.stop();
      });

      const ways: [name: string, (dsn: string) => Partial<PgVectorSinkOptions>][] = [
        ["prepare: false", (dsn) => ({ dsn, prepare: false })],
        ["a sql of one's own, and prepare: false only for the sink", (dsn) => ({
          sql: openPool(dsn),
          prepare: false,
        })],
        ["prepare: false forgotten", (dsn) => ({ dsn })],
      ];
      for (const [name, options] of ways) {
        test(`what is said to be written is there: ${name}`, async (t) => {
          if (pooler instanceof Error) return t.skip(`no PgBouncer here: ${pooler.message}`);
          const { dsn } = pooler;
          const table = await makeTable(db);
          const sinks = [1, 2, 3].map(() => openSink(table, options(dsn)));
          const written: RowWrite[] = [];
          for (let lsn = 1; lsn <= 15; lsn++) {
            await Promise.all(sinks.map(async (sink, index) => {
              const shared = row(
                TABLE,
                "shared",
                at(`0/${lsn.toString(16).toUpperCase()}`, index),
                ["a", `${lsn} ${index}`],
              );
              const own = row(TABLE, `${lsn} ${index}`, at(`0/${lsn.toString(16).toUpperCase()}`), [
                "b",
              ]);
              try {
                await sink.apply([shared, own], {
                  ...position(`0/${lsn.toString(16).toUpperCase()}`),
                  slotName: `${index}`,
                });
                written.push(own);
              } catch (error) {
                assert(error instanceof SinkError);
                assertStringIncludes(error.hint!, "prepare: false");
                assert(name.includes("forgotten"), error.message);
              }
            }));
          }
          const direct = openSink(table);
          const found = new Map((await scanAll(direct, TABLE)).map((state) => [state.id, state]));
          for (const state of written.flatMap(statesOf)) assertEquals(found.get(state.id), state);
          if (name.includes("forgotten")) return;
          assertEquals(written.length, 45);
          const shared = row(TABLE, "shared", at("0/F", 2), ["a", "15 2"]);
          for (const state of statesOf(shared)) assertEquals(found.get(state.id), state);
          const source = { systemId: SYSTEM, slotName: "1" };
          assertEquals(await sinks[1]!.position(source), { ...position("0/F"), slotName: "1" });
        });
      }
    });
  });
}
