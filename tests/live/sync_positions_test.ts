/** What stores keep of the stream's position: what is written comes once, what is confirmed is there. */

import {
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLessOrEqual,
  assertStringIncludes,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import { MemorySink, parseLsn, PgStream, PgStreamError, type Sink, SinkError } from "../../mod.ts";
import type { RowWrite, StreamPosition } from "../../src/sinks/rows.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  sleep,
  started,
  uniqueName,
  until,
  within,
  withServerOptions,
} from "../support/streams.ts";
import { memoryPoints, memoryStore, pgvectorStore } from "../support/synced_stores.ts";
import { changed, SyncedTable } from "../support/synced_table.ts";
import { currentLsn, Gate, texts } from "../support/test_table.ts";

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

const fast = { minDelayMs: 10, maxDelayMs: 50 };

/** A sink, and what is written to it. */
function recorded(sink: Sink): { sink: Sink; rows: RowWrite[]; positions: StreamPosition[] } {
  const rows: RowWrite[] = [];
  const positions: StreamPosition[] = [];
  return {
    rows,
    positions,
    sink: changed(sink, {
      apply: (own) => async (written, position) => {
        await own(written, position);
        rows.push(...written);
        if (position !== null) positions.push(position);
      },
    }),
  };
}

/** A sink that writes rows and never says so, as if the process had died: from the `from`th write of rows on. */
function silent(sink: Sink, from: number): { sink: Sink; written: Gate } {
  const written = new Gate();
  let writes = 0;
  const apply = changed(sink, {
    apply: (own) => async (rows, position) => {
      await own(rows, position);
      if (rows.length > 0 && ++writes >= from) await written.pass();
    },
  });
  return { sink: apply, written };
}

describe("a write that is there when the process dies, and was not confirmed,", () => {
  test("is neither embedded nor written again (32)", async () => {
    const table = await SyncedTable.create(db);
    const { sink, written } = silent(pgvector.open(), 1);
    const stream = table.stream(sink, { backfill: "never" });
    await stream.setup();
    void (await started(stream)).ended;
    const before = await table.confirmedLsn();
    await table.query(`INSERT INTO $ SELECT n, 't', 'text ' || n FROM generate_series(1, 20) n`);
    await until("the rows to be written", () => written.waiting === 1);
    await stream.stop({ timeoutMs: 1 });
    assertEquals(await table.confirmedLsn(), before);
    assertEquals(table.take().length, 20);
    await table.query(`UPDATE $ SET views = 1 WHERE id = 7`);

    const { sink: next, rows } = recorded(pgvector.open());
    const { stop } = await started(table.stream(next, { backfill: "never" }));
    await table.agrees(pgvector);
    await stop();
    assertEquals([rows.map(({ key }) => key), table.take()], [["7"], []]);
    assertGreater(await table.confirmedLsn(), before);
    written.open();
    await table.remove();
  });

  test("is gone on behind in the middle of its transaction (32)", async () => {
    const table = await SyncedTable.create(db);
    const { sink, written } = silent(pgvector.open(), 2);
    const stream = table.stream(sink, { backfill: "never" }).onBatch(() => {}, { maxEvents: 3 });
    await stream.setup();
    void (await started(stream)).ended;
    await table.query(`INSERT INTO $ SELECT n, 't', 'text ' || n FROM generate_series(1, 10) n`);
    await until("two batches to be written", () => written.waiting === 1);
    await stream.stop({ timeoutMs: 1 });
    assertEquals(table.take().length, 6);

    const { sink: next, rows, positions } = recorded(pgvector.open());
    const { stop } = await started(table.stream(next, { backfill: "never" }));
    await table.agrees(pgvector);
    await stop();
    assertEquals(rows.map(({ key }) => key), ["7", "8", "9", "10"]);
    assertEquals(table.take(), ["text 7", "text 8", "text 9", "text 10"]);
    assertEquals([positions.at(-1)!.commitLsn, positions.at(-1)!.ordinal], [null, null]);
    written.open();
    await table.remove();
  });

  test("brings no row back that was removed by who took over (32) (10)", async () => {
    const table = await SyncedTable.create(db);
    const gate = new Gate();
    const late = changed(pgvector.open(), {
      apply: (own) => async (rows, position) => {
        if (rows.length > 0) await gate.pass();
        await own(rows, position);
      },
    });
    const first = table.stream(late, { backfill: "never" }, { reconnect: false });
    await first.setup();
    const { ended } = await started(first);
    await table.query(`INSERT INTO $ VALUES (1, 't', 'one'), (2, 't', 'two')`);
    await until("the write to be under way", () => gate.waiting === 1);
    // It is as good as frozen: another one has its slot.
    await table.terminate();
    await table.free();
    const second = await started(table.stream(pgvector.open(), { backfill: "never" }));
    await table.query(`UPDATE $ SET body = 'two, later' WHERE id = 2; DELETE FROM $ WHERE id = 1`);
    await table.agrees(pgvector);
    gate.open();
    await first.stop();
    await within("the first one to end", ended);
    await table.agrees(pgvector);
    await second.stop();
    await table.agrees(pgvector);
    await table.remove();
  });
});

