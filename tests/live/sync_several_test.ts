/** Several lanes, tables, stores and handlers of one stream, each of which gets what is its own, once. */

import { assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { PgStream, SinkError } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { started, until } from "../support/streams.ts";
import { memoryStore, pgvectorStore } from "../support/synced_stores.ts";
import { changed, recorded, SyncedTable } from "../support/synced_table.ts";
import { texts } from "../support/test_table.ts";

// Not in a hook, to which Bun gives 5 s: a database in WebAssembly takes its time on a busy machine.
const pgvector = await pgvectorStore();
let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(async () => {
  await db?.stop();
  await pgvector.stop();
});

describe("lanes", () => {
  test("keep rows right, and what comes again is neither embedded nor written (33) (43)", async () => {
    const table = await SyncedTable.create(db);
    const options = { concurrency: 8 };
    const stream = table.stream(pgvector.open(), {}, options);
    await stream.setup();
    let { stop } = await started(stream);
    await writeMuch(table);
    await table.agrees(pgvector);
    await stop();
    table.take();
    const { sink, rows } = recorded(pgvector.open());
    stop = (await started(table.stream(sink, {}, options))).stop;
    await table.query(`INSERT INTO $ VALUES (1000, 't', 'the last')`);
    await table.agrees(pgvector);
    await stop();
    assertEquals([table.take(), rows.map(({ key }) => key)], [["the last"], ["1000"]]);
    await table.remove();
  });
});

/** Rows that come, change, go, move, and come back: few of them, so that they meet. */
async function writeMuch(table: SyncedTable): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const text = `'text ' || n || ' of ${round}|' || CASE n % 3 WHEN 0 THEN 'a|b' ELSE 'c' END`;
    await table.query(`BEGIN;
      INSERT INTO $ SELECT n, 't', ${text} FROM generate_series(1, 40) n ON CONFLICT DO NOTHING;
      UPDATE $ SET body = 'text ' || id || ' again ${round}' WHERE id % 7 = ${round % 7};
      UPDATE $ SET body = NULL WHERE id % 11 = ${round % 11};
      DELETE FROM $ WHERE id % 5 = ${round % 5};
      UPDATE $ SET id = id + 100, views = views + 1 WHERE id % 13 = ${round % 13} AND id < 50;
      UPDATE $ SET views = views + 1 WHERE id % 2 = ${round % 2};
      DELETE FROM $ WHERE id > 100 AND id % 3 = ${round % 3};
      COMMIT`);
  }
}

describe("several", () => {
  test("tables into one store, and TRUNCATE of one leaves the other's rows", async () => {
    const [one, two] = [await SyncedTable.create(db), await SyncedTable.create(db)];
    const sink = pgvector.open();
    const stream = one.stream(sink);
    two.sync(stream, sink);
    await stream.setup();
    const { stop } = await started(stream);
    await db.query(`BEGIN;
      INSERT INTO ${one.name} SELECT n, 'one', 'text ' || n FROM generate_series(1, 10) n;
      INSERT INTO ${two.name} SELECT n, 'two', 'text ' || n FROM generate_series(1, 10) n;
      COMMIT`);
    await one.agrees(pgvector);
    await two.agrees(pgvector);
    await db.query(`BEGIN; DELETE FROM ${two.name} WHERE id = 4; TRUNCATE ${one.name};
      INSERT INTO ${one.name} VALUES (3, 'again', 'text 3'); COMMIT`);
    await one.agrees(pgvector);
    await two.agrees(pgvector);
    await db.query(`TRUNCATE ${one.name}, ${two.name}`);
    await one.agrees(pgvector);
    await two.agrees(pgvector);
    await stop();
    await db.query(`DROP PUBLICATION ${one.slotName}`);
    await two.query("DROP TABLE $");
    await one.remove();
  });

  test("stores: what one does not take is tried again, and the other is not written again", async () => {
    const [one, two] = [await SyncedTable.create(db), await SyncedTable.create(db)];
    let refusals = 3;
    const { sink: whole, rows } = recorded(pgvector.open());
    const store = memoryStore();
    const failing = changed(store.open(), {
      apply: (own) => (rows, position) => {
        if (rows.length === 0 || refusals-- <= 0) return own(rows, position);
        const options = { kind: "sink-unavailable", sink: "memory", retryable: true };
        return Promise.reject(new SinkError("The store is away", options));
      },
    });
    const retry = { minDelayMs: 0, maxDelayMs: 10 };
    const stream = one.stream(whole, { backfill: "never" }, { retry });
    two.sync(stream, failing, { backfill: "never" });
    await stream.setup();
    const { stop } = await started(stream);
    await db.query(`BEGIN;
      INSERT INTO ${one.name} SELECT n, 'one', 'text ' || n FROM generate_series(1, 10) n;
      INSERT INTO ${two.name} SELECT n, 'two', 'other ' || n FROM generate_series(1, 10) n;
      COMMIT`);
    await one.agrees(pgvector);
    await two.agrees(store);
    assertEquals(refusals, -1);
    await stop();
    assertEquals([rows.length, one.take().length, two.take().length], [10, 10, 10]);
    await two.query("DROP TABLE $");
    await one.remove();
  });

  test("handlers beside it get each event, and where one of them fails nothing is embedded or written again", async () => {
    const table = await SyncedTable.create(db);
    const { sink, rows } = recorded(pgvector.open());
    let failures = 2;
    const [before, after]: string[][] = [[], []];
    const stream = new PgStream({
      dsn: db.dsn,
      slotName: table.slotName,
      logger: false,
      retry: { minDelayMs: 0, maxDelayMs: 10 },
    }).onChange(({ key }) => void before!.push(key!));
    table.sync(stream, sink, { backfill: "never" }).onBatch((events) => {
      if (failures-- > 0) throw new Error("not yet");
      after!.push(...events.map(({ key }) => key!));
    });
    await stream.setup();
    const { stop } = await started(stream);
    await table.query(`INSERT INTO $ SELECT n, 't', 'text ' || n FROM generate_series(1, 10) n`);
    await until("the last handler", () => after!.length >= 10);
    await table.agrees(pgvector);
    await stop();
    const keys = texts(1, 10);
    assertEquals([before, after, rows.map(({ key }) => key)], [keys, keys, keys]);
    assertEquals(table.take().length, 10);
    await table.remove();
  });
});
