/** One slot and several consumers: who is told, who waits, who takes over, and who is left in peace. */

import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertStringIncludes,
} from "@std/assert";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { type PgStream, SlotError } from "../../mod.ts";
import { Child } from "../support/child.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { sleep, started, until, within } from "../support/streams.ts";
import { currentLsn, Gate, TestTable, texts } from "../support/test_table.ts";
import { FaultyProxy } from "./chaos/proxy.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

/** A consumer in a process of its own. */
const consumer = (table: TestTable, told: object = {}) =>
  new Child("told_consumer.ts", db.dsn, table.slotName, table.name, JSON.stringify(told));

const keysOf = (child: Child) =>
  child.lines.filter((line) => line.startsWith("-")).map((line) => line.slice(2));

describe('with whenSlotInUse: "error", a slot that another process holds', () => {
  test("is an error that names its PID, after a few seconds; the holder is left alone (10)", async () => {
    const table = await TestTable.create(db, "stranger");
    const child = consumer(table);
    const pid = await until("the other one", () => table.walsenderPid());
    const stream = table.stream().onChange(() => {});
    const at = performance.now();
    const error = await within("start()", stream.start().then(() => null, (error) => error));
    const ms = performance.now() - at;
    assertInstanceOf(error, SlotError);
    assertEquals([error.kind, error.activePid, error.retryable], ["slot-in-use", pid, true]);
    assertStringIncludes(error.message, String(pid));
    assertStringIncludes(error.message, table.slotName);
    assert(error.hint);
    assertGreater(ms, 1000);
    assertLess(ms, 12_000);
    assertEquals(await table.walsenderPid(), pid);
    await table.insert(1);
    await until("the holder's row", () => keysOf(child).length === 1);
    await child.kill();
    await table.free();
    // And the stream that was refused can be started again.
    await (await started(stream)).stop();
    await table.remove();
  });

  test("and whose process is stopped, is left to it all the same (10)", async () => {
    const table = await TestTable.create(db, "stopped");
    const child = consumer(table, { printPid: true });
    const pid = await until("the other one", () => table.walsenderPid());
    await child.printed(1);
    // By the system's own call: on Deno a child process takes one signal and no more.
    const processId = Number(child.lines[0]);
    process.kill(processId, "SIGSTOP");
    const error = await within(
      "start()",
      table.stream().onChange(() => {}).start().then(() => null, (error) => error),
    );
    assertEquals([error?.kind, error?.activePid], ["slot-in-use", pid]);
    assertEquals(await table.walsenderPid(), pid);
    process.kill(processId, "SIGCONT");
    await table.insert(1);
    await until("the holder's row", () => keysOf(child).length === 1);
    process.kill(processId, "SIGKILL");
    await child.ended;
    await table.free();
    await table.remove();
  });

  test("is waited for while the holder is about to end", async () => {
    const table = await TestTable.create(db, "ending");
    const child = consumer(table);
    await until("the other one", () => table.walsenderPid());
    const stream = table.stream().onChange(() => {});
    const starting = started(stream);
    await sleep(700);
    await child.kill();
    await (await starting).stop();
    await table.remove();
  });

  test("and has it by the time that a lost connection is remade, keeps it (10)", async () => {
    const table = await TestTable.create(db, "taken", {
      // Of which it waits half at least: a process takes some seconds to start where others run beside it.
      reconnect: { minDelayMs: 8000, maxDelayMs: 8000 },
    });
    const stop = new AbortController();
    const stream = table.stream().onChange(() => {});
    const { ended } = await started(stream, { signal: stop.signal });
    const before = await until("the first one", () => table.walsenderPid());
    await table.terminate();
    const child = consumer(table, { options: { whenSlotInUse: "wait" } });
    try {
      const pid = await until("the other one", async () => {
        const now = await table.walsenderPid();
        return now === before ? null : now;
      });
      const error = await within("start() to reject", ended, 30_000);
      assertInstanceOf(error, SlotError);
      // Whichever is seen first: that the other one has it, or that it has moved it on.
      if (error.kind !== "slot-moved") {
        assertEquals([error.kind, error.activePid], ["slot-in-use", pid]);
      }
      assertEquals(await table.walsenderPid(), pid);
    } finally {
      stop.abort();
      await child.kill();
    }
    await table.free();
    await table.remove();
  });
});

