/** Stopping, however it is done: what is in hand is finished and confirmed, nothing is begun. */

import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLess,
  assertStringIncludes,
} from "@std/assert";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { parseLsn, type PgStream } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  confirmedLsn,
  newTable,
  sleep,
  started,
  until,
  walsenderPid,
  within,
} from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(async () => {
  await db?.stop();
});

describe("stopping", () => {
  const ways: [string, (stream: PgStream, abort: () => void) => unknown][] = [
    ["stop()", (stream) => stream.stop()],
    ["abort", (_, abort) => abort()],
    ["disposal", (stream) => stream[Symbol.asyncDispose]()],
  ];
  for (const [name, end] of ways) {
    test(`by ${name}: the event in hand is finished and confirmed, none is begun (36)`, async () => {
      const { table, slotName, make, teardown } = await newTable(db, "stopping");
      const begun: string[] = [];
      const finished: string[] = [];
      let lsn = "";
      const stream = make(async (event) => {
        begun.push(event.key!);
        lsn = event.lsn;
        await sleep(300);
        finished.push(event.key!);
      });
      const abort = new AbortController();
      const { ended } = await started(stream, { signal: abort.signal });
      await db.query(`INSERT INTO ${table} VALUES (1)`);
      await db.query(`INSERT INTO ${table} VALUES (2)`);
      await until("the first event", () => begun.length === 1);
      await Promise.all([end(stream, () => abort.abort(new Error("the user's reason"))), ended]);
      assertEquals(await within("start() to resolve", ended), null);
      assertEquals({ begun, finished }, { begun: ["1"], finished: ["1"] });
      assertEquals(stream.status().state, "stopped");
      assertGreater(await confirmedLsn(db, slotName), parseLsn(lsn));
      assertEquals(await walsenderPid(db, slotName), null);

      const again: string[] = [];
      const next = await started(make((event) => void again.push(event.key!)));
      await until("what was not begun", () => again.length > 0);
      await next.stop();
      assertEquals(again, ["2"]);
      await teardown();
    });
  }

  test("does not wait longer for a handler that hangs than it was told to", async () => {
    const { table, slotName, make, teardown } = await newTable(db, "hanging");
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    let hanging = false;
    let signal: AbortSignal | undefined;
    const stream = make(() => {});
    stream.onChange((_event, _sink, context) => {
      hanging = true;
      signal = context.signal;
      return released;
    });
    const { ended } = await started(stream);
    const before = await confirmedLsn(db, slotName);
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    const event = await until("the event", () => hanging);
    assert(event);
    const startedAt = performance.now();
    await within("stop()", stream.stop({ timeoutMs: 200 }), 8000);
    assertEquals(await within("start()", ended), null);
    assertLess(performance.now() - startedAt, 5000);
    assertEquals(signal?.aborted, true);
    assertEquals(await walsenderPid(db, slotName), null);
    const confirmed = await confirmedLsn(db, slotName);
    release();
    await sleep(100);
    assertEquals(stream.status().state, "stopped");
    assertEquals(await confirmedLsn(db, slotName), confirmed);
    assertGreaterOrEqual(confirmed, before);

    const again: string[] = [];
    const next = await started(make((event) => void again.push(event.key!)));
    await until("the event again", () => again.length > 0);
    await next.stop();
    assertEquals(again, ["1"]);
    await teardown();
  });

  test("may be hurried after an abort", async () => {
    const { table, make, teardown } = await newTable(db, "hurried");
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    let hanging = false;
    const stream = make(() => {
      hanging = true;
      return released;
    });
    const abort = new AbortController();
    const { ended } = await started(stream, { signal: abort.signal });
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    await until("the event", () => hanging);
    abort.abort();
    await sleep(50);
    const startedAt = performance.now();
    await within("stop()", stream.stop({ timeoutMs: 200 }));
    assertLess(performance.now() - startedAt, 5000);
    assertEquals(await within("start()", ended), null);
    release();
    await teardown();
  });

  test("in the middle of connecting, or before it, is graceful too", async () => {
    const { make, teardown } = await newTable(db, "early");
    const stream = make(() => {});
    await within("start()", stream.start({ signal: AbortSignal.abort() }));
    assertEquals(stream.status().state, "stopped");
    for (const ms of [0, 1, 2, 5, 10, 20, 40]) {
      const started = stream.start();
      await sleep(ms);
      await within("stop()", stream.stop());
      await within("start()", started);
      assertEquals(stream.status().state, "stopped");
    }
    await stream.stop();
    await teardown();
  });

  test("from inside the handler, again and again: each single-row commit comes once", async () => {
    const { table, make, teardown } = await newTable(db, "inside");
    const rows = 8;
    for (let id = 1; id <= rows; id++) await db.query(`INSERT INTO ${table} VALUES (${id})`);
    const keys: string[] = [];
    const stream = make((event) => {
      keys.push(event.key!);
      void stream.stop();
    });
    for (let start = 1; start <= rows; start++) {
      await within("start()", stream.start());
      // What is begun is finished; no event is begun after stop().
      assertEquals(keys.length, start, keys.join());
    }
    await db.query(`INSERT INTO ${table} VALUES (${rows + 1})`);
    await within("start()", stream.start());
    assertEquals(keys, Array.from({ length: rows + 1 }, (_, index) => String(index + 1)));
    await teardown();
  });

  test("from inside the handler, amid a transaction: it comes again whole, and nothing else does (36)", async () => {
    const { table, make, teardown } = await newTable(db, "amid");
    await db.query(`INSERT INTO ${table} VALUES (0)`);
    await db.query(`INSERT INTO ${table} SELECT n FROM generate_series(1, 100) n`);
    await db.query(`INSERT INTO ${table} VALUES (101)`);
    const keys: number[] = [];
    const numbers = (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, index) => from + index);
    const stopping = make((event) => {
      keys.push(Number(event.key));
      if (event.key === "50") void stopping.stop();
    });
    await within("start()", stopping.start());
    assertEquals(keys.splice(0), numbers(0, 50));
    const next = await started(make((event) => void keys.push(Number(event.key))));
    await until("the last row", () => keys.at(-1) === 101);
    await next.stop();
    assertEquals(keys, numbers(1, 101));
    await teardown();
  });

  for (const timeoutMs of [Infinity, 2 ** 31, 2 ** 40]) {
    test(`with a limit of ${timeoutMs} ms waits for the handler`, async () => {
      const { table, make, teardown } = await newTable(db, "patient");
      const warnings: Error[] = [];
      const onWarning = (warning: Error) => warnings.push(warning);
      process.on("warning", onWarning);
      const finished: string[] = [];
      let begun = false;
      const stream = make(async (event) => {
        begun = true;
        await sleep(700);
        finished.push(event.key!);
      });
      const { ended } = await started(stream);
      await db.query(`INSERT INTO ${table} VALUES (1)`);
      await until("the event", () => begun);
      await within("stop()", stream.stop({ timeoutMs }));
      assertEquals(finished, ["1"]);
      assertEquals(await within("start()", ended), null);
      assertEquals(stream.status().events.insert, 1);
      process.off("warning", onWarning);
      assertEquals(warnings, []);

      await db.query(`INSERT INTO ${table} VALUES (2)`);
      const again = await started(stream);
      await until("the next event", () => finished.length === 2);
      await again.stop();
      assertEquals(finished, ["1", "2"]);
      await teardown();
    });
  }

  test("is needed before a second start(), watch(), sink(), onChange() or teardown() (36)", async () => {
    const { make, teardown } = await newTable(db, "twice");
    const stream = make(() => {});
    const running = await started(stream);
    const calls: Record<string, () => unknown> = {
      "start()": () => stream.start(),
      "watch()": () => stream.watch("other"),
      "sink()": () => stream.sink({ upsert: async () => {}, delete: async () => {} }),
      "onChange()": () => stream.onChange(() => {}),
      "teardown()": () => stream.teardown(),
    };
    for (const [name, call] of Object.entries(calls)) {
      const error = await Promise.resolve().then(call).then(() => null, (error) => error);
      assertEquals(error?.kind, "already-running", name);
      assertStringIncludes(error.message, name);
      assertStringIncludes(error.hint, "stop()");
    }
    assertEquals(stream.status().state, "streaming");
    await running.stop();
    await teardown();
  });
});
