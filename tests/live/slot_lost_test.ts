/** Slots that are lost: told as an error, or made anew and told as a gap. Never skipped in silence. */

import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLessOrEqual,
  assertStringIncludes,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, type Gap, parseLsn, SlotError } from "../../mod.ts";
import {
  needsOwnServer,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import { LogLines, sleep, started, until, within } from "../support/streams.ts";
import { currentLsn, Gate, TestTable } from "../support/test_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres({ settings: { max_slot_wal_keep_size: "1MB", min_wal_size: "32MB" } });
});
after(() => db?.stop());

/** Long enough to break something between the loss and the next try. */
const late = { minDelayMs: 1500, maxDelayMs: 1500 };

const drop = (table: TestTable) => db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`);

/** The server gives the slot up: more WAL was written than it is to keep. */
async function invalidate(table: TestTable): Promise<void> {
  await until("the slot to be given up", async () => {
    await db.query(`CREATE TABLE IF NOT EXISTS unwatched_noise (v text);
      INSERT INTO unwatched_noise SELECT repeat('x', 1000) FROM generate_series(1, 20000)`);
    await db.query("SELECT pg_switch_wal()");
    await db.query("CHECKPOINT");
    const [slot] = await db.query<{ status: string }>(
      `SELECT wal_status AS status FROM pg_replication_slots WHERE slot_name = $1`,
      [table.slotName],
    );
    return slot!.status === "lost";
  }, 30_000);
}

/** What happens to the slot while nobody streams, and what that is called. */
const losses: [string, string, (table: TestTable) => Promise<unknown>][] = [
  ["dropped", "slot-missing", drop],
  ["given up by the server (11)", "slot-lost", invalidate],
  ["dropped and made anew (12)", "slot-moved", async (table) => {
    await drop(table);
    await table.insert(50);
    await table.stream().setup();
  }],
];

describe("a slot that is", { skip: needsOwnServer }, () => {
  for (const [name, kind, lose] of losses) {
    test(`${name} while the connection is remade, is an error that says what is lost`, async () => {
      const table = await TestTable.create(db, "lost", { reconnect: late });
      const keys: string[] = [];
      const stream = table.stream().onChange((event) => void keys.push(event.key!));
      const { ended } = await started(stream);
      await table.insert(1);
      await until("the row", () => keys.length === 1);
      await table.terminate();
      await table.free();
      await table.insert(40);
      await lose(table);
      const error = await within("start() to reject", ended, 40_000);
      assertInstanceOf(error, SlotError, String(error));
      assertEquals([error.kind, error.slotName], [kind, table.slotName]);
      assert(error.hint);
      assertEquals([keys, stream.status().state], [["1"], "failed"]);
      await table.remove();
    });

    test(`${name} while the connection is remade: "recreate" goes on behind a gap, and tells it`, async () => {
      const logger = new LogLines();
      const table = await TestTable.create(db, "anew", { reconnect: late });
      const gaps: Gap[] = [];
      const keys: string[] = [];
      const stream = table.stream({ onSlotLost: "recreate", logger })
        .onChange((event) => void keys.push(event.key!))
        .onGap((gap) => void gaps.push(gap));
      const running = await started(stream);
      await table.insert(1);
      await until("the row", () => keys.length === 1);
      await until(
        "it to be confirmed",
        () => parseLsn(stream.status().confirmedLsn) >= parseLsn(stream.status().handledLsn),
      );
      const handled = parseLsn(stream.status().handledLsn);
      await table.terminate();
      await table.free();
      await table.insert(40);
      await lose(table);
      const missed = await currentLsn(db);
      await until("the gap", () => gaps.length > 0, 40_000);
      await until("the stream", () => stream.status().state === "streaming", 40_000);
      await table.insert(60);
      await until("the row behind it", () => keys.at(-1) === "60");
      const last = await currentLsn(db);
      await until("it to be confirmed", async () => await table.confirmedLsn() >= last);
      await running.stop();
      assertEquals(keys, ["1", "60"]);
      const [gap] = gaps;
      assertEquals([gaps.length, gap!.slotName, gap!.reason], [1, table.slotName, kind]);
      assertGreaterOrEqual(parseLsn(gap!.fromLsn!), handled);
      assertLessOrEqual(parseLsn(gap!.fromLsn!), missed);
      assertGreaterOrEqual(parseLsn(gap!.toLsn), missed);
      assertEquals(JSON.parse(JSON.stringify(gap)), gap);
      const warnings = logger.lines.filter((line) => line.startsWith("warn"));
      assert(
        warnings.some((line) => line.includes("miss") && line.includes(gap!.toLsn)),
        `${warnings}`,
      );
      await table.remove();
    });
  }

  for (const [name, kind, lose] of losses.slice(0, 2)) {
    test(`${name} while nobody ran, is an error`, async () => {
      const table = await TestTable.create(db, "before");
      await lose(table);
      const error = await within(
        "start()",
        table.stream().onChange(() => {}).start().then(() => null, (error) => error),
      );
      assertEquals([error?.kind, error?.slotName], [kind, table.slotName]);
      assertStringIncludes(error.message, table.slotName);
      await table.remove();
    });

    test(`${name} while nobody ran: "recreate" goes on; where from, nobody knows`, async () => {
      const table = await TestTable.create(db, "behind");
      await table.insert(1);
      await lose(table);
      const missed = await currentLsn(db);
      const gaps: Gap[] = [];
      const keys: string[] = [];
      const stream = table.stream({ onSlotLost: "recreate" })
        .onChange((event) => void keys.push(event.key!)).onGap((gap) => void gaps.push(gap));
      const running = await started(stream);
      await table.insert(2);
      await until("the row behind it", () => keys.length > 0);
      await running.stop();
      assertEquals(keys, ["2"]);
      assertEquals(gaps.map(({ fromLsn, reason }) => [fromLsn, reason]), [[null, kind]]);
      assertGreaterOrEqual(parseLsn(gaps[0]!.toLsn), missed);
      // Nothing is missed a second time.
      await table.insert(3);
      const next = await started(stream);
      await until("the next row", () => keys.length > 1);
      await next.stop();
      assertEquals([keys, gaps.length], [["2", "3"], 1]);
      await table.remove();
    });
  }

  test("given up under a stream that handles nothing, is noticed while it runs (11)", async () => {
    const table = await TestTable.create(db, "under", { reconnect: { minDelayMs: 50 } });
    const gate = new Gate();
    const stream = table.stream().onChange(() => gate.pass());
    const { ended } = await started(stream);
    await table.insert(1);
    await until("the handler", () => gate.waiting === 1);
    await invalidate(table);
    await sleep(500);
    gate.open();
    const error = await within("start() to reject", ended, 40_000);
    assertEquals((error as SlotError)?.kind, "slot-lost");
    await table.remove();
  });

  test("lost while changes wait for the handler: they are handled before the gap is told", async () => {
    const table = await TestTable.create(db, "waiting", { reconnect: late });
    const gate = new Gate();
    const log: string[] = [];
    const stream = table.stream({ onSlotLost: "recreate" })
      .onChange(async (event) => {
        await gate.pass();
        log.push(event.key!);
      })
      .onGap(() => void log.push("gap"));
    const running = await started(stream);
    await table.insert(1, 2, 3);
    await until("them to be read", () => stream.status().queueBytes > 0 && gate.waiting === 1);
    await sleep(300);
    await table.terminate();
    await table.free();
    await drop(table);
    await sleep(2500);
    assertEquals(log, []);
    gate.open();
    await until("the gap", () => log.includes("gap"), 30_000);
    await until("the stream", () => stream.status().state === "streaming");
    await table.insert(4);
    await until("the row behind it", () => log.at(-1) === "4");
    await running.stop();
    assertEquals(log, ["1", "2", "3", "gap", "4"]);
    await table.remove();
  });

  test("lost, with a listener that throws: it goes on, and says so in the log", async () => {
    const table = await TestTable.create(db, "throws");
    const logger = new LogLines();
    await drop(table);
    const keys: string[] = [];
    const told: Gap[] = [];
    const stream = table.stream({ onSlotLost: "recreate", logger })
      .onChange((event) => void keys.push(event.key!))
      .onGap(() => {
        throw new Error("from the listener");
      })
      .onGap((gap) => void told.push(gap));
    const running = await started(stream);
    await table.insert(1);
    await until("the row", () => keys.length === 1);
    await running.stop();
    assertEquals(told.length, 1);
    assert(logger.lines.some((line) => line.startsWith("error") && line.includes("onGap")));
    await table.remove();
  });
});

describe("a temporary slot", () => {
  const temporary = true;
  const slots = (slotName: string) =>
    db.query(`SELECT slot_name FROM pg_replication_slots WHERE slot_name = '${slotName}'`);

  test("starts at what is committed from then on, and is gone when the stream is", async () => {
    const table = await TestTable.create(db, "leaving");
    await drop(table);
    await table.insert(1);
    const keys: string[] = [];
    const stream = table.stream({ temporary }).onChange((event) => void keys.push(event.key!));
    await stream.setup();
    assertEquals(await slots(table.slotName), []);
    const running = await started(stream);
    await table.insert(2);
    await until("the row", () => keys.length > 0);
    assertEquals((await slots(table.slotName)).length, 1);
    await running.stop();
    await until("the slot to be gone", async () => (await slots(table.slotName)).length === 0);
    await table.insert(3);
    const next = await started(stream);
    await table.insert(4);
    await until("the next row", () => keys.length > 1);
    await next.stop();
    assertEquals(keys, ["2", "4"]);
    await table.remove();
  });

  test("that ends with its connection is an error, or a gap that is told", async () => {
    const table = await TestTable.create(db, "ending", { reconnect: { minDelayMs: 500 } });
    await drop(table);
    const events: ChangeEvent[] = [];
    const { ended } = await started(
      table.stream({ temporary }).onChange((event) => void events.push(event)),
    );
    await table.insert(1);
    await until("the row", () => events.length === 1);
    await table.terminate();
    await table.insert(2);
    const error = await within("start() to reject", ended);
    assertInstanceOf(error, SlotError, String(error));
    assertEquals(error.kind, "slot-lost");
    await until("the slot to be gone", async () => (await slots(table.slotName)).length === 0);

    const gaps: Gap[] = [];
    const running = await started(
      table.stream({ temporary, onSlotLost: "recreate" })
        .onChange((event) => void events.push(event)).onGap((gap) => void gaps.push(gap)),
    );
    await table.insert(3);
    await until("the row", () => events.length === 2);
    await table.terminate();
    await table.insert(4);
    await until("the gap", () => gaps.length > 0);
    await until("the stream", () => running.stream.status().state === "streaming");
    await table.insert(5);
    await until("the row behind it", () => events.at(-1)?.key === "5");
    await running.stop();
    assertEquals(events.map(({ key }) => key).filter((key) => key !== "4"), ["1", "3", "5"]);
    assertEquals([gaps.length, gaps[0]!.slotName], [1, table.slotName]);
    assertGreaterOrEqual(parseLsn(gaps[0]!.fromLsn!), parseLsn(events[1]!.lsn));
    await until("the slot to be gone", async () => (await slots(table.slotName)).length === 0);
    await table.remove();
  });
});
