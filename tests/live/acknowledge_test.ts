/** What is confirmed, and when: nothing before it is handled, and then all of it. */

import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLessOrEqual,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import { type ChangeEvent, HandlerError, parseLsn } from "../../mod.ts";
import { Child } from "../support/child.ts";
import { seededRandom } from "../support/random.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  confirmedLsn,
  newTable,
  openClient,
  sleep,
  started,
  uniqueName,
  until,
  walsenderPid,
  within,
  withServerOptions,
} from "../support/streams.ts";

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

/** What fails once has failed. */
const triedOnce = { retry: { attempts: 1 } };
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
        const { table, slotName, make, teardown } = await newTable(db, "failing", triedOnce);
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
        assertLessOrEqual(await confirmedLsn(db, slotName), parseLsn(lsn));

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
    const { table, make, teardown } = await newTable(db, "failing", triedOnce);
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
    const { table, make, teardown } = await newTable(db, "failing", triedOnce);
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
  test("is the end of a commit, and nothing of a transaction whose last event is in hand (1)", async () => {
    const { table, slotName, make, teardown } = await newTable(db, "ends");
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
      const confirmed = await confirmedLsn(db, slotName);
      seen.push(confirmed);
      assertLessOrEqual(confirmed, starts[transaction]!);
      if (transaction > 0) assertGreaterOrEqual(confirmed, ends[transaction - 1]!);
    });
    const running = await started(stream);
    await until("all events", () => stream.status().events.insert === 30);
    await running.stop();
    assertEquals(seen.length, 10);
    assertGreaterOrEqual(await confirmedLsn(db, slotName), ends.at(-1)!);
    await teardown();
  });

  test("never goes past a transaction that began early and was committed late (2)", async () => {
    const { table, slotName, make, teardown } = await newTable(db, "interleaved", triedOnce);
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
      assertEquals(await walsenderPid(db, slotName), null);
    } finally {
      await late.end({ timeout: 1 });
    }
    await teardown();
  });

  test("moves on past 1 GB of tables that nobody watches, and lets the server remove it (6)", async () => {
    const { slotName, make, teardown } = await newTable(db, "idle");
    const stream = make(() => {});
    const running = await started(stream);
    await db.query(`CREATE TABLE unwatched (big text);
      ALTER TABLE unwatched ALTER big SET STORAGE EXTERNAL`);
    const written = async () => {
      const [row] = await db.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
      return parseLsn(row!.lsn);
    };
    const before = await written();
    while (await written() - before < 1024n * 1024n * 1024n) {
      await db.query(
        "INSERT INTO unwatched SELECT repeat('x', 100000) FROM generate_series(1, 500)",
      );
      await db.query("TRUNCATE unwatched");
    }
    const end = await written();
    await until("the slot to move", async () => await confirmedLsn(db, slotName) >= end, 20_000);
    assertEquals(stream.status().lagBytes, 0);
    // What the slot needs is looked at anew when the server logs its running transactions.
    const retained = await until("the slot to let go", async () => {
      await db.query("CHECKPOINT");
      const [row] = await db.query<{ behind: string; segment: string }>(
        `SELECT pg_wal_lsn_diff(redo_lsn, restart_lsn)::text AS behind, s.setting AS segment
          FROM pg_control_checkpoint(), pg_replication_slots, pg_settings s
          WHERE slot_name = $1 AND s.name = 'wal_segment_size'`,
        [slotName],
      );
      const segments = Number(row!.behind) / Number(row!.segment);
      return segments <= 2 ? { segments } : null;
    }, 30_000);
    console.log(`retained beyond the checkpoint: ${retained.segments.toFixed(3)} segments`);
    await running.stop();
    await teardown();
  });

  test("does not move on such WAL while an event is in hand (5)", async () => {
    const { table, slotName, make, teardown } = await newTable(db, "pending", {
      dsn: withServerOptions(db.dsn, "-c wal_sender_timeout=1s"),
    });
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    let event: ChangeEvent | undefined;
    const running = await started(make((found) => {
      event = found;
      return released;
    }));
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    await until("the event", () => event);
    await db.query("CREATE TABLE other AS SELECT generate_series(1, 10000) AS id");
    await sleep(1500);
    assertLessOrEqual(await confirmedLsn(db, slotName), parseLsn(event!.lsn));
    release();
    await running.stop();
    assertGreater(await confirmedLsn(db, slotName), parseLsn(event!.lsn));
    await teardown();
  });
});

test("a consumer that is killed again and again loses nothing and keeps the order (5)", async () => {
  const seed = Date.now() & 0xffff;
  const random = seededRandom(seed);
  const { table, slotName, teardown } = await newTable(db, "killed");
  /** By consumer: what it had handled, or was about to have, and what was confirmed before. */
  const lives: { confirmed: bigint; places: [string, number, string][] }[] = [];
  const rows = 300;
  const writing = (async () => {
    for (let id = 0; id < rows;) {
      const many = Math.min(1 + Math.floor(random() * 5), rows - id);
      const values = Array.from({ length: many }, (_, index) => `(${id + index})`).join();
      await sql.unsafe(`INSERT INTO ${table} VALUES ${values}`);
      id += many;
      await sleep(10);
    }
  })();
  const seen = () => new Set(lives.flatMap(({ places }) => places.map(([, , key]) => Number(key))));
  const all = () => Array.from({ length: rows }, (_, id) => id).every((id) => seen().has(id));
  const deadline = performance.now() + 30_000;
  while (!all() && performance.now() < deadline) {
    await until("the slot to be free", async () => await walsenderPid(db, slotName) === null);
    const places: [string, number, string][] = [];
    lives.push({ confirmed: await confirmedLsn(db, slotName), places });
    const child = new Child("consumer.ts", db.dsn, slotName, table, "3");
    const look = () => {
      for (const line of child.lines.slice(places.length)) places.push(JSON.parse(line));
    };
    // Killed after some progress; the last one lives until all is there.
    const enough = lives.length > 4 ? Infinity : 1 + Math.floor(random() * 80);
    while (places.length < enough && !all() && performance.now() < deadline) {
      await sleep(5);
      look();
    }
    await child.kill();
    look();
  }
  await writing;
  assert(all(), `seed ${seed}: rows are missing`);
  // Keys were given in commit order: this is how all that was committed is to be handed out.
  const order = Array.from({ length: rows }, (_, id) => String(id));
  const lsnOf = new Map(
    lives.flatMap(({ places }) => places.map(([lsn, , key]) => [key, parseLsn(lsn)])),
  );
  let handled = 0;
  for (const { confirmed, places } of lives) {
    // A transaction is confirmed where its commit record begins before the confirmed position.
    const first = order.findIndex((key) => lsnOf.get(key)! >= confirmed);
    assert(first === -1 || first <= handled, `seed ${seed}: confirmed before it was handled`);
    // From the first event that is not confirmed on, with no gap: what is confirmed does not come again.
    const keys = places.map(([, , key]) => key);
    assertEquals(keys, first === -1 ? [] : order.slice(first, first + keys.length), `seed ${seed}`);
    places.forEach(([lsn, ordinal], index) => {
      const begins = index === 0 || places[index - 1]![0] !== lsn;
      assertEquals(ordinal, begins ? 0 : places[index - 1]![1] + 1, `seed ${seed}`);
    });
    handled = Math.max(handled, first + keys.length);
  }
  assertGreater(lives.length, 4, `seed ${seed}: nobody was killed`);
  await until("the slot to be free", async () => await walsenderPid(db, slotName) === null);
  await teardown();
});