describe("what is confirmed", () => {
  for (const concurrency of [1, 4]) {
    test(`is stored before, also where a connection is remade, with ${concurrency} lanes (9)`, async () => {
      const table = await SyncedTable.create(db);
      const memory = new MemorySink();
      let closed = false;
      const sink = changed(memory, {
        // How far the stream is where it has no rows for it, the store does not take.
        apply: (own) => async (rows, position) => {
          if (closed && rows.length === 0) throw new Error("no");
          await own(rows, position);
        },
      });
      const stream = table.stream(sink, {}, {
        dsn: withServerOptions(db.dsn, "-c wal_sender_timeout=1500"),
        concurrency,
        reconnect: fast,
      });
      await stream.setup();
      const { stop } = await started(stream);
      await table.query(`INSERT INTO $ VALUES (1, 't', 'text')`);
      await until("the row", () => memory.size === 1);
      const [{ id: systemId }] = await db.query<{ id: string }>(
        "SELECT system_identifier::text AS id FROM pg_control_system()",
      ) as [{ id: string }];
      const { slotName } = table;
      const stored = async () =>
        parseLsn((await memory.position({ systemId, slotName }))?.endLsn ?? "0/0");
      closed = true;
      for (let round = 1; round <= 3; round++) {
        // Nothing has to be written for it.
        await table.query("UPDATE $ SET title = title");
        const lsn = await currentLsn(db);
        await until("it to be handled", () => parseLsn(stream.status().handledLsn) >= lsn);
        const { reconnects } = stream.status();
        await table.terminate();
        await until("another connection", () => stream.status().reconnects > reconnects);
        await until("it to stream", () => stream.status().state === "streaming");
        await until("the server to be told where it is", async () => {
          const [walsender] = await db.query(
            `SELECT FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid
            WHERE slot_name = '${slotName}' AND reply_time IS NOT NULL`,
          );
          return walsender;
        });
        assertLessOrEqual(await table.confirmedLsn(), await stored());
      }
      closed = false;
      await stop();
      await table.remove();
    });
  }
});

