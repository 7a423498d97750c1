/** Streams that handle what there is and return: for cron jobs and serverless functions. */

import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLess,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import {
  type CatchUpReport,
  HandlerError,
  MemorySink,
  parseLsn,
  type PgStream,
} from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { openClient, sleep, started, until, within } from "../support/streams.ts";
import { currentLsn, Gate, TestTable, texts } from "../support/test_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

const catchUp = (stream: PgStream, timeoutMs = 15_000): Promise<CatchUpReport> =>
  within("catchUp()", stream.catchUp(), timeoutMs);

describe("catchUp()", () => {
  test("handles what is committed, confirms it, says how much it was, and leaves nothing running", async () => {
    const table = await TestTable.create(db, "caught");
    await table.insert(1, 2);
    await table.insertMany(3, 10);
    const keys: string[] = [];
    const stream = table.stream().onChange((event) => void keys.push(event.key!));
    const before = await currentLsn(db);
    const { lsn, ...counts } = await catchUp(stream);
    assertEquals(keys, texts(1, 10));
    assertEquals(counts, { events: 10, messages: 0, transactions: 3, busy: false });
    assertGreaterOrEqual(parseLsn(lsn), before);
    assertGreaterOrEqual(await table.confirmedLsn(), before);
    assertEquals(await table.walsenderPid(), null);
    assertEquals(stream.status().state, "stopped");

    // Nothing comes twice, and a report tells of one call.
    const none = await catchUp(stream);
    assertEquals([none.events, none.transactions, none.busy], [0, 0, false]);
    await table.insert(11);
    const next = await catchUp(stream);
    assertEquals([next.events, next.transactions], [1, 1]);
    assertEquals(keys, texts(1, 11));
    assertEquals(JSON.parse(JSON.stringify(next)), next);
    await table.remove();
  });

  test("returns where there is nothing to do: soon, on a quiet database, time and again", async () => {
    const table = await TestTable.create(db, "quiet");
    const stream = table.stream().onChange(() => {});
    for (let call = 0; call < 5; call++) {
      const before = await currentLsn(db);
      const at = performance.now();
      const { lsn, events } = await catchUp(stream);
      assertLess(performance.now() - at, 5000);
      assertEquals(events, 0);
      assertGreaterOrEqual(parseLsn(lsn), before);
    }
    await table.remove();
  });

  test("returns where only unwatched tables were written, and lets their WAL go", async () => {
    const table = await TestTable.create(db, "unwatched");
    await db.query("CREATE TABLE other (v text)");
    await db.query("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 50000)");
    const before = await currentLsn(db);
    const { lsn, events } = await catchUp(table.stream().onChange(() => {}));
    assertEquals(events, 0);
    assertGreaterOrEqual(parseLsn(lsn), before);
    assertGreaterOrEqual(await table.confirmedLsn(), before);
    await db.query("DROP TABLE other");
    await table.remove();
  });

  test("does not go on for as long as somebody writes", async () => {
    const table = await TestTable.create(db, "writes");
    let id = 0;
    let writing = true;
    const writer = (async () => {
      while (writing) await table.insert(++id);
    })();
    const keys: string[] = [];
    const stream = table.stream().onChange((event) => void keys.push(event.key!));
    for (let call = 0; call < 5; call++) {
      const committed = id;
      const before = await currentLsn(db);
      const { events, lsn } = await catchUp(stream);
      assertGreaterOrEqual(keys.length, committed);
      assertGreaterOrEqual(parseLsn(lsn), before);
      assertGreaterOrEqual(await table.confirmedLsn(), before);
      assertGreater(events, 0);
      await until("some rows", () => id > committed + 20);
    }
    writing = false;
    await writer;
    await catchUp(stream);
    // What came later comes with the next call, once.
    assertEquals(keys, texts(1, id));
    await table.remove();
  });

  test("with a slow handler under constant writes leaves out what is committed after the call", async () => {
    const table = await TestTable.create(db, "later");
    await table.insert(...texts(1, 10).map(Number));
    let id = 10;
    let writing = true;
    const keys: string[] = [];
    const stream = table.stream().onChange(async (event) => {
      keys.push(event.key!);
      await sleep(50);
    });
    const caughtUp = catchUp(stream);
    const writer = (async () => {
      while (writing) await table.insert(++id);
    })();
    const { events } = await caughtUp;
    writing = false;
    await writer;
    // Twice as much would already be too much: 500 ms of writing are hundreds of rows.
    assertLess(events, 10 + (id - 10) / 2);
    assertGreaterOrEqual(events, 10);
    await table.remove();
  });

  test("waits for a transaction that was committed before the call, not for one that is open", async () => {
    const table = await TestTable.create(db, "open");
    const client = openClient(db.dsn);
    await client.unsafe(`BEGIN; INSERT INTO ${table.name} VALUES (1)`);
    await table.insert(2);
    const keys: string[] = [];
    const stream = table.stream().onChange((event) => void keys.push(event.key!));
    assertEquals((await catchUp(stream)).events, 1);
    await client.unsafe("COMMIT");
    assertEquals((await catchUp(stream)).events, 1);
    assertEquals(keys, ["2", "1"]);
    await client.end({ timeout: 1 });
    await table.remove();
  });

  test("does not wait for a batch to fill", async () => {
    const table = await TestTable.create(db, "batch");
    for (const concurrency of [1, 8]) {
      await table.insert(10 * concurrency + 1, 10 * concurrency + 2, 10 * concurrency + 3);
      const batches: number[] = [];
      const stream = table.stream({ concurrency }).onBatch(
        (events) => void batches.push(events.length),
        { maxEvents: 1000, maxDelayMs: 60_000 },
      );
      const { events } = await catchUp(stream);
      const total = batches.reduce((sum, count) => sum + count, 0);
      assertEquals([total, events], [3, 3]);
    }
    await table.remove();
  });

  test("handles a large backlog, of many transactions and of one", async () => {
    const table = await TestTable.create(db, "backlog", { maxQueueBytes: 200_000 });
    await db.query(`DO $$ BEGIN FOR n IN 1..20000 LOOP
      INSERT INTO ${table.name} VALUES (n); COMMIT; END LOOP; END $$`);
    await table.insertMany(20_001, 80_000, "'a row of some length'");
    let next = 1;
    let most = 0;
    const stream = table.stream().onChange((event) => {
      assertEquals(event.key, String(next++));
      if (next % 1000 === 0) most = Math.max(most, stream.status().queueBytes);
      return next % 1000 === 0 ? sleep(1) : undefined;
    });
    const { events, transactions } = await catchUp(stream, 60_000);
    assertEquals([events, transactions], [80_000, 20_001]);
    assertLess(most, 400_000);
    await table.remove();
  });

  test("returns at once with busy: true where another session has the slot, however it is to wait", async () => {
    const table = await TestTable.create(db, "busy");
    const holder = await started(table.stream().onChange(() => {}));
    const pid = await table.walsenderPid();
    for (const whenSlotInUse of ["error", "wait"] as const) {
      let called = false;
      const stream = table.stream({ whenSlotInUse }).onChange(() => void (called = true));
      const at = performance.now();
      const { events, transactions, busy } = await catchUp(stream);
      assertLess(performance.now() - at, 3000);
      assertEquals({ events, transactions, busy, called }, {
        events: 0,
        transactions: 0,
        busy: true,
        called: false,
      });
      assertEquals(stream.status().state, "stopped");
    }
    assertEquals(await table.walsenderPid(), pid);
    await holder.stop();
    await table.remove();
  });

  test("that is aborted rejects with the reason; what is handled by then is confirmed", async () => {
    const table = await TestTable.create(db, "aborted");
    await table.insert(1, 2, 3);
    const abort = new AbortController();
    const reason = new Error("the function's time is up");
    const events: string[] = [];
    const stream = table.stream().onChange((event) => {
      events.push(event.key!);
      if (event.key === "2") abort.abort(reason);
    });
    const error = await within(
      "catchUp()",
      stream.catchUp({ signal: abort.signal }).then(() => null, (error) => error),
    );
    assertEquals(error, reason);
    assertEquals(events, ["1", "2"]);
    assertEquals(await table.walsenderPid(), null);
    const again = await within(
      "catchUp()",
      stream.catchUp({ signal: abort.signal }).then(() => null, (error) => error),
    );
    assertEquals(again, reason);
    assertEquals(events, ["1", "2"]);
    await catchUp(stream);
    assertEquals(events, ["1", "2", "3"]);
    await table.remove();
  });

  test("that is stopped rejects, and can be called again", async () => {
    const table = await TestTable.create(db, "halted");
    await table.insert(1, 2);
    const gate = new Gate();
    const events: string[] = [];
    const stream = table.stream().onChange(async (event) => {
      await gate.pass();
      events.push(event.key!);
    });
    const running = stream.catchUp().then(() => null, (error) => error);
    await until("the handler", () => gate.waiting === 1);
    const stopping = stream.stop();
    gate.open();
    await within("stop()", stopping);
    assert(await within("catchUp()", running) instanceof Error);
    assertEquals(events, ["1"]);
    await catchUp(stream);
    assertEquals(events, ["1", "2"]);
    await table.remove();
  });

  test("rejects where the handler fails for good; the event comes with the next call", async () => {
    const table = await TestTable.create(db, "fails", { retry: { attempts: 2, minDelayMs: 1 } });
    await table.insert(1, 2);
    let broken = true;
    const events: string[] = [];
    const stream = table.stream().onChange((event) => {
      if (event.key === "2" && broken) throw new Error("broken");
      events.push(event.key!);
    });
    const error = await within(
      "catchUp()",
      stream.catchUp().then(() => null, (error) => error),
    );
    assertInstanceOf(error, HandlerError);
    assertEquals(stream.status().state, "failed");
    assertEquals(await table.walsenderPid(), null);
    broken = false;
    assertEquals((await catchUp(stream)).events, 1);
    assertEquals(events, ["1", "2"]);
    await table.remove();
  });

  test("leaves the sinks open for the next call; stop() closes them", async () => {
    const table = await TestTable.create(db, "sinks");
    const sink = new MemorySink();
    let closed = 0;
    const close = sink.close.bind(sink);
    sink.close = () => {
      closed++;
      return close();
    };
    const stream = table.stream().sink(sink)
      .onChange((event, sink) => sink.upsert({ id: event.key!, vector: [1] }));
    await table.insert(1);
    await catchUp(stream);
    await table.insert(2);
    await catchUp(stream);
    assertEquals([sink.size, closed], [2, 0]);
    await stream.stop();
    assertEquals(closed, 1);
    await table.remove();
  });

  test("comes back from a lost connection, and handles each event once", async () => {
    const table = await TestTable.create(db, "lost", {
      reconnect: { minDelayMs: 10 },
      maxQueueBytes: 50_000,
    });
    await table.insertMany(1, 20_000, "repeat('x', 100)");
    const keys: string[] = [];
    const stream = table.stream().onChange(async (event) => {
      keys.push(event.key!);
      if (keys.length === 5000) await table.terminate();
      if (keys.length % 200 === 0) await sleep(1);
    });
    const { events, transactions } = await catchUp(stream, 30_000);
    assertEquals([events, transactions], [20_000, 1]);
    assertEquals(keys, texts(1, 20_000));
    assert(stream.status().reconnects >= 1);
    await table.remove();
  });

  test("cannot be called while the stream runs, nor start() while it does", async () => {
    const table = await TestTable.create(db, "twice");
    await table.insert(1);
    const gate = new Gate();
    const stream = table.stream().onChange(() => gate.pass());
    const first = stream.catchUp();
    await until("the handler", () => gate.waiting === 1);
    for (const call of [() => stream.catchUp(), () => stream.start()]) {
      const error = await within("the second call", call().then(() => null, (error) => error));
      assertEquals(error?.kind, "already-running");
    }
    gate.open();
    assertEquals((await first).events, 1);
    await table.remove();
  });
});
