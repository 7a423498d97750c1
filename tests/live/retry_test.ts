/** Handlers that fail: how they are tried again, and what becomes of what cannot be handled. */

import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertStringIncludes,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import { HandlerError, parseLsn, SinkError } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { LogLines, sleep, started, until, within } from "../support/streams.ts";
import { TestTable } from "../support/test_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

/** Gone in no time. */
const quick = { minDelayMs: 1, maxDelayMs: 5 };

async function failed(ended: Promise<unknown>): Promise<HandlerError> {
  const error = await within("start() to reject", ended);
  assertInstanceOf(error, HandlerError);
  assertEquals(error.kind, "handler-failed");
  return error;
}

describe("a handler that fails", () => {
  test("is called again with the same event before the next one; each retry is logged and counted", async () => {
    const table = await TestTable.create(db, "again");
    await table.insert(1);
    await db.query(`INSERT INTO ${table.name} VALUES (2, 'the secret of the row')`);
    await table.insert(3);
    const logger = new LogLines();
    const calls: string[] = [];
    const stream = table.stream({ logger, retry: { attempts: 4, ...quick } })
      .onChange((event, _sink, { attempt }) => {
        calls.push(`${event.key}/${attempt}`);
        if (event.key !== "2" || attempt === 4) return;
        // Neither kind of failure is to be seen as the other, or not at all.
        if (attempt === 1) throw new Error("thrown");
        return Promise.reject(new Error("rejected"));
      });
    const running = await started(stream);
    await until("the last event", () => calls.at(-1) === "3/1");
    await running.stop();
    assertEquals(calls, ["1/1", "2/1", "2/2", "2/3", "2/4", "3/1"]);
    const { retries, skipped, events, state } = stream.status();
    assertEquals({ retries, skipped, inserts: events.insert, state }, {
      retries: 3,
      skipped: 0,
      inserts: 3,
      state: "stopped",
    });
    const warnings = logger.lines.filter((line) => line.startsWith("warn"));
    assertEquals(warnings.length, 3, logger.lines.join("\n"));
    for (const line of warnings) assertStringIncludes(line, table.name);
    assert(!logger.lines.some((line) => line.includes("secret of the row")));
    await table.remove();
  });

  test("five times in all, where nothing is said, makes start() reject with the event and the cause", async () => {
    const table = await TestTable.create(db, "five", { retry: quick });
    await table.insert(1);
    await table.insertMany(2, 4);
    const cause = new Error("always");
    const calls: string[] = [];
    const failing = table.stream().onChange((event, _sink, { attempt }) => {
      calls.push(`${event.key}/${attempt}`);
      if (event.key === "3") throw cause;
    });
    const error = await failed((await started(failing)).ended);
    assertEquals(calls, ["1/1", "2/1", "3/1", "3/2", "3/3", "3/4", "3/5"]);
    assertEquals(error.cause, cause);
    assertEquals([error.table, error.operation, error.ordinal], [table.name, "insert", 1]);
    assertEquals(failing.status().state, "failed");
    assertEquals(failing.status().retries, 4);
    assertLessOrEqual(await table.confirmedLsn(), parseLsn(error.lsn));

    const again: string[] = [];
    const running = await started(table.stream().onChange((event) => void again.push(event.key!)));
    await until("the transaction, whole", () => again.length >= 3);
    await running.stop();
    assertEquals(again, ["2", "3", "4"]);
    await table.remove();
  });

  test("is given the time that its error asks for", async () => {
    const table = await TestTable.create(db, "after", { retry: quick });
    await table.insert(1);
    const at: number[] = [];
    const stream = table.stream().onChange(() => {
      at.push(performance.now());
      if (at.length === 1) throw Object.assign(new Error("busy"), { retryAfterMs: 1500 });
    });
    const running = await started(stream);
    await until("the second call", () => at.length === 2);
    await running.stop();
    // Timers may be early by a millisecond.
    assertGreaterOrEqual(at[1]! - at[0]!, 1490);
    await table.remove();
  });

  for (const retryAfterMs of [NaN, -5, "soon", null, 0]) {
    test(`is called again when that time is ${retryAfterMs}`, async () => {
      const table = await TestTable.create(db, "odd", { retry: { ...quick, attempts: 3 } });
      await table.insert(1);
      let calls = 0;
      const stream = table.stream().onChange(() => {
        if (++calls < 3) throw Object.assign(new Error("busy"), { retryAfterMs });
      });
      const running = await started(stream);
      await until("the third call", () => calls === 3);
      await running.stop();
      assertEquals(stream.status().events.insert, 1);
      await table.remove();
    });
  }

  test("is not called again where its error says that this will not help", async () => {
    const table = await TestTable.create(db, "hopeless", { retry: quick });
    await table.insert(1);
    let calls = 0;
    const cause = new SinkError("no such collection", { kind: "sink-missing", sink: "test" });
    assertEquals(cause.retryable, false);
    const stream = table.stream().onChange(() => {
      calls++;
      throw cause;
    });
    const error = await failed((await started(stream)).ended);
    assertEquals(error.cause, cause);
    assertEquals(calls, 1);
    assertEquals(stream.status().retries, 0);

    calls = 0;
    const passing = new SinkError("busy", { kind: "sink-busy", sink: "test", retryable: true });
    const next = table.stream().onChange(() => {
      if (++calls < 3) throw passing;
    });
    const running = await started(next);
    await until("the third call", () => calls === 3);
    await running.stop();
    assertEquals(next.status().retries, 2);
    await table.remove();
  });

  test("with nothing that is an error, fails all the same", async () => {
    const table = await TestTable.create(db, "nothing", { retry: { ...quick, attempts: 2 } });
    await table.insert(1);
    for (const thrown of [undefined, null, "text", 0]) {
      let calls = 0;
      const stream = table.stream().onChange(() => {
        calls++;
        throw thrown;
      });
      const error = await failed((await started(stream)).ended);
      assertEquals([calls, error.cause], [2, thrown]);
    }
    await table.remove();
  });

  test("and waits long for its next try does not hold up stop(); the event comes again", async () => {
    const retry = { minDelayMs: 60_000, maxDelayMs: 60_000 };
    const table = await TestTable.create(db, "waiting", { retry });
    await table.insert(1);
    let calls = 0;
    const stream = table.stream().onChange(() => {
      if (++calls === 1) throw new Error("once");
    });
    const running = await started(stream);
    await until("the first call", () => calls === 1);
    await sleep(100);
    const stoppedAt = performance.now();
    await running.stop();
    assertLess(performance.now() - stoppedAt, 5000);
    assertEquals(calls, 1);
    const next = await started(stream);
    await until("the event", () => calls === 2);
    await next.stop();
    await table.remove();
  });

  test("because it was told to stop does not make start() reject", async () => {
    const table = await TestTable.create(db, "obedient", { retry: quick });
    await table.insert(1);
    let calls = 0;
    let reasons = 0;
    const stream = table.stream().onChange((_event, _sink, { signal }) => {
      calls++;
      assertEquals(signal.aborted, false);
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          reasons++;
          reject(signal.reason);
        })
      );
    });
    const running = await started(stream);
    await until("the event", () => calls === 1);
    await running.stop();
    assertEquals([calls, reasons, stream.status().state], [1, 1, "stopped"]);
    assertEquals(stream.status().lastError, null);
    assertEquals(stream.status().events.insert, 0);
    const again: string[] = [];
    const next = await started(table.stream().onChange((event) => void again.push(event.key!)));
    await until("the event again", () => again.length > 0);
    await next.stop();
    assertEquals(again, ["1"]);
    await table.remove();
  });
});
