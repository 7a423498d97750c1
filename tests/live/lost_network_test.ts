/** Networks that cut, freeze or swallow: noticed, and come back from without a doubt about any event. */

import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, parseLsn } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { sleep, started, until, within, withServerOptions } from "../support/streams.ts";
import { currentLsn, Gate, TestTable, texts } from "../support/test_table.ts";
import { FaultyProxy } from "./chaos/proxy.ts";

let db: TestPostgres;
let proxy: FaultyProxy;
before(async () => {
  db = await testPostgres();
  proxy = await FaultyProxy.listen(Number(new URL(db.dsn).port || 5432), () => 1);
});
after(async () => {
  await proxy?.[Symbol.asyncDispose]();
  await db?.stop();
});

/** By way of the proxy, to a server that has the timeout. */
const through = (timeout: string) =>
  proxy.dsn(withServerOptions(db.dsn, `-c wal_sender_timeout=${timeout}`));
const soon = { minDelayMs: 20, maxDelayMs: 500 };

const faults: [string, string, () => number][] = [
  ["is reset", "60s", () => proxy.cut("RST")],
  ["is closed", "60s", () => proxy.cut("FIN")],
  // The server holds its half for as long as its timeout says, unless somebody ends it.
  ["is reset on one side only", "60s", () => proxy.freeze()],
  // Nobody is told: the server's answers to status updates are missed, (46) has when they are not.
  ["swallows what the server sends", "2s", () => proxy.drop("toClient")],
  ["swallows what the stream sends", "2s", () => proxy.drop("toServer")],
  ["swallows everything", "2s", () => proxy.drop("toClient", "toServer")],
];

