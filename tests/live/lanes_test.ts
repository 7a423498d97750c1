/** Handlers side by side: what may overlap, what must not, and what waits for everything. */

import { assert, assertEquals, assertInstanceOf, assertLessOrEqual } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, parseLsn, PgStreamError } from "../../mod.ts";
import { Child } from "../support/child.ts";
import { seededRandom } from "../support/random.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { sleep, started, until, within, withServerOptions } from "../support/streams.ts";
import { Gate, TestTable, texts } from "../support/test_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

/** What is to begin has had its chance. */
const AWHILE_MS = 400;

describe("with concurrency", () => {
  test("so many handlers run side by side for different keys, and no more", async () => {
    const table = await TestTable.create(db, "side", { concurrency: 4 });
    const gate = new Gate();
    const done: string[] = [];
    const stream = table.stream().onChange(async (event) => {
      await gate.pass();
      done.push(event.key!);
    });
    const running = await started(stream);
    await table.insertMany(1, 30);
    await until("four handlers", () => gate.waiting >= 4);
    await sleep(AWHILE_MS);
    assertEquals(gate.waiting, 4);
    gate.open();
    await until("all of them", () => done.length === 30);
    await running.stop();
    assertEquals(done.map(Number).sort((a, b) => a - b).map(String), texts(1, 30));
    await table.remove();
  });

  test("changes of one key are handled in their order, one at a time", async () => {
    const seed = Date.now() % 1_000_000;
    console.log(`seed ${seed}`);
    const random = seededRandom(seed);
    const table = await TestTable.create(db, "strict", { concurrency: 8 });
    const last = new Map<string, number>();
    const busy = new Set<string>();
    const wrong: string[] = [];
    let most = 0;
    let handled = 0;
    const stream = table.stream().onChange(async (event) => {
      const { key, row } = event as ChangeEvent & { key: string };
      const version = Number(row.v);
      if (busy.has(key)) wrong.push(`${key} overlaps at ${version}`);
      busy.add(key);
      most = Math.max(most, busy.size);
      if (random() < 0.5) await sleep(random() * 5);
      if (version !== (last.get(key) ?? -1) + 1) wrong.push(`${key} at ${version}`);
      last.set(key, version);
      busy.delete(key);
      handled++;
    });
    const running = await started(stream);
    await table.insertMany(1, 20, "0");
    for (let version = 1; version <= 30; version++) {
      await db.query(
        version % 3 === 0
          ? `UPDATE ${table.name} SET v = ${version}`
          // As many transactions as rows.
          : `DO $$ BEGIN FOR n IN 1..20 LOOP
             UPDATE ${table.name} SET v = ${version} WHERE id = n; COMMIT;
           END LOOP; END $$`,
      );
    }
    await until("all events", () => handled === 31 * 20, 30_000);
    await running.stop();
    assertEquals(wrong, [], `seed ${seed}`);
    assert(most > 1, "nothing ran side by side");
    await table.remove();
  });

  test("a key change waits for both keys, and both wait for it; others do not", async () => {
    const table = await TestTable.create(db, "moved", { concurrency: 8 });
    await table.insertMany(1, 3, "'old'");
    const gates = { one: new Gate(), five: new Gate(), move: new Gate() };
    const log: string[] = [];
    const stream = table.stream().onChange(async (event) => {
      const name = `${event.operation} ${event.oldKey ?? ""}>${event.key}`;
      log.push(`+${name}`);
      if (name === "update >1") await gates.one.pass();
      if (name === "delete >5") await gates.five.pass();
      if (name === "update 1>5") await gates.move.pass();
      log.push(`-${name}`);
    });
    const running = await started(stream);
    await until("the first rows", () => log.length === 6);
    log.length = 0;
    await table.insert(5);
    await db.query(`UPDATE ${table.name} SET v = 'one' WHERE id = 1`);
    await db.query(`DELETE FROM ${table.name} WHERE id = 5`);
    await db.query(`UPDATE ${table.name} SET id = 5 WHERE id = 1`);
    await db.query(`INSERT INTO ${table.name} VALUES (1, 'new')`);
    await db.query(`UPDATE ${table.name} SET v = 'five' WHERE id = 5`);
    await table.insertMany(101, 130);
    await until("both gates", () => gates.one.waiting + gates.five.waiting === 2);
    // Some of the others: which of them share a lane with one that hangs is nobody's business.
    await until("another key", () => log.some((line) => /-insert >1\d\d/.test(line)));
    await sleep(AWHILE_MS);
    assertEquals(log.filter((line) => /1>5|insert >1$|update >5/.test(line)), []);
    gates.five.open();
    await sleep(AWHILE_MS);
    assertEquals(gates.move.waiting, 0, "it did not wait for the key that it leaves");
    gates.one.open();
    await until("the key change", () => gates.move.waiting === 1);
    await sleep(AWHILE_MS);
    assertEquals(log.filter((line) => /insert >1$|update >5/.test(line)), []);
    gates.move.open();
    await until("the last ones", () => log.includes("-insert >1") && log.includes("-update >5"));
    await running.stop();
    assert(log.indexOf("-update 1>5") < log.indexOf("+insert >1"));
    assert(log.indexOf("-update 1>5") < log.indexOf("+update >5"));
    await table.remove();
  });

  test("a key change to a key that is busy waits, also where the key that it leaves is idle", async () => {
    const table = await TestTable.create(db, "target", { concurrency: 8 });
    const gate = new Gate();
    const log: string[] = [];
    const stream = table.stream().onChange(async (event) => {
      if (event.operation === "delete") await gate.pass();
      log.push(`${event.operation} ${event.key}`);
    });
    const running = await started(stream);
    await table.insert(1, 5);
    await until("the rows", () => log.length === 2);
    log.length = 0;
    await db.query(`DELETE FROM ${table.name} WHERE id = 5`);
    await db.query(`UPDATE ${table.name} SET id = 5 WHERE id = 1`);
    await until("the delete", () => gate.waiting === 1);
    await sleep(AWHILE_MS);
    assertEquals(log, []);
    gate.open();
    await until("the key change", () => log.length === 2);
    await running.stop();
    assertEquals(log, ["delete 5", "update 5"]);
    await table.remove();
  });

  test("TRUNCATE waits for everything, and everything for it", async () => {
    const table = await TestTable.create(db, "truncated", { concurrency: 8 });
    const gate = new Gate();
    const wiping = new Gate();
    const log: string[] = [];
    const stream = table.stream().onChange(async (event) => {
      log.push(`+${event.operation} ${event.key}`);
      if (event.key === "3") await gate.pass();
      if (event.operation === "truncate") await wiping.pass();
      log.push(`-${event.operation} ${event.key}`);
    });
    const running = await started(stream);
    await table.insertMany(1, 5);
    await db.query(`TRUNCATE ${table.name}`);
    await table.insert(6, 7);
    await until("the one that hangs", () => gate.waiting === 1);
    await sleep(AWHILE_MS);
    assertEquals(log.filter((line) => /truncate|6|7/.test(line)), []);
    gate.open();
    await until("TRUNCATE", () => wiping.waiting === 1);
    await sleep(AWHILE_MS);
    assertEquals([log.length, log.at(-1)], [11, "+truncate null"]);
    wiping.open();
    await until("the rest", () => log.length === 16);
    await running.stop();
    await table.remove();
  });

  test("with batches, barriers one after the other do not wait for each other or for full batches", async () => {
    const table = await TestTable.create(db, "circle", { concurrency: 4 });
    const seen: string[] = [];
    const stream = table.stream().onBatch((events) => {
      for (const event of events) seen.push(`${event.operation} ${event.key}`);
    }, { maxEvents: 1000, maxDelayMs: 3_600_000 });
    const running = await started(stream);
    for (let round = 0; round < 10; round++) {
      await table.insertMany(1, 9);
      await db.query(`UPDATE ${table.name} SET id = id + 100;
        UPDATE ${table.name} SET id = 302 - id; UPDATE ${table.name} SET v = 'x' WHERE id < 196`);
      await db.query(`TRUNCATE ${table.name}`);
    }
    await until(
      "all but what waits behind the last barrier",
      () => seen.filter((line) => line.startsWith("truncate")).length >= 9,
    );
    await within("stop()", running.stop());
    await table.remove();
  });

  test("a batch holds a key's changes in their order, and no other batch has them meanwhile", async () => {
    const table = await TestTable.create(db, "lots", { concurrency: 4 });
    const last = new Map<string, number>();
    const busy = new Set<string>();
    const wrong: string[] = [];
    let running = 0;
    let most = 0;
    let handled = 0;
    const stream = table.stream().onBatch(async (events) => {
      const keys = new Set(events.map(({ key }) => key!));
      for (const key of keys) {
        if (busy.has(key)) wrong.push(`${key} is in two batches`);
        busy.add(key);
      }
      most = Math.max(most, ++running);
      await sleep(2);
      for (const { key, row } of events) {
        const version = Number(row.v);
        if (version !== (last.get(key!) ?? -1) + 1) wrong.push(`${key} at ${version}`);
        last.set(key!, version);
      }
      for (const key of keys) busy.delete(key);
      running--;
      handled += events.length;
    }, { maxEvents: 7, maxDelayMs: 20 });
    await table.insertMany(1, 40, "0");
    for (let version = 1; version <= 20; version++) {
      await db.query(`UPDATE ${table.name} SET v = ${version}`);
    }
    const streaming = await started(stream);
    await until("all events", () => handled === 21 * 40);
    await streaming.stop();
    assertEquals(wrong, []);
    assert(most > 1 && most <= 4, `${most} side by side`);
    await table.remove();
  });
});

