/** What is confirmed, and when: nothing before it is handled, and then all of it. */

import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type postgres from "postgres";
import {
  type ChangeEvent,
  HandlerError,
  parseLsn,
  PgStream,
  type PgStreamOptions,
} from "../../mod.ts";
import { seededRandom } from "../support/random.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { openClient, sleep, started, uniqueName, until, within } from "../support/streams.ts";

let db: TestPostgres;
let sql: postgres.Sql;
before(async () => {
  db = await testPostgres();
  sql = openClient(db.dsn);
});
after(async () => {
  await sql?.end({ timeout: 1 });
  await db?.stop();
});

type Handler = (event: ChangeEvent) => unknown;

/** A stream of one new table, with its own slot; set up, not started. */
async function ready(table: string, options: PgStreamOptions = {}) {
  const slotName = uniqueName();
  await db.query(`CREATE TABLE IF NOT EXISTS ${table} (id int PRIMARY KEY, v text)`);
  const make = (handler: Handler, more: PgStreamOptions = {}) =>
    new PgStream({ dsn: db.dsn, slotName, logger: false, ...options, ...more })
      .watch(table).onChange(handler);
  const first = make(() => {});
  await first.setup();
  return { slotName, make, teardown: () => first.teardown() };
}

async function confirmedLsn(slotName: string): Promise<bigint> {
  const [row] = await db.query<{ lsn: string }>(
    "SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = $1",
    [slotName],
  );
  return parseLsn(row!.lsn);
}

async function walsenderPid(slotName: string): Promise<number | null> {
  const [row] = await db.query<{ pid: number | null }>(
    "SELECT active_pid AS pid FROM pg_replication_slots WHERE slot_name = $1",
    [slotName],
  );
  return row!.pid;
}

const place = (event: ChangeEvent) => `${event.lsn} ${event.ordinal} ${event.key}`;

describe("a handler that throws", () => {
  const failAt = [
    { name: "a transaction of one event, the first of all", id: "1" },
    { name: "the first event of several", id: "2" },
    { name: "an event in the middle", id: "3" },
    { name: "the last event of several", id: "4" },
    { name: "the last transaction", id: "5" },
  ];
  for (const { name, id } of failAt) {
    for (const how of ["throws", "rejects"]) {
      test(`${name}: ${how}; the same events come again, and none before them`, async () => {
        const table = uniqueName("failing");
        const { slotName, make, teardown } = await ready(table);
        await db.query(`INSERT INTO ${table} VALUES (1)`);
        await db.query(`INSERT INTO ${table} VALUES (2), (3), (4)`);
        await db.query(`INSERT INTO ${table} VALUES (5)`);
        const handled: string[] = [];
        const cause = new TypeError("the handler's own");
        let failed: ChangeEvent | undefined;
        const failing = make((event) => {
          if (event.key !== id) return void handled.push(place(event));
          failed = event;
          if (how === "throws") throw cause;
          return sleep(5).then(() => Promise.reject(cause));
        });
        const { ended } = await started(failing);
        const error = await within("start() to reject", ended);
        assertInstanceOf(error, HandlerError);
        assertEquals(error.kind, "handler-failed");
        assertStrictEquals(error.cause, cause);
        const { schema, operation, lsn, ordinal } = failed!;
        const { schema: s, table: t, operation: o, lsn: l, ordinal: n } = error;
        assertEquals({ s, t, o, l, n }, { s: schema, t: table, o: operation, l: lsn, n: ordinal });
        assertStringIncludes(error.message, lsn);
        const { state, lastError, events } = failing.status();
        assertEquals({ state, lastError }, { state: "failed", lastError: error.message });
        assertEquals(events.insert, handled.length);

        // The commit record begins at the event's LSN: a confirmation beyond it would lose the event.
        assertLessOrEqual(await confirmedLsn(slotName), parseLsn(lsn));

        const again: ChangeEvent[] = [];
        const next = make((event) => void again.push(event));
        const running = await started(next);
        await until("the last event", () => again.at(-1)?.key === "5");
        await running.stop();
        const expected = { 1: "12345", 2: "2345", 3: "2345", 4: "2345", 5: "5" }[id]!;
        assertEquals(again.map(({ key }) => key).join(""), expected);
        const before = handled.filter((text) => again.some((event) => place(event) === text));
        assertEquals(before.length, id === "3" ? 1 : id === "4" ? 2 : 0);

        const third = await started(make((event) => void again.push(event)));
        await db.query(`INSERT INTO ${table} VALUES (6)`);
        await until("a new event", () => again.at(-1)?.key === "6");
        await third.stop();
        assertEquals(again.map(({ key }) => key).join(""), `${expected}6`);
        await teardown();
      });
    }
  }

  test("what it throws need not be an error", async () => {
    const table = uniqueName("failing");
    const { make, teardown } = await ready(table);
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    for (const thrown of [undefined, null, "text", 0]) {
      const { ended } = await started(make(() => {
        throw thrown;
      }));
      const error = await within("start() to reject", ended);
      assertInstanceOf(error, HandlerError);
      assertStrictEquals(error.cause, thrown === undefined ? undefined : thrown);
    }
    await teardown();
  });

  test("a stream that failed tells so after it is disposed of, and can be started again", async () => {
    const table = uniqueName("failing");
    const { make, teardown } = await ready(table);
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    let calls = 0;
    const stream = make(() => {
      if (++calls === 1) throw new Error("once");
    });
    await within("start() to reject", stream.start().catch(() => {}));
    await stream.stop();
    await stream[Symbol.asyncDispose]();
    assertEquals(stream.status().state, "failed");
    const running = await started(stream);
    await until("the event again", () => calls === 2 && stream.status().events.insert === 1);
    assertEquals(stream.status().lastError, null);
    await running.stop();
    assertEquals(stream.status().state, "stopped");
    await teardown();
  });
});