test("a store in the source database does not feed itself: what it writes of an idle stream is not told again", async () => {
  const table = await SyncedTable.create(db);
  const store = uniqueName("store");
  await db.query(`CREATE TABLE ${store} (lsn text); CREATE TABLE ${store}_noise (v text)`);
  const positions: string[] = [];
  const sink = changed(new MemorySink(), {
    apply: (own) => async (rows, position) => {
      await own(rows, position);
      if (position === null) return;
      positions.push(position.endLsn);
      await db.query(`INSERT INTO ${store} VALUES ('${position.endLsn}')`);
    },
  });
  const stream = table.stream(sink);
  await stream.setup();
  const { stop } = await started(stream);
  await table.query(`INSERT INTO $ VALUES (1, 't', 'text')`);
  const noise = async (bytes: number) => {
    await db.query(`INSERT INTO ${store}_noise SELECT repeat(md5(n::text), 256)
      FROM generate_series(1, ${Math.ceil(bytes / 8192)}) n`);
    const lsn = await currentLsn(db);
    await until("it to be handled", () => parseLsn(stream.status().handledLsn) >= lsn, 60_000);
    return lsn;
  };
  const lsn = await currentLsn(db);
  await until("it to be confirmed", async () => await table.confirmedLsn() >= lsn);
  const before = positions.length;
  // Each comes with the WAL that was written since; a second, in which a busy stream would write again, goes by.
  for (let round = 0; round < 24; round++) {
    await noise(8192);
    await sleep(50);
  }
  assertLessOrEqual(positions.length - before, 1);
  // But what the server would have to keep is let go.
  const end = await noise(24 * 1024 * 1024);
  await until(
    "it to be confirmed",
    async () => await table.confirmedLsn() >= end - 16n * 1024n * 1024n,
  );
  assertLessOrEqual(positions.length - before, 4);
  await stop();
  await table.remove();
  await db.query(`DROP TABLE ${store}, ${store}_noise`);
});

test("a stream whose store was restored says so, and is filled anew as its hint says, by the same object", async () => {
  const table = await SyncedTable.create(db);
  await table.query(`INSERT INTO $ SELECT n, 't', 'text ' || n FROM generate_series(1, 10) n`);
  const store = memoryStore();
  const sink = store.open() as MemorySink;
  const first = table.stream(sink);
  await first.setup();
  let { stop } = await started(first);
  await table.agrees(store);
  await stop();
  const backup = await copyOf(sink, table);
  stop = (await started(table.stream(sink))).stop;
  await table.query(`DELETE FROM $ WHERE id < 4; UPDATE $ SET body = 'other' WHERE id = 7`);
  await table.agrees(store);
  const lsn = await currentLsn(db);
  await until("it to be confirmed", async () => await table.confirmedLsn() >= lsn);
  await stop();
  table.take();

  const stream = table.stream(backup);
  const error = await within("start() to end", stream.start().then(() => null, (error) => error));
  assertInstanceOf(error, PgStreamError, String(error));
  assertEquals([error.kind, error.retryable], ["sync-behind", false]);
  assertStringIncludes(error.message, table.slotName);
  await stream.teardown();
  await stream.setup();
  stop = (await started(stream)).stop;
  const { orphaned, repaired } = await stream.verify(table.name, { repair: true });
  assertEquals([orphaned, repaired, table.take()], [3, 3, ["other"]]);
  await table.agrees({ points: () => Promise.resolve(memoryPoints(backup)) });
  await stop();
  await table.remove();
});

/** A store with what this one has of the table, and its positions. */
async function copyOf(sink: MemorySink, { name, slotName }: SyncedTable): Promise<MemorySink> {
  const copy = new MemorySink();
  const table = `public.${name}`;
  const { points } = await sink.scan(table, { after: null, limit: 1000 });
  const rows = points.map(({ key, model, position, id, fingerprint, payload }): RowWrite => {
    const { vector } = sink.get(id)!;
    return {
      table,
      key,
      position,
      model,
      points: [{ id, fingerprint, vector, payload }],
      surplus: true,
    };
  });
  const { systemId } = points[0]!.position;
  await copy.apply(rows, await sink.position({ systemId, slotName }));
  return copy;
}