describe("the frontier of handlers side by side", () => {
  test("stays before the one that hangs: after a kill all that follows it comes again", async () => {
    const table = await TestTable.create(db, "frontier");
    await table.insert(...texts(0, 30).map(Number));
    const child = new Child(
      "told_consumer.ts",
      withServerOptions(db.dsn, "-c wal_sender_timeout=900ms"),
      table.slotName,
      table.name,
      JSON.stringify({ options: { concurrency: 4 }, hangOn: ["1"] }),
    );
    // Some of the others may have to wait for it.
    await until("others", () => child.lines.filter((line) => line.startsWith("-")).length > 10);
    await db.query("CREATE TABLE unwatched_bait (v text)");
    for (let round = 0; round < 5; round++) {
      await db.query(
        "INSERT INTO unwatched_bait SELECT repeat('x', 1000) FROM generate_series(1, 500)",
      );
      await sleep(200);
    }
    const confirmed = await table.confirmedLsn();
    await child.kill();
    await table.free();
    const again: ChangeEvent[] = [];
    const running = await started(table.stream().onChange((event) => void again.push(event)));
    await until("the last event", () => again.at(-1)?.key === "30");
    await running.stop();
    assertEquals(again.map(({ key }) => key), texts(1, 30));
    assertLessOrEqual(confirmed, parseLsn(again[0]!.lsn));
    await table.remove();
  });

  test("a key that fails is not overtaken by its own later changes; others go on (33)", async () => {
    const table = await TestTable.create(db, "failing", {
      concurrency: 4,
      retry: { attempts: 1000, minDelayMs: 5, maxDelayMs: 10 },
    });
    let broken = true;
    const seen: string[] = [];
    const stream = table.stream().onChange((event) => {
      if (event.key === "1" && broken) throw new Error("down");
      seen.push(`${event.key} ${event.row.v}`);
    });
    const running = await started(stream);
    await table.insertMany(1, 30, "'a'");
    for (const value of ["b", "c"]) await db.query(`UPDATE ${table.name} SET v = '${value}'`);
    await until("others", () => seen.length > 10);
    await sleep(AWHILE_MS);
    const ofOne = () => seen.filter((line) => line.startsWith("1 "));
    assertEquals(ofOne(), []);
    broken = false;
    await until("the rest", () => seen.length === 90);
    await running.stop();
    assertEquals(ofOne(), ["1 a", "1 b", "1 c"]);
    await table.remove();
  });

  test("a key that fails for good ends the stream with its error, though another one hangs", async () => {
    const table = await TestTable.create(db, "ending", {
      concurrency: 4,
      retry: { attempts: 1 },
    });
    const gate = new Gate();
    let told = false;
    const stream = table.stream().onChange(async (event, _sink, { signal }) => {
      if (event.key !== "1") throw new Error("for good");
      signal.addEventListener("abort", () => told = true);
      await gate.pass();
    });
    const { ended } = await started(stream);
    await table.insert(1);
    await until("the one that hangs", () => gate.waiting === 1);
    await table.insert(...texts(2, 20).map(Number));
    const error = await within("start() to reject", ended, 30_000);
    assertInstanceOf(error, PgStreamError);
    assertEquals([error.kind, told, stream.status().state], ["handler-failed", true, "failed"]);
    gate.open();
    const again: string[] = [];
    const next = await started(
      table.stream({ concurrency: 1 }).onChange((event) => void again.push(event.key!)),
    );
    await until("all again", () => again.length === 20);
    await next.stop();
    assertEquals(again, texts(1, 20));
    await table.remove();
  });

  test("does not move far ahead of one that hangs: what is done behind it is bounded too", async () => {
    const ROWS = 150_000;
    const table = await TestTable.create(db, "bounded", { concurrency: 4 });
    const gate = new Gate();
    const seen = new Set<string>();
    let twice = 0;
    const stream = table.stream().onChange(async ({ key }) => {
      if (key === "1") await gate.pass();
      if (seen.has(key!)) twice++;
      seen.add(key!);
    });
    const running = await started(stream);
    await db.query(`DO $$ BEGIN FOR n IN 1..${ROWS} LOOP
      INSERT INTO ${table.name} VALUES (n); COMMIT; END LOOP; END $$`);
    await until("the one that hangs", () => gate.waiting === 1);
    let handled = -1;
    await until("the others to come to an end", async () => {
      const before = handled;
      handled = seen.size;
      await sleep(500);
      return before === handled && seen.size === handled;
    }, 60_000);
    assert(handled > 1000 && handled < ROWS / 2, `${handled} are done behind it`);
    gate.open();
    await until("all of them", () => seen.size === ROWS, 60_000);
    assertEquals(twice, 0);
    await running.stop();
    await table.remove();
  });
});