describe("what is confirmed", () => {
  test("is the end of a commit, and nothing of a transaction whose last event is in hand", async () => {
    const table = uniqueName("ends");
    const { slotName, make, teardown } = await ready(table);
    const reference = uniqueName("reference");
    await db.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [reference]);
    for (let id = 0; id < 30; id += 3) {
      await db.query(`INSERT INTO ${table} VALUES (${id}), (${id + 1}), (${id + 2})`);
    }
    const commits = await db.query<{ data: string }>(
      `SELECT encode(data, 'hex') AS data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
        'proto_version', '1', 'publication_names', $2) WHERE get_byte(data, 0) = ascii('C')`,
      [reference, slotName],
    );
    // Byte1('C') Int8 flags Int64 commitLsn Int64 endLsn Int64 time
    const ends = commits.map(({ data }) => BigInt(`0x${data.slice(20, 36)}`));
    const starts = commits.map(({ data }) => BigInt(`0x${data.slice(4, 20)}`));
    await db.query("SELECT pg_drop_replication_slot($1)", [reference]);

    const seen: bigint[] = [];
    const stream = make(async (event) => {
      const transaction = Math.floor(Number(event.key) / 3);
      assertEquals(parseLsn(event.lsn), starts[transaction]);
      if (event.ordinal < 2) return;
      await sleep(250);
      const confirmed = await confirmedLsn(slotName);
      seen.push(confirmed);
      assertLessOrEqual(confirmed, starts[transaction]!);
      if (transaction > 0) assertGreaterOrEqual(confirmed, ends[transaction - 1]!);
    });
    const running = await started(stream);
    await until("all events", () => stream.status().events.insert === 30);
    await running.stop();
    assertEquals(seen.length, 10);
    assertGreaterOrEqual(await confirmedLsn(slotName), ends.at(-1)!);
    await teardown();
  });

  test("never goes past a transaction that began early and was committed late", async () => {
    const table = uniqueName("interleaved");
    const { slotName, make, teardown } = await ready(table);
    const late = openClient(db.dsn);
    try {
      await late.unsafe(`BEGIN; INSERT INTO ${table} VALUES (1)`);
      await sql.unsafe(`BEGIN; INSERT INTO ${table} VALUES (2)`);
      await late.unsafe(`INSERT INTO ${table} VALUES (3)`);
      await sql.unsafe(`INSERT INTO ${table} VALUES (4); COMMIT`);
      const keys: string[] = [];
      const failing = make((event) => {
        keys.push(event.key!);
        if (event.key === "3") throw new Error("between the two commits");
      });
      const { ended } = await started(failing);
      await until(
        "the first commit",
        () => keys.length === 2 && failing.status().transactions === 1,
      );
      await sleep(300);
      await late.unsafe("COMMIT");
      assertInstanceOf(await within("start() to reject", ended), HandlerError);
      assertEquals(keys, ["2", "4", "1", "3"]);

      const again: string[] = [];
      const running = await started(make((event) => void again.push(event.key!)));
      await until("both events of the late one", () => again.length >= 2);
      await sleep(200);
      await running.stop();
      assertEquals(again, ["1", "3"]);
      assertEquals(await walsenderPid(slotName), null);
    } finally {
      await late.end({ timeout: 1 });
    }
    await teardown();
  });

  test("moves on past the WAL of tables that nobody watches, while the stream is idle", async () => {
    const { slotName, make, teardown } = await ready(uniqueName("idle"));
    const stream = make(() => {});
    const running = await started(stream);
    const before = await confirmedLsn(slotName);
    await db.query(`CREATE TABLE unwatched (big text);
      ALTER TABLE unwatched ALTER big SET STORAGE EXTERNAL`);
    await db.query(
      "INSERT INTO unwatched SELECT repeat('x', 100000) FROM generate_series(1, 1050)",
    );
    const [row] = await db.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
    const end = parseLsn(row!.lsn);
    assertGreater(end - before, 100n * 1024n * 1024n);
    await until("the slot to move", async () => await confirmedLsn(slotName) >= end, 20_000);
    assertEquals(stream.status().lagBytes, 0);
    await running.stop();
    await teardown();
  });

  test("does not move on such WAL while an event is in hand", async () => {
    const table = uniqueName("pending");
    const { slotName, make, teardown } = await ready(table);
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    let event: ChangeEvent | undefined;
    const running = await started(make((found) => {
      event = found;
      return released;
    }, { dsn: withTimeout(db.dsn, "1s") }));
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    await until("the event", () => event);
    await db.query("CREATE TABLE other AS SELECT generate_series(1, 10000) AS id");
    await sleep(1500);
    assertLessOrEqual(await confirmedLsn(slotName), parseLsn(event!.lsn));
    release();
    await running.stop();
    assertGreater(await confirmedLsn(slotName), parseLsn(event!.lsn));
    await teardown();
  });
});

