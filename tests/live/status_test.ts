/** What a stream tells of itself, as somebody would watch it and alert on it. */

import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLess,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import { parseLsn, PgStream, type StreamState, type StreamStatus } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { LogLines, sleep, started, until, within, withServerOptions } from "../support/streams.ts";
import { currentLsn, Gate, TestTable } from "../support/test_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

/** Keeps how the states followed each other, and checks that each begins where the last one ended. */
function watchStates(stream: PgStream): StreamState[] {
  const states: StreamState[] = [stream.status().state];
  stream.onStateChange((state, previous) => {
    assertEquals([previous, stream.status().state], [states.at(-1), state]);
    states.push(state);
  });
  return states;
}

describe("status().state and onStateChange", () => {
  test("follow a stream from its start over a lost connection to its end, and again", async () => {
    const table = await TestTable.create(db, "states", { reconnect: { minDelayMs: 200 } });
    let handled = 0;
    const stream = table.stream().onChange(() => void handled++);
    const states = watchStates(stream);
    const running = await started(stream);
    await table.terminate();
    await table.insert(1);
    await until("the row", () => handled === 1);
    await running.stop();
    const first = [
      "idle",
      "connecting",
      "streaming",
      "reconnecting",
      "streaming",
      "stopping",
      "stopped",
    ];
    assertEquals(states, first as StreamState[]);
    await (await started(stream)).stop();
    assertEquals(states.slice(7), ["connecting", "streaming", "stopping", "stopped"]);
    await stream.stop();
    await stream[Symbol.asyncDispose]();
    assertEquals(states.length, 11);
    await table.remove();
  });

  test("end in failed where start() rejects, and lastError says why until the next start", async () => {
    const table = await TestTable.create(db, "failing", { retry: { attempts: 1 } });
    let broken = true;
    const stream = table.stream().onChange(() => {
      if (broken) throw new Error("broken");
    });
    const states = watchStates(stream);
    await table.insert(1);
    const error = await within("start()", stream.start().then(() => null, (error) => error));
    assertInstanceOf(error, Error);
    assertEquals(states.slice(0, 3), ["idle", "connecting", "streaming"]);
    assertEquals(states.at(-1), "failed");
    assertEquals(stream.status().lastError, error.message);
    await stream.stop();
    assertEquals([stream.status().state, stream.status().lastError], ["failed", error.message]);
    broken = false;
    const running = await started(stream);
    assertEquals(stream.status().lastError, null);
    await until("the row", () => stream.status().transactions === 1);
    await running.stop();

    await db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`);
    states.length = 0;
    states.push("stopped");
    const missing = await within("start()", stream.start().then(() => null, (error) => error));
    assertEquals(missing.kind, "slot-missing");
    assertEquals(states, ["stopped", "connecting", "failed"]);
    await table.remove();
  });

  test("are told by catchUp() and changes() as well; a busy slot is no failure", async () => {
    const table = await TestTable.create(db, "others");
    await table.insert(1);
    const stream = table.stream().onChange(() => {});
    const states = watchStates(stream);
    await within("catchUp()", stream.catchUp());
    assertEquals(states.filter((state) => state !== "stopping"), [
      "idle",
      "connecting",
      "streaming",
      "stopped",
    ]);
    states.splice(0, Infinity, "stopped");
    await table.insert(2);
    for await (const _ of stream.changes()) break;
    assertEquals(states, ["stopped", "connecting", "streaming", "stopping", "stopped"]);
    const holder = await started(table.stream().onChange(() => {}));
    states.splice(0, Infinity, "stopped");
    assertEquals((await within("catchUp()", stream.catchUp())).busy, true);
    assertEquals(states, ["stopped", "connecting", "stopped"]);
    assertEquals(stream.status().lastError, null);
    await holder.stop();
    await table.remove();
  });

  test("are told to all listeners, though one throws, which is logged", async () => {
    const table = await TestTable.create(db, "throwing");
    const logger = new LogLines();
    const stream = table.stream({ logger }).onChange(() => {}).onStateChange(() => {
      throw new Error("from the listener");
    });
    const states = watchStates(stream);
    await (await started(stream)).stop();
    assertEquals(states.at(-1), "stopped");
    assert(logger.lines.some((line) => line.startsWith("error") && line.includes("onStateChange")));
    await table.remove();
  });
});

describe("status()", () => {
  test("counts what was handled, by operation", async () => {
    const table = await TestTable.create(db, "counts");
    const stream = table.stream().onChange(() => {});
    const running = await started(stream);
    await table.insertMany(1, 5);
    await db.query(`UPDATE ${table.name} SET v = 'x' WHERE id < 4`);
    await db.query(`DELETE FROM ${table.name} WHERE id < 3`);
    await db.query(`TRUNCATE ${table.name}`);
    await until("all of it", () => stream.status().transactions === 4);
    assertEquals(stream.status().events, { insert: 5, update: 3, delete: 2, truncate: 1 });
    const status = stream.status();
    assertEquals(JSON.parse(JSON.stringify(status)), status);
    // A copy: nobody changes the counts from outside.
    status.events.insert = 100;
    assertEquals(stream.status().events.insert, 5);
    await running.stop();
    assertEquals(stream.status().events, { insert: 5, update: 3, delete: 2, truncate: 1 });
    assertEquals([stream.status().transactions, stream.status().queueBytes], [4, 0]);
    await table.remove();
  });

  test("tells the lag while a handler hangs, and that there is none when it has caught up", async () => {
    const table = await TestTable.create(db, "lag", {
      dsn: withServerOptions(db.dsn, "-c wal_sender_timeout=900ms"),
    });
    const gate = new Gate();
    const stream = table.stream().onChange(() => gate.pass());
    const running = await started(stream);
    const { lagBytes, lagSeconds, queueBytes } = stream.status();
    assertEquals([lagSeconds, queueBytes], [0, 0]);
    assertLess(lagBytes, 100_000);
    await table.insertMany(1, 1000, "repeat('x', 100)");
    await until("the handler", () => gate.waiting === 1);
    await sleep(1500);
    await table.insert(1001);
    await sleep(500);
    const behind = stream.status();
    assertGreater(behind.lagBytes, 100_000);
    assertGreater(behind.queueBytes, 100_000);
    // Of the oldest that waits, not of the newest; on one machine the clocks are one.
    assertGreaterOrEqual(behind.lagSeconds, 1.9);
    assertLess(behind.lagSeconds, 60);
    assertEquals(behind.transactions, 0);
    assertLess(parseLsn(behind.handledLsn), parseLsn(behind.receivedLsn));
    gate.open();
    await until("no lag", () => {
      const { lagBytes, lagSeconds, queueBytes } = stream.status();
      return lagBytes === 0 && lagSeconds === 0 && queueBytes === 0;
    });
    assertEquals(stream.status().transactions, 2);
    await running.stop();
    await table.remove();
  });

  test("shows no lag on a stream whose tables nobody writes, while others are written", async () => {
    const table = await TestTable.create(db, "quiet", {
      dsn: withServerOptions(db.dsn, "-c wal_sender_timeout=900ms"),
    });
    await db.query("CREATE TABLE busy_elsewhere (v text)");
    const stream = table.stream().onChange(() => {});
    const running = await started(stream);
    for (let round = 0; round < 10; round++) {
      await db.query(
        "INSERT INTO busy_elsewhere SELECT repeat('x', 1000) FROM generate_series(1, 500)",
      );
      await sleep(100);
      assertEquals(stream.status().lagSeconds, 0);
    }
    const end = await currentLsn(db);
    await until("the positions to follow", () => {
      const { receivedLsn, handledLsn, confirmedLsn } = stream.status();
      return [receivedLsn, handledLsn, confirmedLsn].every((lsn) => parseLsn(lsn) >= end);
    });
    assertEquals(stream.status().lagBytes, 0);
    assertGreaterOrEqual(await table.confirmedLsn(), end);
    await running.stop();
    await db.query("DROP TABLE busy_elsewhere");
    await table.remove();
  });

  test("has positions in their order that never go back, over lost connections too", async () => {
    const table = await TestTable.create(db, "positions", {
      reconnect: { minDelayMs: 10, maxDelayMs: 50 },
      concurrency: 4,
    });
    let handled = 0;
    const stream = table.stream().onChange(async () => {
      handled++;
      if (handled % 50 === 0) await sleep(5);
    });
    const running = await started(stream);
    const samples: StreamStatus[] = [];
    const timer = setInterval(() => samples.push(stream.status()), 5);
    for (let round = 0; round < 6; round++) {
      await table.insertMany(round * 1000 + 1, round * 1000 + 999);
      await table.insert(round * 1000 + 1000);
      await table.terminate();
    }
    await until("all rows", () => handled >= 6000, 30_000);
    clearInterval(timer);
    await running.stop();
    assertEquals(handled, 6000);
    samples.push(stream.status());
    const all = samples.map(({ receivedLsn, handledLsn, confirmedLsn }) =>
      [receivedLsn, handledLsn, confirmedLsn].map(parseLsn)
    );
    for (const [index, [received, done, confirmed]] of all.entries()) {
      assert(received! >= done! && done! >= confirmed!, JSON.stringify(samples[index]));
      const before = all[index - 1];
      if (before === undefined) continue;
      assert(
        received! >= before[0]! && done! >= before[1]! && confirmed! >= before[2]!,
        `back from ${JSON.stringify(samples[index - 1])} to ${JSON.stringify(samples[index])}`,
      );
    }
    assertGreater(samples.length, 20);
    await table.remove();
  });

  test("is idle and empty before anything was begun", () => {
    const stream = new PgStream({ dsn: db.dsn });
    const { state, receivedLsn, confirmedLsn, lagBytes, lagSeconds, lastError } = stream.status();
    assertEquals(
      { state, receivedLsn, confirmedLsn, lagBytes, lagSeconds, lastError },
      {
        state: "idle",
        receivedLsn: "0/0",
        confirmedLsn: "0/0",
        lagBytes: 0,
        lagSeconds: 0,
        lastError: null,
      },
    );
  });
});