describe("a connection that", () => {
  for (const [name, timeout, harm] of faults) {
    test(`${name}, idle: what was committed meanwhile comes, once`, async () => {
      const table = await TestTable.create(db, "idle", { dsn: through(timeout), reconnect: soon });
      const events: ChangeEvent[] = [];
      const stream = table.stream().onChange((event) => void events.push(event));
      const running = await started(stream);
      await table.insert(1, 2);
      await until("the first rows", () => events.length === 2);
      const pid = await table.walsenderPid();
      assertGreater(harm(), 0);
      await table.insert(3, 4);
      await until("the next rows", () => events.length === 4, 30_000);
      await sleep(200);
      assertEquals(events.map(({ key }) => key), ["1", "2", "3", "4"]);
      // What the server sends may go on coming for as long as it waits for us.
      await until("a new connection", () => stream.status().reconnects >= 1);
      const last = events.at(-1)!.lsn;
      await until("the confirmation", async () => await table.confirmedLsn() > parseLsn(last));
      assert(await table.walsenderPid() !== pid);
      const [{ own } = { own: 0 }] = await db.query<{ own: number }>(
        `SELECT count(*)::int AS own FROM pg_stat_activity WHERE pid = ${pid}`,
      );
      assertEquals(own, 0, "the lost session was left behind");
      await running.stop();
      await table.remove();
    });

    test(`${name}, amid a transaction of 100,000 rows: each row comes once, in order`, async () => {
      const ROWS = 100_000;
      const table = await TestTable.create(db, "amid", {
        dsn: through(timeout),
        reconnect: soon,
        maxQueueBytes: 500_000,
      });
      const seen: number[] = [];
      const stream = table.stream().onChange(async (event) => {
        seen.push(Number(event.key));
        if (seen.length % 500 === 0) await sleep(1);
      });
      const running = await started(stream);
      await table.insertMany(1, ROWS, "'a row of some length'");
      await until("some rows", () => seen.length > 5000);
      assertGreater(harm(), 0);
      const before = seen.length;
      assertLess(before, ROWS / 2);
      await table.insert(ROWS + 1);
      await until("all rows", () => seen.length >= ROWS + 1, 60_000);
      await sleep(200);
      assertEquals(seen.length, ROWS + 1);
      await until("a new connection", () => stream.status().reconnects >= 1);
      await table.insert(ROWS + 2);
      await until("one more row", () => seen.length >= ROWS + 2);
      assert(seen.every((key, index) => key === index + 1), "out of order, or twice");
      await running.stop();
      await table.remove();
    });
  }

  test("is cut amid many small transactions that are queued, again and again: each row comes once", async () => {
    const ROWS = 3000;
    const table = await TestTable.create(db, "small", { dsn: through("60s"), reconnect: soon });
    const seen: number[] = [];
    const stream = table.stream().onChange(async (event) => {
      seen.push(Number(event.key));
      if (seen.length % 10 === 0) await sleep(5);
    });
    const running = await started(stream);
    await db.query(`DO $$ BEGIN FOR n IN 1..${ROWS} LOOP
      INSERT INTO ${table.name} VALUES (n); COMMIT; END LOOP; END $$`);
    for (let cut = 0; cut < 5; cut++) {
      const handled = seen.length + ROWS / 10;
      await until("some rows", () => seen.length >= handled);
      await until("the connection", () => stream.status().reconnects >= cut);
      assertGreater(cut % 2 === 0 ? proxy.cut("RST") : proxy.freeze(), 0);
    }
    await until("all rows", () => seen.length >= ROWS, 30_000);
    await table.insert(ROWS + 1);
    await until("the last row", () => seen.length > ROWS);
    assert(seen.every((key, index) => key === index + 1), "out of order, or twice");
    assertEquals(stream.status().transactions, ROWS + 1);
    await running.stop();
    await table.remove();
  });

  test("freezes on the client's side has its own old session ended within moments (10)", async () => {
    const table = await TestTable.create(db, "frozen", { dsn: through("60s"), reconnect: soon });
    const keys: string[] = [];
    const stream = table.stream().onChange((event) => void keys.push(event.key!));
    const running = await started(stream);
    for (let round = 1; round <= 3; round++) {
      await until("the stream", () => stream.status().state === "streaming");
      const pid = await table.walsenderPid();
      const at = performance.now();
      proxy.freeze();
      await table.insert(round);
      await until("the row", () => keys.length === round);
      console.log(`back after ${Math.round(performance.now() - at)} ms`);
      // Alone it would take the server a minute.
      assertLess(performance.now() - at, 10_000);
      assert(await table.walsenderPid() !== pid);
    }
    await running.stop();
    assertEquals(keys, texts(1, 3));
    await table.remove();
  });

  test("is left unread for twelve timeouts by handlers that hang is kept, and each row comes once (7)", async () => {
    const ROWS = 10_000;
    const gate = new Gate();
    const options = {
      dsn: withServerOptions(db.dsn, "-c wal_sender_timeout=1s"),
      reconnect: soon,
      maxQueueBytes: 10_000,
    };
    const consumers = await Promise.all(["alone", "lanes", "batches", "loop"].map(async (how) => {
      const table = await TestTable.create(db, how, options);
      const stream = table.stream({ concurrency: how === "lanes" ? 4 : 1 });
      let handled = 0;
      const handle = async (events: unknown[]) => {
        await gate.pass();
        handled += events.length;
      };
      if (how === "batches") stream.onBatch(handle);
      else stream.onChange((event) => handle([event]));
      const running = how !== "loop" ? (await started(stream)).ended : (async () => {
        for await (const part of stream.changes()) {
          await handle(part.events);
          part.ack();
        }
        return null;
      })();
      const pid = await until("the walsender", () => table.walsenderPid());
      return { how, table, stream, running, pid, handled: () => handled };
    }));
    for (const { table } of consumers) await table.insertMany(1, ROWS, "repeat('x', 1000)");
    await until("the handlers", () => gate.waiting >= consumers.length);
    await sleep(12_000);
    for (const { how, table, stream, pid } of consumers) {
      assertEquals([await table.walsenderPid(), stream.status().reconnects], [pid, 0], how);
    }
    gate.open();
    for (const { how, table, stream, running, pid, handled } of consumers) {
      await until("all rows", () => handled() >= ROWS, 30_000);
      const last = await currentLsn(db);
      await until("the confirmation", async () => await table.confirmedLsn() >= last);
      assertEquals([await table.walsenderPid(), handled()], [pid, ROWS], how);
      await stream.stop();
      assertEquals(await within("the end", running), null, how);
      await table.remove();
    }
  });

  test("is silent because the server decodes what nobody watches is kept (46)", async () => {
    const table = await TestTable.create(db, "decoding", {
      dsn: withServerOptions(db.dsn, "-c wal_sender_timeout=600ms"),
      reconnect: soon,
    });
    await db.query("CREATE TABLE unwatched (n int)");
    const keys: string[] = [];
    const stream = table.stream().onChange((event) => void keys.push(event.key!));
    const running = await started(stream);
    const pid = await table.walsenderPid();
    await db.query("INSERT INTO unwatched SELECT n FROM generate_series(1, 2000000) n");
    await table.insert(1);
    let [received, since, longest] = ["", performance.now(), 0];
    await until("the row that follows", () => {
      const { receivedLsn } = stream.status();
      longest = Math.max(longest, performance.now() - since);
      if (receivedLsn !== received) [received, since] = [receivedLsn, performance.now()];
      return keys.length === 1;
    }, 60_000);
    console.log(`silent for ${Math.round(longest)} ms`);
    assertEquals([stream.status().reconnects, await table.walsenderPid()], [0, pid]);
    await running.stop();
    await db.query("DROP TABLE unwatched");
    await table.remove();
  });

  test("swallows everything while the stream is being opened again is given up, and tried again", async () => {
    let armed = false;
    const debug = (message: string) => {
      if (!armed || !message.startsWith("Connected to")) return;
      armed = false;
      proxy.drop("toServer", "toClient");
    };
    const nothing = () => {};
    const table = await TestTable.create(db, "opening", {
      dsn: through("60s"),
      reconnect: soon,
      logger: { debug, info: nothing, warn: nothing, error: nothing },
    });
    const keys: string[] = [];
    const running = await started(table.stream().onChange((event) => void keys.push(event.key!)));
    armed = true;
    assertGreater(proxy.cut("RST"), 0);
    await until("the stream to be opened", () => !armed);
    await table.insert(1);
    await until("the row", () => keys.length === 1, 40_000);
    await running.stop();
    await table.remove();
  });

  test("is lost again and again within a transaction ends in each row once", async () => {
    const ROWS = 60_000;
    const CUTS = 6;
    const table = await TestTable.create(db, "again", {
      dsn: through("60s"),
      reconnect: { minDelayMs: 5, maxDelayMs: 20 },
      maxQueueBytes: 300_000,
    });
    const seen: number[] = [];
    const stream = table.stream().onChange(async (event) => {
      seen.push(Number(event.key));
      // Slow enough that none of the cuts comes after the last row.
      if (seen.length % 100 === 0) await sleep(5);
    });
    const running = await started(stream);
    // Long rows: what is in the sockets when one is cut is still handed out, and must not be all of them.
    await table.insertMany(1, ROWS, "repeat('x', 1000)");
    for (let cut = 0; cut < CUTS; cut++) {
      // Each connection reads the transaction from its beginning, and comes some way.
      const handled = seen.length + ROWS / 60;
      await until("some rows", () => seen.length >= handled);
      await until("the connection", () => stream.status().reconnects >= cut);
      assertGreater(proxy.cut(cut % 2 === 0 ? "RST" : "FIN"), 0);
    }
    await until("all rows", () => seen.length >= ROWS, 60_000);
    await table.insert(ROWS + 1);
    await until("the last row", () => seen.length > ROWS);
    await running.stop();
    assertEquals(seen.length, ROWS + 1);
    assert(seen.every((key, index) => key === index + 1), "out of order, or twice");
    assert(stream.status().reconnects >= CUTS, `${stream.status().reconnects} times`);
    await table.remove();
  });
});
