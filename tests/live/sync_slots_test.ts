/** What becomes of a store when its slot goes, is made anew, or is somebody else's. */

import { assertEquals, assertGreater, assertInstanceOf, assertStringIncludes } from "@std/assert";
import { after, before, test } from "node:test";
import { MemorySink, PgStreamError } from "../../mod.ts";
import type { RowWrite } from "../../src/sinks/rows.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { started, until, within } from "../support/streams.ts";
import { memoryPoints, memoryStore, pgvectorStore } from "../support/synced_stores.ts";
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

test("a table that is synced later, by the same slot, is filled, and the others are left as they are", async () => {
  const [one, two] = [await SyncedTable.create(db), await SyncedTable.create(db)];
  for (const { name } of [one, two]) {
    await db.query(`INSERT INTO ${name} SELECT n, 't', 'text ' || n FROM generate_series(1, 5) n`);
  }
  const first = one.stream(pgvector.open());
  await first.setup();
  let { stop } = await started(first);
  await one.agrees(pgvector);
  await stop();
  one.take();
  await two.query("UPDATE $ SET body = 'before it is watched' WHERE id = 1");
  const sink = pgvector.open();
  const stream = two.sync(one.stream(sink), sink);
  await stream.setup();
  await db.query(`DELETE FROM ${two.name} WHERE id = 2; DELETE FROM ${one.name} WHERE id = 2`);
  stop = (await started(stream)).stop;
  await two.agrees(pgvector);
  await one.agrees(pgvector);
  await two.query("UPDATE $ SET body = 'after' WHERE id = 3");
  await two.agrees(pgvector);
  await stop();
  assertEquals([one.take().length, two.take().length], [0, 5]);
  await two.query("DROP TABLE $");
  await one.remove();
});

test("vectors of another model are made anew to the end, though the process ends in the middle, and none twice", async () => {
  const table = await SyncedTable.create(db);
  await table.query(`INSERT INTO $ SELECT n, 't', 'text ' || n FROM generate_series(1, 40) n`);
  const first = table.stream(pgvector.open());
  await first.setup();
  let { stop } = await started(first);
  await table.agrees(pgvector);
  await stop();
  table.take();

  const options = { model: "test@2", onModelChange: "rebuild" } as const;
  const small = { backfillChunk: { maxRows: 10 } };
  const gate = new Gate();
  let writes = 0;
  const sink = changed(pgvector.open(), {
    apply: (own) => async (rows, position) => {
      // The third write of rows does not come to be.
      if (rows.length > 0 && ++writes > 2) await gate.pass();
      await own(rows, position);
    },
  });
  const second = table.stream(sink, options, small);
  await second.setup();
  await started(second);
  await until("two writes", () => gate.waiting > 0);
  await second.stop({ timeoutMs: 1 });
  const lost = table.take().length;

  const { sink: third, rows } = recorded(pgvector.open());
  const stream = table.stream(third, options, small);
  await stream.setup();
  stop = (await started(stream)).stop;
  await until("the rest", () => rows.length >= 40);
  await stop();
  // What was written by then is not embedded again; what was on its way is.
  const again = table.take().length;
  assertGreater(again, 0);
  assertEquals(again + lost - 40 >= 0 && again < 40, true, `${lost}, then ${again}`);
  await table.stream(pgvector.open(), { model: "test@2" }).setup();
  await table.agrees(pgvector);
  gate.open();
  await table.remove();
});