function withTimeout(dsn: string, timeout: string): string {
  const url = new URL(dsn);
  // Not by searchParams, which writes a space as "+": libpq, and so we, take that for a plus.
  url.search = `options=${encodeURIComponent(`-c wal_sender_timeout=${timeout}`)}`;
  return url.href;
}

describe("a slow handler", () => {
  test("keeps its walsender for ten times the server's timeout, and gets each event once", async () => {
    const table = uniqueName("slow");
    const { slotName, make, teardown } = await ready(table, { dsn: withTimeout(db.dsn, "1s") });
    const keys: string[] = [];
    const stream = make(async (event) => {
      keys.push(event.key!);
      if (event.key === "1") await sleep(10_000);
    });
    const running = await started(stream);
    const pid = await until("the walsender", () => walsenderPid(slotName));
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    await db.query(`INSERT INTO ${table} VALUES (2)`);
    await until("the last event", () => keys.length === 2, 20_000);
    assertEquals(await walsenderPid(slotName), pid);
    await running.stop();
    assertEquals(keys, ["1", "2"]);
    await teardown();
  });

  test("may block the whole process for less than the timeout, again and again", async () => {
    const table = uniqueName("blocking");
    const { slotName, make, teardown } = await ready(table, { dsn: withTimeout(db.dsn, "2s") });
    const keys: string[] = [];
    const stream = make((event) => {
      const until = performance.now() + 900;
      while (performance.now() < until);
      keys.push(event.key!);
    });
    const running = await started(stream);
    const pid = await until("the walsender", () => walsenderPid(slotName));
    for (let id = 1; id <= 6; id++) await sql.unsafe(`INSERT INTO ${table} VALUES (${id})`);
    await until("the last event", () => keys.length === 6, 20_000);
    assertEquals(await walsenderPid(slotName), pid);
    await running.stop();
    assertEquals(keys, ["1", "2", "3", "4", "5", "6"]);
    await teardown();
  });

  test("holds the server back: 200 MB pass through a queue of 1 MiB and memory stays flat", async () => {
    const table = uniqueName("heavy");
    const maxQueueBytes = 1024 * 1024;
    const { make, teardown } = await ready(table, { maxQueueBytes });
    let handled = 0;
    let mostQueued = 0;
    let mostMemory = 0;
    const stream = make(async (event) => {
      assertEquals((event.row as { v: string }).v.length, 96_000);
      const { queueBytes } = stream.status();
      mostQueued = Math.max(mostQueued, queueBytes);
      if (handled++ % 20 === 0) await sleep(1);
      mostMemory = Math.max(mostMemory, process.memoryUsage().rss);
    });
    const running = await started(stream);
    const before = process.memoryUsage().rss;
    for (let part = 0; part < 7; part++) {
      await db.query(`INSERT INTO ${table} SELECT n + ${part * 300}, repeat(md5(n::text), 3000)
        FROM generate_series(1, 300) n`);
    }
    await until("all events", () => handled === 2100, 30_000);
    await running.stop();
    assertGreater(mostQueued, maxQueueBytes / 2);
    assertLess(mostQueued, maxQueueBytes + 2 * 96_000);
    assertLess(mostMemory - before, 100 * 1024 * 1024);
    assertEquals(stream.status().queueBytes, 0);
    await teardown();
  });

  test("may end in the middle of a transaction of 100,000 rows, which then comes again whole", async () => {
    const table = uniqueName("huge");
    const { slotName, make, teardown } = await ready(table);
    await db.query(`INSERT INTO ${table} SELECT n FROM generate_series(0, 99999) n`);
    const lsns = new Set<string>();
    const failing = make((event) => {
      lsns.add(event.lsn);
      if (event.ordinal === 60_000) throw new Error("in the middle");
    });
    assertInstanceOf(
      await within("start() to reject", (await started(failing)).ended),
      HandlerError,
    );
    let next = 0;
    const stream = make((event) => {
      lsns.add(event.lsn);
      assertEquals([event.ordinal, event.key], [next, String(next)]);
      next++;
    });
    const running = await started(stream);
    await until("all rows", () => next === 100_000, 20_000);
    await until("the commit", () => stream.status().transactions === 1);
    await running.stop();
    assertEquals(lsns.size, 1);
    assertGreater(await confirmedLsn(slotName), parseLsn([...lsns][0]!));
    await teardown();
  });
});

