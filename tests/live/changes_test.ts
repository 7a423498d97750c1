/** Loops over transactions: whole, in order, confirmed by whoever handles them, and left at any time. */

import { assert, assertEquals, assertGreater, assertLess, assertLessOrEqual } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { parseLsn, type PgStream, type PgStreamOptions, type Transaction } from "../../mod.ts";
import { Child } from "../support/child.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { sleep, started, until, within, withServerOptions } from "../support/streams.ts";
import { currentLsn, TestTable, texts } from "../support/test_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

type Tx = Transaction<Record<string, Record<string, string>>>;
const keysOf = (part: Tx) => part.events.map(({ key }) => key!);

/** Hands what comes to `each` until that says that it has enough; then leaves the loop. */
async function follow(
  stream: PgStream,
  each: (part: Tx) => unknown,
  timeoutMs = 20_000,
): Promise<void> {
  await within(
    "the loop to end",
    (async () => {
      for await (const part of stream.changes()) if (await each(part) === true) break;
    })(),
    timeoutMs,
  );
}

/** What a new loop gets, up to the key. */
async function keysUpTo(table: TestTable, key: string): Promise<string[]> {
  const keys: string[] = [];
  await follow(table.stream(), (part) => {
    keys.push(...keysOf(part));
    part.ack();
    return keys.includes(key);
  });
  return keys;
}

