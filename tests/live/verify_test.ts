/** A table and a store that are compared while both change: what differs is found and mended, and nothing else. */

import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { after, before, describe, test } from "node:test";
import {
  MemorySink,
  PgStream,
  type PgStreamOptions,
  rowPointId,
  type RowSink,
  type RowState,
} from "../../mod.ts";
import { TableReader } from "../../src/backfill/table_reader.ts";
import { ValueTypes } from "../../src/delivery/row_values.ts";
import { silentLogger } from "../../src/logger.ts";
import { parseTableName } from "../../src/table_name.ts";
import type { BatchEmbedder } from "../../src/sync/batched_embedder.ts";
import type { Embedder } from "../../src/sync/embedder.ts";
import type { SyncOptions } from "../../src/sync/options.ts";
import { resolveSync } from "../../src/sync/resolve_options.ts";
import type { RowMaker } from "../../src/sync/row_maker.ts";
import { Verification, type VerifyOptions, type VerifyReport } from "../../src/sync/verify.ts";
import { Connector } from "../../src/wire/connector.ts";
import { heapBytes } from "../support/collect_garbage.ts";
import { seededRandom } from "../support/random.ts";
import {
  needsOwnServer,
  testMajors,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import { openClient, started, uniqueName, until, within } from "../support/streams.ts";

const words = (text: string): string[] => text.split(" ");

/** A stream that keeps a store in step with a table. */
interface SyncedStore {
  store: MemorySink;
  maker: RowMaker;
  /** Texts that were embedded. */
  texts: string[];
  verify(options?: VerifyOptions): Promise<VerifyReport>;
  stop(): Promise<void>;
}

async function startSync(
  db: TestPostgres,
  table: string,
  more: PgStreamOptions = {},
): Promise<SyncedStore> {
  const texts: string[] = [];
  const store = new MemorySink();
  const options: SyncOptions = {
    text: (row) => row.body,
    embed: (some) => {
      texts.push(...some);
      return Promise.resolve(some.map((text) => [text.length, 1]));
    },
    model: "model@1",
    chunk: words,
    payload: ["tag", "body", "at"],
  };
  const slotName = uniqueName();
  const stream = new PgStream({ dsn: db.dsn, slotName, logger: false, ...more }).sink(store);
  stream.sync(table, options);
  await stream.setup();
  const running = await started(stream);
  await until("the backfill to be over", () => stream.status().backfill === null);
  const { maker } = resolveSync(parseTableName(table), options, {
    sink: store,
    embedders: new WeakMap<Embedder, BatchEmbedder>(),
  });
  return {
    store,
    maker,
    texts,
    // Rows that nobody may rewrite yet are waited for, for ever.
    verify: (options) => within("verify()", stream.verify(table, options), 90_000),
    stop: async () => {
      await running.stop();
      await stream.teardown();
    },
  };
}

function readerOf(db: TestPostgres, table: string, publicationName: string): TableReader {
  const types = Promise.resolve(new ValueTypes({}));
  return new TableReader({
    connector: new Connector({ dsn: db.dsn, logger: silentLogger }),
    publicationName,
    name: parseTableName(table),
    loadTypes: () => types,
  });
}

const named = ({ differences }: VerifyReport): string[] =>
  differences.map(({ key, chunk, kind }) => `${kind} ${key} ${chunk}`).sort();

for (const major of testMajors(18, 13)) {
  describe(`verify on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    const open: SyncedStore[] = [];
    before(async () => {
      db = await testPostgres({ major, settings: { autovacuum: "off" } });
    });
    after(async () => {
      // Of a test that failed: its process would not end, and nobody would learn why.
      for (const synced of open) await synced.stop().catch(() => {});
      await db?.stop();
    });

    async function startSynced(table: string): Promise<SyncedStore> {
      const one = await startSync(db, table, { concurrency: major === 18 ? 1 : 4 });
      open.push(one);
      return one;
    }

    async function tableOf(rows: number, body = "'a' || i || ' b c'"): Promise<string> {
      const table = uniqueName("docs");
      await db.query(
        `CREATE TABLE ${table} (id int PRIMARY KEY, tag numeric, body text, at timestamptz);
        INSERT INTO ${table} SELECT i, i / 4.0, ${body}, timestamptz '2020-01-01' + i * interval '1 s'
          FROM generate_series(1, ${rows}) i`,
      );
      return table;
    }

    /** Writes a row into the store behind the stream's back. */
    async function corrupt(
      { store, maker }: SyncedStore,
      key: string,
      { body, tag = Number(key) / 4, at }: { body: string; tag?: number; at?: string },
    ): Promise<void> {
      const { table, model } = maker;
      const row = { tag, body, at: at ?? new Date(Date.UTC(2020, 0, 1) + Number(key) * 1000) };
      const { points } = await maker.make(key, row);
      for (let chunk = 0; chunk < 5; chunk++) await store.delete(rowPointId(table, key, chunk));
      const position = { systemId: "1", timeline: 1, lsn: "0/1", ordinal: 0 };
      await store.apply([{
        ...{ table, key, position, model, surplus: true },
        points: points.map(({ text: _, ...point }) => ({ ...point, vector: [0, 0] })),
      }], null);
    }

    test("beside changes each break is found, and exactly those are mended", async () => {
      const table = await tableOf(3000);
      const synced = await startSynced(table);
      const writer = openClient(db.dsn);
      const stop = new AbortController();
      let written = 0;
      const writing = (async () => {
        const random = seededRandom(major);
        while (!stop.signal.aborted) {
          const id = 1000 + Math.floor(random() * 2200);
          const text = ["", "x", "x y", "x y z w"][Math.floor(random() * 4)]!;
          await writer.unsafe(
            [
              `UPDATE ${table} SET body = '${text}' WHERE id = ${id}`,
              `UPDATE ${table} SET tag = tag + 1 WHERE id = ${id}`,
              `DELETE FROM ${table} WHERE id = ${id}`,
              `INSERT INTO ${table} VALUES (${id}, 1, '${text}') ON CONFLICT DO NOTHING`,
              `UPDATE ${table} SET id = ${id} + 5000 WHERE id = ${id}
              AND NOT EXISTS (SELECT 1 FROM ${table} WHERE id = ${id} + 5000)`,
            ][Math.floor(random() * 5)]!,
          );
          written++;
        }
      })();
      try {
        const name = synced.maker.table;
        await synced.store.delete(rowPointId(name, "5", 1));
        await corrupt(synced, "6", { body: "old b c" });
        await corrupt(synced, "7", { body: "a7 b c", tag: -1 });
        await corrupt(synced, "8", { body: "a8 b c d" });
        await corrupt(synced, "9", { body: "a9 b" });
        await corrupt(synced, "-1", { body: "gone again" });
        await corrupt(synced, "no number", { body: "gone", tag: 1, at: "" });
        const broken = [
          "missing 5 1",
          // The text is in the payload, too.
          ...["stale 6 0", "stale 6 1", "stale 6 2"],
          ...["stale 7 0", "stale 7 1", "stale 7 2"],
          ...["stale 8 0", "stale 8 1", "stale 8 2", "orphaned 8 3"],
          ...["stale 9 0", "stale 9 1", "missing 9 2"],
          ...["orphaned -1 0", "orphaned -1 1", "orphaned no number 0"],
        ].sort();
        const report = await synced.verify();
        assertEquals(named(report).filter((line) => !line.startsWith("unsettled")), broken);
        assert(report.rows > 2500 && report.points > 2500 && report.unsettled < 5);

        const before = synced.texts.length;
        const mended = await synced.verify({ repair: true });
        assertEquals(
          named(mended).filter((line) => !line.startsWith("unsettled")),
          broken.filter((line) => line !== "orphaned 8 3"),
        );
        assertEquals(mended.repaired, broken.length - 1);
        // Only what was not there: of 5, 6 and 9 a text each. The rest is the writer's.
        const texts = synced.texts.slice(before).filter((text) => !/^[xyzw]$/.test(text));
        assertEquals(texts.filter((text) => !/^a[1-9]\d{3}$|^[bc]$/.test(text)).sort(), ["a6"]);
        assert(written > 100, `${written}`);
      } finally {
        stop.abort();
        await writing;
        await writer.end();
      }
      const last = await synced.verify();
      assertEquals(named(last), []);
      const [counted] = await db.query<{ rows: number; points: number }>(
        `SELECT count(*)::int AS rows, sum(CASE WHEN body = '' THEN 0 ELSE
          array_length(string_to_array(body, ' '), 1) END)::int AS points FROM ${table}`,
      );
      assertEquals([last.rows, last.points], [counted!.rows, counted!.points]);
      await synced.stop();
    });

    // Which version hides it is no matter.
    if (major !== 18) return;
    test("what is committed and not shown yet is neither found nor removed", {
      skip: needsOwnServer,
    }, async () => {
      const table = await tableOf(20);
      const synced = await startSynced(table);
      const clients = [
        openClient(db.dsn),
        openClient(db.dsn),
        openClient(db.dsn),
        openClient(db.dsn),
      ];
      const set = async (value: string) => {
        await db.query(`ALTER SYSTEM SET synchronous_standby_names = '${value}'`);
        await db.query("SELECT pg_reload_conf()");
        for (const sql of clients) {
          await until(
            "the setting to be known",
            async () =>
              (await sql.unsafe("SHOW synchronous_standby_names"))[0]!.synchronous_standby_names ===
                value,
          );
        }
      };
      // Those that are not to wait.
      await db.query(`ALTER DATABASE ${db.database} SET synchronous_commit = local`);
      for (const sql of clients) await sql.unsafe("SET synchronous_commit = on");
      await set("nobody");
      // Sessions know it before the server's checkpointer does, which is who makes commits wait.
      const pids = await Promise.all(
        clients.map(async (sql) =>
          (await sql.unsafe("SELECT pg_backend_pid() AS pid"))[0]!.pid as number
        ),
      );
      const blocked = async () => {
        const [row] = await db.query<{ n: number }>(
          `SELECT count(*)::int AS n FROM pg_stat_activity
          WHERE wait_event = 'SyncRep' AND pid IN (${pids.join()})`,
        );
        return row!.n;
      };
      await until("commits to wait", async () => {
        let over = false;
        const probe = clients[0]!.unsafe("SELECT pg_logical_emit_message(true, 'probe', '')")
          .finally(() => over = true);
        await until("the probe", async () => over || await blocked() === 1);
        if (over) return false;
        await db.query(`SELECT pg_cancel_backend(${pids[0]})`);
        await probe;
        return true;
      });
      const waiting = [
        `INSERT INTO ${table} VALUES (100, 1, 'hidden one')`,
        `UPDATE ${table} SET body = 'hidden two' WHERE id = 3`,
        `UPDATE ${table} SET body = '' WHERE id = 4`,
        `DELETE FROM ${table} WHERE id = 5`,
      ].map((sql, at) => clients[at]!.unsafe(sql).then(() => {}));
      try {
        await until("all to wait", async () => await blocked() === waiting.length);
        const of = async (key: string) => {
          const { points } = await synced.store.scan(synced.maker.table, {
            after: null,
            limit: 999,
          });
          return points.filter((point) => point.key === key).length;
        };
        await until(
          "all to be handled",
          async () =>
            await of("100") === 2 && await of("3") === 2 && await of("4") + await of("5") === 0,
        );
        const { points } = await synced.store.scan(synced.maker.table, { after: null, limit: 999 });
        const [shown] = await db.query<{ n: number }>(
          `SELECT count(*)::int AS n FROM ${table} WHERE id = 100 OR body LIKE 'hidden%'`,
        );
        assertEquals(shown!.n, 0);
        const hidden = ["100", "3", "4", "5"].map((key) => `unsettled ${key} null`);
        assertEquals(named(await synced.verify({ repair: true })), hidden);
        const now = await synced.store.scan(synced.maker.table, { after: null, limit: 999 });
        assertEquals(now.points, points);
        // Nobody has touched that row: nothing hides there.
        await corrupt(synced, "7", { body: "old" });
        assertEquals(
          named(await synced.verify()),
          ["missing 7 1", "missing 7 2", "stale 7 0", ...hidden],
        );
      } finally {
        await set("");
        await Promise.all(waiting);
        for (const sql of clients) await sql.end();
      }
      assertEquals((await synced.verify({ repair: true })).repaired, 3);
      assertEquals(named(await synced.verify()), []);
      await synced.stop();
    });
  });
}

describe("verify of a large table", () => {
  let db: TestPostgres;
  before(async () => {
    db = await testPostgres();
  });
  after(() => db?.stop());

  test("100,000 rows take no more memory than some chunks do", async () => {
    await db.query(`CREATE TABLE large (id int PRIMARY KEY, body text);
      INSERT INTO large SELECT i, i || repeat('x', 1000) FROM generate_series(1, 100000) i;
      CREATE PUBLICATION large FOR TABLE large`);
    const table = "public.large";
    const model = "model@1";
    const maker: RowMaker = {
      table,
      model,
      make: (key, { id, body }) => {
        const pointId = rowPointId(table, key, 0);
        const point = { id: pointId, text: body, fingerprint: `${body.length}`, payload: { id } };
        return Promise.resolve({ points: [point] });
      },
    };
    const stateOf = async (key: string): Promise<RowState> => {
      const id = Number(key);
      const { points } = await maker.make(key, { id, body: `${id}${"x".repeat(1000)}` });
      const position = { systemId: "1", timeline: 1, lsn: "0/1", ordinal: 0 };
      const { id: pointId, fingerprint, payload } = points[0]!;
      return {
        id: pointId,
        table,
        key,
        chunk: 0,
        chunks: 1,
        fingerprint,
        model,
        payload,
        position,
      };
    };
    const before = await heapBytes();
    let most = 0;
    let calls = 0;
    /** Now and then, since it takes long. */
    const weigh = async () => {
      if (++calls % 25 === 0) most = Math.max(most, await heapBytes());
    };
    // A store that has all of it, and holds none.
    const isThere = (key: string) => Number(key) % 5000 !== 0;
    const sink: RowSink = {
      fingerprints: async (ids) => {
        await weigh();
        const keys = ids.map((id) => JSON.parse(id)[1] as string).filter(isThere);
        const states = await Promise.all(keys.map(stateOf));
        return new Map(states.map((state) => [state.id, state]));
      },
      scan: async (_table, { after, limit }) => {
        await weigh();
        const from = Number(after ?? 0) + 1;
        const keys = Array.from(
          { length: Math.min(limit, 100_101 - from) },
          (_, n) => `${from + n}`,
        );
        const next = from + limit > 100_100 ? null : `${from + limit - 1}`;
        return { points: await Promise.all(keys.filter(isThere).map(stateOf)), next };
      },
    };
    const source = readerOf(db, "large", "large");
    const report = await new Verification({ maker, sink, source, live: null, retry: null }).run();
    assertEquals([report.rows, report.points], [100_000, 100_080]);
    assertEquals([report.missing, report.stale, report.orphaned], [20, 0, 100]);
    assert(calls > 300, `${calls}`);
    // The rows are 100 MB.
    assertLessOrEqual(most - before, 16 * 1024 * 1024);
    assertLessOrEqual(await heapBytes() - before, 4 * 1024 * 1024);
  });
});
