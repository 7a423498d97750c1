/** What stores keep of the stream's position: what is written comes once, what is confirmed is there. */

import { assertEquals, assertGreater, assertLessOrEqual } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { MemorySink, parseLsn, type Sink, SinkError } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  sleep,
  started,
  uniqueName,
  until,
  within,
  withServerOptions,
} from "../support/streams.ts";
import { memoryStore, pgvectorStore } from "../support/synced_stores.ts";
import { changed, recorded, SyncedTable } from "../support/synced_table.ts";
import { currentLsn, Gate } from "../support/test_table.ts";

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
  // Or the row comes by the backfill, too, later than it was confirmed.
  await until("the backfill to be over", () => stream.status().backfill === null);
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