test("a slot that is torn down and set up anew starts without an error, and embeds nothing that is there", async () => {
  const table = await SyncedTable.create(db);
  await table.query(`INSERT INTO $ SELECT n, 't', 'text ' || n FROM generate_series(1, 10) n`);
  for (let round = 0; round < 2; round++) {
    const stream = table.stream(pgvector.open());
    await stream.setup();
    const { stop } = await started(stream);
    // Of a row that went while no slot kept its changes, nobody tells.
    const { orphaned, repaired } = await stream.verify(table.name, { repair: true });
    assertEquals([orphaned, repaired], [round, round]);
    await table.agrees(pgvector);
    await table.query(`UPDATE $ SET body = 'round ${round}' WHERE id = 3`);
    await table.agrees(pgvector);
    await stop();
    assertEquals(table.take().length, round === 0 ? 11 : 1);
    await table.stream(pgvector.open()).teardown();
    // Nobody streams it.
    await table.query(
      `DELETE FROM $ WHERE id = ${round + 5}; UPDATE $ SET title = 'o' WHERE id = 9`,
    );
  }
  await table.remove();
});

test("a slot that was lost is made anew, and the store gets what was missed: rows that came, changed, and went (11) (12)", async () => {
  const table = await SyncedTable.create(db);
  await table.query(`INSERT INTO $ SELECT n, 't', 'text ' || n FROM generate_series(1, 10) n`);
  const stream = table.stream(pgvector.open());
  await stream.setup();
  let { stop } = await started(stream);
  await table.agrees(pgvector);
  await stop();
  await db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`);
  await table.query(`DELETE FROM $ WHERE id = 2; UPDATE $ SET id = 20 WHERE id = 3;
    UPDATE $ SET body = 'other' WHERE id = 4; INSERT INTO $ VALUES (30, 't', 'new')`);
  table.take();
  const next = table.stream(pgvector.open(), {}, { onSlotLost: "recreate" });
  const gaps: string[] = [];
  next.onGap(({ reason }) => gaps.push(reason));
  stop = (await started(next)).stop;
  await table.agrees(pgvector);
  await table.query(`DELETE FROM $ WHERE id = 30`);
  await table.agrees(pgvector);
  await stop();
  assertEquals(gaps, ["slot-missing"]);
  await table.remove();
});

test("a second consumer that stands by takes over, and nothing is embedded or written twice (10)", async () => {
  const table = await SyncedTable.create(db);
  const first = table.stream(pgvector.open());
  await first.setup();
  const one = await started(first);
  await table.query(`INSERT INTO $ SELECT n, 't', 'text ' || n FROM generate_series(1, 10) n`);
  await table.agrees(pgvector);
  const { sink, rows } = recorded(pgvector.open());
  const two = started(table.stream(sink, {}, { whenSlotInUse: "wait" }));
  await table.query(`UPDATE $ SET views = 1 WHERE id < 5`);
  await table.agrees(pgvector);
  await one.stop();
  const { stop } = await two;
  await table.query(`UPDATE $ SET body = 'other' WHERE id = 7; DELETE FROM $ WHERE id = 8`);
  await table.agrees(pgvector);
  await stop();
  assertEquals(rows.map(({ key }) => key).sort(), ["7", "8"]);
  assertEquals(table.take().length, 11);
  await table.remove();
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

test("a store that does not answer while a connection is remade is asked again, and the stream goes on", async () => {
  const table = await SyncedTable.create(db);
  const store = memoryStore();
  let asked = 0;
  const sink = changed(store.open(), {
    position: (own) => (source) => {
      asked++;
      if (asked === 1 || asked > 4) return own(source);
      const options = { kind: "sink-unavailable", sink: "memory", retryable: true };
      return Promise.reject(new SinkError("The store is away", options));
    },
  });
  const stream = table.stream(sink, {}, { reconnect: fast });
  await stream.setup();
  const { stop } = await started(stream);
  await table.query(`INSERT INTO $ VALUES (1, 't', 'one')`);
  await table.agrees(store);
  await table.terminate();
  await table.query(`INSERT INTO $ VALUES (2, 't', 'two')`);
  await table.agrees(store);
  assertEquals([asked, stream.status().state], [5, "streaming"]);
  await stop();
  await table.remove();
});