describe('with whenSlotInUse: "wait"', () => {
  const options = { whenSlotInUse: "wait" as const };

  for (const [name, end] of [["stops", "SIGTERM"], ["is killed", "SIGKILL"]] as const) {
    test(`the second takes over when the first ${name}; no row is lost, amid writing`, async () => {
      const table = await TestTable.create(db, "over");
      const first = consumer(table, { options });
      const pid = await until("the first", () => table.walsenderPid());
      const second = consumer(table, { options });
      let id = 0;
      let writing = true;
      const writer = (async () => {
        while (writing) {
          await table.insert(++id);
          // The consumers take 2 ms a row: who writes as fast as it can leaves them far behind.
          await sleep(5);
        }
      })();
      await until("some rows", () => keysOf(first).length > 50);
      await sleep(500);
      assertEquals([second.lines, await table.walsenderPid()], [[], pid]);
      await first.kill(end);
      await until("the second to take over", () => keysOf(second).length > 50);
      writing = false;
      await writer;
      await until("the last row", () => keysOf(second).at(-1) === String(id));
      await second.kill();
      const mine = keysOf(first);
      const others = keysOf(second);
      assertEquals(mine, texts(1, mine.length));
      const from = Number(others[0]);
      assert(from <= mine.length + 1, `${mine.length} and then from ${from}`);
      assertEquals(others, texts(from, id));
      await table.free();
      await table.remove();
    });
  }

  test("two streams of one process do not end each other's sessions", async () => {
    const table = await TestTable.create(db, "twins", options);
    const seen: string[] = [];
    const one = await started(table.stream().onChange((event) => void seen.push(`1 ${event.key}`)));
    const pid = await table.walsenderPid();
    const stream = table.stream().onChange((event) => void seen.push(`2 ${event.key}`));
    const ended = stream.start().then(() => null, (error) => error);
    await sleep(1500);
    assertEquals(await table.walsenderPid(), pid);
    await table.insert(1);
    await until("the row", () => seen.length === 1);
    await one.stop();
    await until("the other", () => stream.status().state === "streaming");
    await table.insert(2);
    await until("the next row", () => seen.length === 2);
    await stream.stop();
    assertEquals([seen, await ended], [["1 1", "2 2"], null]);
    await table.remove();
  });

  test("of three, one at a time has it, and each row is handled in order", async () => {
    const table = await TestTable.create(db, "three", options);
    const seen: string[] = [];
    const waiting = new Map<PgStream, Promise<unknown>>();
    for (let n = 0; n < 3; n++) {
      const stream = table.stream().onChange((event) => void seen.push(event.key!));
      waiting.set(stream, stream.start().then(() => null, (error) => error));
    }
    for (let id = 1; waiting.size > 0; id++) {
      const streaming = () =>
        [...waiting.keys()].filter((stream) => stream.status().state === "streaming");
      await until("one to stream", () => streaming().length > 0);
      await table.insert(id);
      await until("the row", () => seen.length === id);
      assertEquals(streaming().length, 1);
      const [stream] = streaming();
      await stream!.stop();
      assertEquals(await waiting.get(stream!), null);
      waiting.delete(stream!);
    }
    assertEquals(seen, ["1", "2", "3"]);
    await table.remove();
  });

  test("stop() and abort end the waiting", async () => {
    const table = await TestTable.create(db, "ends", options);
    const holder = await started(table.stream().onChange(() => {}));
    const stream = table.stream().onChange(() => {});
    const ended = stream.start().then(() => null, (error) => error);
    await sleep(500);
    const at = performance.now();
    await within("stop()", stream.stop());
    assertEquals(await ended, null);
    const signal = AbortSignal.timeout(500);
    assertEquals(await within("start()", stream.start({ signal }).then(() => null)), null);
    assertLess(performance.now() - at, 5000);
    assertEquals(stream.status().state, "stopped");
    await holder.stop();
    await table.remove();
  });

  test("a slot that is dropped while it is waited for is an error, not a wait without end", async () => {
    const table = await TestTable.create(db, "dropped", options);
    const holder = await started(table.stream({ reconnect: false }).onChange(() => {}));
    const stream = table.stream().onChange(() => {});
    const ended = stream.start().then(() => null, (error) => error);
    await sleep(300);
    await until("the slot to be dropped", async () => {
      await table.terminate();
      return await db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`)
        .then(() => true, () => false);
    });
    await within("the holder", holder.ended);
    const error = await within("start() to reject", ended, 20_000) as SlotError;
    assertEquals(error?.kind, "slot-missing");
    await table.remove();
  });

  test("who lost its connection with changes in its queue does not handle them after another has", async () => {
    const table = await TestTable.create(db, "stale", options);
    const gate = new Gate();
    const seen: string[] = [];
    const one = await started(
      // So late that the other one has the slot first.
      table.stream({ reconnect: { minDelayMs: 3000, maxDelayMs: 3000 } })
        .onChange(async (event) => {
          if (event.key === "1") await gate.pass();
          seen.push(`1 ${event.key} ${event.row.v}`);
        }),
    );
    await table.insertMany(1, 1, "'old'");
    await table.insertMany(2, 2, "'old'");
    await until("the first row", () => gate.waiting === 1);
    await sleep(300);
    const two = table.stream()
      .onChange((event) => void seen.push(`2 ${event.key} ${event.row.v}`));
    const ended = two.start().then(() => null, (error) => error);
    await sleep(500);
    await table.terminate();
    // Before it knows, nobody can hold it back.
    await until("the loss", () => one.stream.status().state === "reconnecting");
    await until("the other one", () => two.status().state === "streaming");
    await db.query(`UPDATE ${table.name} SET v = 'new'`);
    await until("its rows", () => seen.length === 4);
    gate.open();
    const end = await currentLsn(db);
    await until("them to be confirmed", async () => await table.confirmedLsn() >= end);
    await two.stop();
    assertEquals(await ended, null);
    await until("the first one again", () => one.stream.status().state === "streaming");
    await table.insertMany(3, 3, "'last'");
    await until("its row", () => seen.some((line) => line.endsWith("last")));
    await one.stop();
    // What it had in hand it finishes: nobody can take that from it.
    assertEquals(seen.filter((line) => line !== "1 1 old"), [
      "2 1 old",
      "2 2 old",
      "2 1 new",
      "2 2 new",
      "1 3 last",
    ]);
    await table.remove();
  });

  test("who lost its connection comes back behind whoever has handled rows meanwhile", async () => {
    const proxy = await FaultyProxy.listen(Number(new URL(db.dsn).port || 5432), () => 1);
    const table = await TestTable.create(db, "turns", options);
    const seen: string[] = [];
    const one = await started(
      table.stream({ dsn: proxy.dsn(db.dsn), reconnect: { minDelayMs: 10, maxDelayMs: 2000 } })
        .onChange((event) => void seen.push(`1 ${event.key}`)),
    );
    const two = table.stream().onChange((event) => void seen.push(`2 ${event.key}`));
    const ended = two.start().then(() => null, (error) => error);
    await table.insert(1);
    await until("the first row", () => seen.length === 1);
    await sleep(500);
    // Held up, so that the other one has the slot first.
    proxy.stall(1500);
    await table.terminate();
    await until("the other one", () => two.status().state === "streaming");
    await table.insert(2, 3);
    await until("its rows", () => seen.length === 3);
    const end = await currentLsn(db);
    await until("them to be confirmed", async () => await table.confirmedLsn() >= end);
    await two.stop();
    assertEquals(await ended, null);
    await until("the first one again", () => one.stream.status().state === "streaming");
    await table.insert(4);
    await until("its row", () => seen.length >= 4);
    await one.stop();
    assertEquals(seen, ["1 1", "2 2", "2 3", "1 4"]);
    await table.remove();
    await proxy[Symbol.asyncDispose]();
  });
});