describe("changes()", () => {
  test("gives transactions whole and in commit order; what was acknowledged does not come again", async () => {
    const table = await TestTable.create(db, "whole");
    await table.insert(1);
    await table.insertMany(2, 50);
    await db.query("CREATE TABLE elsewhere (id int)");
    await db.query("INSERT INTO elsewhere VALUES (1)");
    await table.insert(51);
    const parts: Tx[] = [];
    const stream = table.stream();
    await follow(stream, (part) => {
      parts.push(part);
      part.ack();
      return parts.length === 3;
    });
    assertEquals(parts.map(keysOf), [["1"], texts(2, 50), ["51"]]);
    for (const part of parts) {
      assertEquals(part.last, true);
      for (const event of part.events) assertEquals(event.lsn, part.lsn);
    }
    const lsns = parts.map(({ lsn }) => parseLsn(lsn));
    assert(lsns[0]! < lsns[1]! && lsns[1]! < lsns[2]!);
    assertGreater(await table.confirmedLsn(), lsns[2]!);
    assertEquals(await table.walsenderPid(), null);
    assertEquals([stream.status().state, stream.status().transactions], ["stopped", 3]);
    await table.insert(52);
    assertEquals(await keysUpTo(table, "52"), ["52"]);
    await db.query("DROP TABLE elsewhere");
    await table.remove();
  });

  test("what is not acknowledged comes again, though it was handed out", async () => {
    const table = await TestTable.create(db, "again");
    await table.insert(1, 2, 3, 4);
    for (const acknowledged of [[], ["2"], ["3", "2"], ["1"], ["2", "3", "4"]]) {
      const keys: string[] = [];
      await follow(table.stream(), (part) => {
        keys.push(...keysOf(part));
        if (acknowledged.includes(part.events[0]!.key!)) part.ack();
        return keys.at(-1) === "4";
      });
      // The first time that 1 is acknowledged is the last time that it comes.
      const first = acknowledged.at(-1) === "4" ? 2 : 1;
      assertEquals(keys, texts(first, 4), `${acknowledged}`);
    }
    await table.insert(5);
    assertEquals(await keysUpTo(table, "5"), ["5"]);
    await table.remove();
  });

  test("acknowledged in any order, it is confirmed as far as there is no gap, and not by what nobody watches", async () => {
    const table = await TestTable.create(db, "order", {
      dsn: withServerOptions(db.dsn, "-c wal_sender_timeout=900ms"),
    });
    await db.query("CREATE TABLE noise (v text)");
    await table.insert(1, 2, 3);
    const parts: Tx[] = [];
    const confirmed: bigint[] = [];
    const awhile = async () => {
      await db.query("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 300)");
      await sleep(1000);
      confirmed.push(await table.confirmedLsn());
    };
    const stream = table.stream();
    await follow(stream, async (part) => {
      parts.push(part);
      if (parts.length < 3) return false;
      await awhile();
      parts[2]!.ack();
      parts[1]!.ack();
      parts[1]!.ack();
      await awhile();
      parts[0]!.ack();
      const end = await currentLsn(db);
      await until("all of it", async () => await table.confirmedLsn() >= end);
      return true;
    });
    const first = parseLsn(parts[0]!.lsn);
    for (const lsn of confirmed) assertLessOrEqual(lsn, first);
    await db.query("DROP TABLE noise");
    await table.remove();
  });

  test("acknowledged after the loop was left: no harm, and nothing is confirmed by it", async () => {
    const table = await TestTable.create(db, "late");
    await table.insert(1, 2);
    const parts: Tx[] = [];
    const stream = table.stream();
    await follow(stream, (part) => parts.push(part) === 2);
    for (const part of parts) part.ack();
    await sleep(200);
    assertEquals(await keysUpTo(table, "2"), ["1", "2"]);
    await table.remove();
  });

  test("gives a large transaction in parts, while the queue stays as small as was said", async () => {
    const ROWS = 30_000;
    const maxQueueBytes = 500_000;
    const table = await TestTable.create(db, "parts", { maxQueueBytes });
    await table.insertMany(1, ROWS, "repeat('x', 300)");
    await table.insert(ROWS + 1);
    const seen: string[] = [];
    const kept: Tx[] = [];
    const lasts: boolean[] = [];
    let most = 0;
    const stream = table.stream();
    await follow(stream, async (part) => {
      // Parts that are not acknowledged are the loop's own, and no part of the queue.
      kept.push(part);
      seen.push(...keysOf(part));
      lasts.push(part.last);
      if (kept.length % 10 === 0) await sleep(10);
      most = Math.max(most, stream.status().queueBytes);
      return seen.length === ROWS + 1;
    }, 60_000);
    assertEquals(seen, texts(1, ROWS + 1));
    assertGreater(kept.length, 10);
    assertEquals(lasts.filter((last) => last).length, 2);
    assertEquals(lasts.slice(-2), [true, true]);
    assertEquals(new Set(kept.slice(0, -1).map(({ lsn }) => lsn)).size, 1);
    assertLess(most, 2 * maxQueueBytes);
    assertGreater(most, 0);
    await table.remove();
  });

  for (
    const [name, skipped, comes] of [
      ["all but its last part", (part: Tx) => part.last, true],
      ["all but its first part", (part: Tx) => part.events[0]!.ordinal === 0, true],
      ["every part", () => false, false],
    ] as const
  ) {
    test(`a large transaction of which ${name} was acknowledged ${comes ? "comes again whole" : "is done"}`, async () => {
      const ROWS = 10_000;
      const table = await TestTable.create(db, "partly", { maxQueueBytes: 200_000 });
      await table.insertMany(1, ROWS, "repeat('x', 300)");
      let handled = 0;
      let parts = 0;
      await follow(table.stream(), (part) => {
        handled += part.events.length;
        parts++;
        if (!skipped(part)) part.ack();
        return handled === ROWS && part.last;
      });
      assertGreater(parts, 3);
      await table.insert(ROWS + 1);
      assertEquals(
        await keysUpTo(table, String(ROWS + 1)),
        texts(comes ? 1 : ROWS + 1, ROWS + 1),
      );
      await table.remove();
    });
  }

  for (const how of ["ack", "break", "throw", "abort"]) {
    test(`left by ${how === "ack" ? "break, acknowledged" : how}: the process can end`, async () => {
      const table = await TestTable.create(db, "left");
      await table.insert(1);
      const child = new Child("leaves_loop.ts", db.dsn, table.slotName, table.name, how);
      await child.printed(2);
      assertEquals(child.lines, ["in", "left"]);
      assertEquals(await table.walsenderPid(), null);
      assertEquals(await within("the process to end", child.ended, 10_000), 0);
      await table.insert(2);
      assertEquals(await keysUpTo(table, "2"), how === "ack" ? ["2"] : ["1", "2"]);
      await table.remove();
    });
  }

  test("ends when its signal is aborted, or stop() is called, wherever it waits", async () => {
    const table = await TestTable.create(db, "ends");
    const stream = table.stream();
    for (const how of ["aborted before", "aborted", "stopped"]) {
      const abort = new AbortController();
      if (how === "aborted before") abort.abort(new Error("the user's reason"));
      let turns = 0;
      const loop = (async () => {
        for await (const _ of stream.changes({ signal: abort.signal })) turns++;
      })();
      await sleep(300);
      if (how === "aborted") abort.abort(new Error("the user's reason"));
      if (how === "stopped") await within("stop()", stream.stop());
      await within(`the loop to end: ${how}`, loop);
      assertEquals([turns, stream.status().state, stream.status().lastError], [0, "stopped", null]);
    }
    assertEquals(await table.walsenderPid(), null);
    await table.remove();
  });

  test("hands no part out after it was told to stop, though more is there", async () => {
    const table = await TestTable.create(db, "more");
    await table.insert(1, 2, 3, 4, 5);
    const abort = new AbortController();
    const keys: string[] = [];
    for await (const part of table.stream().changes({ signal: abort.signal })) {
      keys.push(...keysOf(part));
      part.ack();
      await sleep(200);
      if (keys.length === 2) abort.abort();
    }
    assertEquals(keys, ["1", "2"]);
    assertEquals(await keysUpTo(table, "5"), ["3", "4", "5"]);
    await table.remove();
  });

  test("confirms what is acknowledged in the turn in which it was told to stop", async () => {
    const table = await TestTable.create(db, "turn");
    await table.insert(1, 2, 3);
    const abort = new AbortController();
    for await (const part of table.stream().changes({ signal: abort.signal })) {
      abort.abort();
      await sleep(300);
      part.ack();
    }
    const stream = table.stream();
    for await (const part of stream.changes()) {
      void stream.stop();
      await sleep(300);
      part.ack();
    }
    assertEquals(await keysUpTo(table, "3"), ["3"]);
    await table.remove();
  });

  test("throws what went wrong out of the loop", async () => {
    const table = await TestTable.create(db, "wrong", { reconnect: { minDelayMs: 500 } });
    const stream = table.stream();
    const loop = follow(stream, () => false).then(() => null, (error) => error);
    await until("the loop", () => stream.status().state === "streaming");
    await table.terminate();
    await table.free();
    await db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`);
    const error = await loop;
    assertEquals([error?.kind, stream.status().state], ["slot-missing", "failed"]);
    // So does one that cannot even begin.
    const next = await follow(stream, () => false).then(() => null, (error) => error);
    assertEquals(next?.kind, "slot-missing");
    await table.remove();
  });

  test("refuses a second one, and start(), while it runs", async () => {
    const table = await TestTable.create(db, "second");
    await table.insert(1);
    const stream = table.stream().onChange(() => {});
    await follow(stream, async () => {
      const calls: [string, () => Promise<unknown>][] = [
        ["start()", () => stream.start()],
        ["catchUp()", () => stream.catchUp()],
        ["changes()", () => follow(stream, () => true)],
      ];
      for (const [name, call] of calls) {
        const error = await call().then(() => null, (error) => error);
        assertEquals(error?.kind, "already-running", name);
      }
      assertEquals(stream.status().state, "streaming");
      return true;
    });
    // And again, one after the other: nothing of the first loop is left.
    const running = await started(stream);
    await running.stop();
    await table.remove();
  });

  test("comes back from a lost connection: each transaction comes once in one loop", async () => {
    const table = await TestTable.create(db, "lost", {
      reconnect: { minDelayMs: 10, maxDelayMs: 100 },
      maxQueueBytes: 100_000,
    });
    await table.insert(1, 2);
    await table.insertMany(3, 10_000, "repeat('x', 100)");
    const keys: string[] = [];
    const parts: Tx[] = [];
    const stream = table.stream();
    await follow(stream, async (part) => {
      parts.push(part);
      keys.push(...keysOf(part));
      // In hand while the connection is lost, and acknowledged on the next one.
      // Some of these meet no connection, since the one before was just lost.
      if (parts.length % 10 === 1) await table.terminate();
      if (keys.at(-1) === "10000") await table.insert(10_001);
      return keys.at(-1) === "10001";
    });
    assertEquals(keys, texts(1, 10_001));
    assert(stream.status().reconnects >= 2);
    // None was acknowledged: they come again, in a loop of their own.
    const again: string[] = [];
    await follow(stream, async (part) => {
      again.push(...keysOf(part));
      if (part.events[0]!.key === "2") await table.terminate();
      part.ack();
      return again.at(-1) === "10001";
    });
    assertEquals(again, texts(1, 10_001));
    const end = await currentLsn(db);
    await table.insert(10_002);
    assertEquals(await keysUpTo(table, "10002"), ["10002"]);
    assertGreater(await table.confirmedLsn(), end);
    await table.remove();
  });

  for (const acknowledges of [true, false]) {
    test(`goes on behind a gap, ${acknowledges ? "what was handed out acknowledged later" : "with parts that nobody acknowledges"}`, async () => {
      const options: PgStreamOptions = {
        onSlotLost: "recreate",
        reconnect: { minDelayMs: 1500, maxDelayMs: 1500 },
      };
      const table = await TestTable.create(db, "gap", options);
      await table.insert(1, 2, 3);
      let gaps = 0;
      const parts: Tx[] = [];
      const stream = table.stream().onGap(() => void gaps++);
      await follow(stream, async (part) => {
        parts.push(part);
        if (part.events[0]!.key === "3") {
          await table.terminate();
          await table.free();
          await db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`);
          if (acknowledges) setTimeout(() => parts.forEach((part) => part.ack()), 3000);
          void until("the stream", () => gaps > 0 && stream.status().state === "streaming")
            .then(() => table.insert(4), () => {});
        }
        return part.events[0]!.key === "4";
      });
      assertEquals([parts.flatMap(keysOf), gaps], [["1", "2", "3", "4"], 1]);
      await table.remove();
    });
  }
});