describe("stopping", () => {
  const ways: [string, (stream: PgStream, abort: () => void) => unknown][] = [
    ["stop()", (stream) => stream.stop()],
    ["abort", (_, abort) => abort()],
    ["disposal", (stream) => stream[Symbol.asyncDispose]()],
  ];
  for (const [name, end] of ways) {
    test(`by ${name}: the event in hand is finished and confirmed, none is begun`, async () => {
      const table = uniqueName("stopping");
      const { slotName, make, teardown } = await ready(table);
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
      assertGreater(await confirmedLsn(slotName), parseLsn(lsn));
      assertEquals(await walsenderPid(slotName), null);

      const again: string[] = [];
      const next = await started(make((event) => void again.push(event.key!)));
      await until("what was not begun", () => again.length > 0);
      await next.stop();
      assertEquals(again, ["2"]);
      await teardown();
    });
  }

  test("does not wait longer for a handler that hangs than it was told to", async () => {
    const table = uniqueName("hanging");
    const { slotName, make, teardown } = await ready(table);
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
    const before = await confirmedLsn(slotName);
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    const event = await until("the event", () => hanging);
    assert(event);
    const startedAt = performance.now();
    await within("stop()", stream.stop({ timeoutMs: 200 }), 8000);
    assertEquals(await within("start()", ended), null);
    assertLess(performance.now() - startedAt, 5000);
    assertEquals(signal?.aborted, true);
    assertEquals(await walsenderPid(slotName), null);
    const confirmed = await confirmedLsn(slotName);
    release();
    await sleep(100);
    assertEquals(stream.status().state, "stopped");
    assertEquals(await confirmedLsn(slotName), confirmed);
    assertGreaterOrEqual(confirmed, before);

    const again: string[] = [];
    const next = await started(make((event) => void again.push(event.key!)));
    await until("the event again", () => again.length > 0);
    await next.stop();
    assertEquals(again, ["1"]);
    await teardown();
  });

  test("may be hurried after an abort", async () => {
    const table = uniqueName("hurried");
    const { make, teardown } = await ready(table);
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
    const { make, teardown } = await ready(uniqueName("early"));
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

  test("from inside the handler stops after that very event", async () => {
    const table = uniqueName("inside");
    const { make, teardown } = await ready(table);
    const keys: string[] = [];
    const stream = make((event) => {
      keys.push(event.key!);
      void stream.stop();
    });
    await db.query(`INSERT INTO ${table} VALUES (1), (2)`);
    await within("start()", stream.start());
    assertEquals(keys, ["1"]);
    await teardown();
  });

  test("is needed before a second start(), watch(), sink(), onChange() or teardown()", async () => {
    const table = uniqueName("twice");
    const { make, teardown } = await ready(table);
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

test("a consumer that is killed again and again loses nothing and keeps the order", async () => {
  const seed = Date.now() & 0xffff;
  const random = seededRandom(seed);
  const table = uniqueName("killed");
  const { slotName, teardown } = await ready(table);
  const program = fileURLToPath(new URL("../support/consumer.ts", import.meta.url));
  const args = [program, db.dsn, slotName, table, "3"];
  if (process.versions.deno !== undefined) args.unshift("run", "-A", "--no-check");
  /** By consumer: what it had handled, or was about to have. */
  const lives: [string, number, string][][] = [];
  const rows = 300;
  const writing = (async () => {
    for (let id = 0; id < rows;) {
      const many = 1 + Math.floor(random() * 5);
      const values = Array.from({ length: many }, (_, index) => `(${id + index})`).join();
      await sql.unsafe(`INSERT INTO ${table} VALUES ${values}`);
      id += many;
      await sleep(10);
    }
  })();
  const seen = () => new Set(lives.flat().map(([, , key]) => Number(key)));
  const all = () => Array.from({ length: rows }, (_, id) => id).every((id) => seen().has(id));
  const deadline = performance.now() + 30_000;
  while (!all() && performance.now() < deadline) {
    const life: [string, number, string][] = [];
    lives.push(life);
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    const gone = new Promise((resolve) => child.on("exit", resolve));
    createInterface({ input: child.stdout }).on("line", (line) => life.push(JSON.parse(line)));
    // Killed after some progress; the last one lives until all is there.
    const enough = lives.length > 4 ? Infinity : 1 + Math.floor(random() * 80);
    while (life.length < enough && !all() && performance.now() < deadline) await sleep(5);
    child.kill("SIGKILL");
    await gone;
  }
  await writing;
  assert(all(), `seed ${seed}: rows are missing`);
  for (const life of lives) {
    const places = life.map(([lsn, ordinal]) => [parseLsn(lsn), ordinal] as const);
    places.forEach(([lsn, ordinal], index) => {
      if (index === 0) return;
      const [before, at] = places[index - 1]!;
      assert(lsn > before || (lsn === before && ordinal === at + 1), `seed ${seed}: out of order`);
    });
    // A transaction comes from its first event on.
    if (places.length > 0) assertEquals(places[0]![1], 0, `seed ${seed}`);
  }
  await until("the slot to be free", async () => await walsenderPid(slotName) === null);
  await teardown();
});
