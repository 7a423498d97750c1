/** Events in batches: their limits, their order, and how far they are confirmed. */

import { assert, assertEquals, assertGreater, assertLess, assertLessOrEqual } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, parseLsn } from "../../mod.ts";
import { Child } from "../support/child.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { sleep, started, until, within, withServerOptions } from "../support/streams.ts";
import { Gate, TestTable, texts } from "../support/test_table.ts";

/** Longer than any test waits: a limit that is not to end a batch. */
const NEVER_MS = 60_000;

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

const keys = (events: ChangeEvent[]) => events.map(({ key }) => key!);

describe("a batch", () => {
  test("goes over the borders of transactions, in commit order, and ends at maxEvents", async () => {
    const table = await TestTable.create(db, "borders");
    await table.insert(1, 2, 3);
    await table.insertMany(4, 13);
    await table.insert(14, 15);
    const batches: string[][] = [];
    const stream = table.stream().onBatch((events) => void batches.push(keys(events)), {
      maxEvents: 5,
      maxDelayMs: NEVER_MS,
    });
    const running = await started(stream);
    await until("all batches", () => batches.flat().length === 15);
    await running.stop();
    assertEquals(batches, [texts(1, 5), texts(6, 10), texts(11, 15)]);
    assertEquals(stream.status().events.insert, 15);
    assertEquals(stream.status().transactions, 6);
    await table.remove();
  });

  test("ends at maxBytes, and what is larger comes alone", async () => {
    const table = await TestTable.create(db, "bytes");
    await table.insertMany(1, 20, "repeat('x', 10000)");
    await table.insertMany(21, 21, "repeat('x', 300000)");
    await table.insertMany(22, 41, "repeat('x', 10000)");
    const batches: string[][] = [];
    const stream = table.stream().onBatch((events) => void batches.push(keys(events)), {
      maxBytes: 100_000,
      maxDelayMs: 500,
    });
    const running = await started(stream);
    await until("all batches", () => batches.flat().length === 41);
    await running.stop();
    assertEquals(batches.flat(), texts(1, 41));
    assert(batches.some((batch) => batch.length === 1 && batch[0] === "21"), `${batches}`);
    for (const batch of batches) assertLessOrEqual(batch.length, 10);
    assertLessOrEqual(batches.length, 20);
    await table.remove();
  });

  test("ends at maxDelayMs after its first event, also while others keep coming", async () => {
    const table = await TestTable.create(db, "delay");
    const batches: string[][] = [];
    const stream = table.stream().onBatch((events) => void batches.push(keys(events)), {
      maxEvents: 100_000,
      maxDelayMs: 500,
    });
    const running = await started(stream);
    let id = 0;
    await until("a batch, amid the writing", async () => {
      assertLess(id, 2000, "it waits for a pause");
      await table.insert(++id);
      return batches.length > 0;
    });
    await until("the rest", () => batches.flat().length === id);
    await table.insert(id + 1, id + 2);
    await until("the last ones, which nothing follows", () => batches.flat().length === id + 2);
    await running.stop();
    assertEquals(batches.flat(), texts(1, id + 2));
    assertGreater(batches[0]!.length, 1);
    await table.remove();
  });

  for (const concurrency of [1, 8]) {
    test(`does not wait for more than the queue may hold, ${concurrency} at once`, async () => {
      const table = await TestTable.create(db, "queue", { maxQueueBytes: 100_000, concurrency });
      await table.insertMany(1, 2000, "repeat('x', 300)");
      let handled = 0;
      const stream = table.stream().onBatch((events) => void (handled += events.length), {
        maxEvents: 1_000_000,
        maxBytes: 1_000_000_000,
        maxDelayMs: NEVER_MS,
      });
      const running = await started(stream);
      // What the queue can hold waits for others, as it was told to.
      await until("nearly all", () => handled > 1500);
      await running.stop();
      await table.remove();
    });
  }

  test("of several handlers ends at the smallest limit of each, and meets them in their order", async () => {
    const table = await TestTable.create(db, "several");
    await table.insertMany(1, 40);
    const calls: string[] = [];
    const stream = table.stream()
      .onBatch((events) => void calls.push(`a ${keys(events)}`), { maxEvents: 7, maxDelayMs: 300 })
      .onChange((event) => void calls.push(`b ${event.key}`))
      .onBatch((events) => void calls.push(`c ${keys(events)}`), {
        maxEvents: 1000,
        maxDelayMs: NEVER_MS,
      });
    const running = await started(stream);
    await until("the last batch", () => calls.at(-1) === `c ${texts(36, 40)}`);
    await running.stop();
    const expected = [1, 8, 15, 22, 29, 36].flatMap((first) => {
      const batch = texts(first, Math.min(first + 6, 40));
      return [`a ${batch}`, ...batch.map((key) => `b ${key}`), `c ${batch}`];
    });
    assertEquals(calls, expected);
    assertEquals(stream.status().events.insert, 40);
    await table.remove();
  });

  test("that waits for others is not confirmed by what comes meanwhile, and does not hold up stop()", async () => {
    const table = await TestTable.create(db, "pending", {
      dsn: withServerOptions(db.dsn, "-c wal_sender_timeout=900ms"),
    });
    await db.query("CREATE TABLE unwatched_noise (v text)");
    const seen: ChangeEvent[] = [];
    const stream = table.stream().onBatch((events) => void seen.push(...events), {
      maxEvents: 10,
      maxDelayMs: NEVER_MS,
    });
    const running = await started(stream);
    await table.insert(1);
    for (let round = 0; round < 10; round++) {
      await db.query(
        "INSERT INTO unwatched_noise SELECT repeat('x', 1000) FROM generate_series(1, 500)",
      );
      await sleep(150);
    }
    assertEquals(seen, []);
    const confirmed = await table.confirmedLsn();
    await within("stop()", running.stop(), 5000);
    const handled = seen.length;
    const next = await started(
      table.stream().onBatch((events) => void seen.push(...events), { maxDelayMs: 10 }),
    );
    await table.insert(2);
    await until("the second row", () => seen.at(-1)?.key === "2");
    await next.stop();
    assertEquals(keys(seen), ["1", "2"], `${handled} handled by stop()`);
    assertLessOrEqual(confirmed, parseLsn(seen[0]!.lsn));
    await table.remove();
  });

  test("is confirmed as far as its transactions are whole: a kill in the next one repeats the last of them", async () => {
    const table = await TestTable.create(db, "whole");
    await table.insertMany(1, 3);
    await table.insertMany(4, 7);
    await table.insertMany(8, 10);
    const child = new Child(
      "told_consumer.ts",
      db.dsn,
      table.slotName,
      table.name,
      JSON.stringify({ batch: { maxEvents: 5, maxDelayMs: NEVER_MS }, hangOn: ["6"] }),
    );
    await child.printed(3);
    assertEquals(child.lines, ["+ 1 2 3 4 5", "- 1 2 3 4 5", "+ 6 7 8 9 10"]);
    // The first is whole, and is confirmed though the batch went beyond it.
    const raw: ChangeEvent[] = [];
    await sleep(500);
    await child.kill();
    await table.free();
    const stream = table.stream().onBatch((events) => void raw.push(...events), {
      maxEvents: 100,
      maxDelayMs: 100,
    });
    const running = await started(stream);
    await until("the rest", () => raw.at(-1)?.key === "10");
    await until(
      "it to be confirmed",
      async () => await table.confirmedLsn() > parseLsn(raw.at(-1)!.lsn),
    );
    await running.stop();
    assertEquals(keys(raw), texts(4, 10));
    await table.remove();
  });

  test("is not confirmed while one of its handlers has it", async () => {
    const table = await TestTable.create(db, "second");
    const gate = new Gate();
    let lsn = "";
    const stream = table.stream()
      .onBatch((events) => void (lsn = events[0]!.lsn))
      .onBatch(() => gate.pass());
    const running = await started(stream);
    await table.insert(1);
    await until("the second handler", () => gate.waiting === 1);
    await sleep(500);
    assertLessOrEqual(await table.confirmedLsn(), parseLsn(lsn));
    assertLessOrEqual(parseLsn(stream.status().handledLsn), parseLsn(lsn));
    gate.open();
    await until("the confirmation", async () => await table.confirmedLsn() > parseLsn(lsn));
    await running.stop();
    await table.remove();
  });
});
