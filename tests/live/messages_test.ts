/** What programs write by `pg_logical_emit_message`, handed out in its place among the changes. */

import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertRejects,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import {
  type ChangeEvent,
  type Failure,
  HandlerError,
  type LogicalMessage,
  parseLsn,
  PgStream,
  PgStreamError,
  type PgStreamOptions,
  ReplicationError,
} from "../../mod.ts";
import { Child } from "../support/child.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  LogLines,
  openClient,
  sleep,
  started,
  uniqueName,
  until,
  within,
} from "../support/streams.ts";
import { currentLsn, Gate, TestTable } from "../support/test_table.ts";

const textOf = ({ content }: LogicalMessage) => new TextDecoder().decode(content);
/** What the handlers got, in order: keys of events, and messages by prefix and content. */
const nameOf = (item: ChangeEvent | LogicalMessage) =>
  item.operation === "message" ? `${item.prefix} ${textOf(item)}` : item.key!;

for (const major of testMajors(18, 17, 14)) {
  describe(`messages on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    let sql: postgres.Sql;
    before(async () => {
      db = await testPostgres({ major });
      sql = openClient(db.dsn);
    });
    after(async () => {
      await sql?.end({ timeout: 1 });
      await db?.stop();
    });
    const emit = (prefix: string, text: string, transactional = true) =>
      `SELECT pg_logical_emit_message(${transactional}, '${prefix}', '${text}')`;

    test("come in their place among the changes of their transaction, with its coordinates", async () => {
      const table = await TestTable.create(db, "outbox");
      const seen: (ChangeEvent | LogicalMessage)[] = [];
      const note = (item: ChangeEvent | LogicalMessage) => void seen.push(item);
      const stream = table.stream().onChange(note).onMessage("outbox", note).onMessage(
        "mail",
        note,
      );
      const running = await started(stream);
      const xid = await sql.begin(async (tx) => {
        await tx.unsafe(`${emit("outbox", "first")}; INSERT INTO ${table.name} VALUES (1);
          ${emit("Outbox", "of nobody")}; ${
          emit("mail", "é€")
        }; INSERT INTO ${table.name} VALUES (2)`);
        const [row] = await tx`SELECT txid_current()::text AS xid`;
        return Number(BigInt(row!.xid) & 0xffff_ffffn);
      });
      await db.query(`SELECT pg_logical_emit_message(true, 'outbox', '\\x00ff80'::bytea)`);
      await until("all of it", () => seen.length === 5);
      const [first] = seen as [LogicalMessage];
      assertEquals(seen.slice(0, 4).map(nameOf), ["outbox first", "1", "mail é€", "2"]);
      assertEquals(seen.map(({ ordinal }) => ordinal), [0, 1, 3, 4, 0]);
      for (const { lsn, xid: theirs, commitTime } of seen.slice(0, 4)) {
        assertEquals([lsn, theirs, commitTime], [first.lsn, xid, seen[1]!.commitTime]);
      }
      assertEquals((seen[4] as LogicalMessage).content, Uint8Array.of(0, 255, 128));
      assertEquals(first.transactional, true);
      const last = parseLsn(seen[4]!.lsn);
      await until("the confirmation", async () => await table.confirmedLsn() > last);
      const { messages, transactions, events } = stream.status();
      assertEquals([messages, transactions, events.insert], [3, 2, 2]);
      await running.stop();
      await table.remove();
    });

    test("of an outbox wait for all before them, and all behind waits for them, in 8 lanes and batches", async () => {
      for (const batches of [false, true]) {
        const table = await TestTable.create(db, "ordered", { concurrency: 8 });
        const done: number[] = [];
        const wrong: string[] = [];
        let open = 0;
        let atOnce = 0;
        const handle = async (ids: number[]) => {
          atOnce = Math.max(atOnce, ++open);
          await sleep(Math.random() * 4);
          done.push(...ids);
          open--;
        };
        const stream = table.stream();
        if (batches) stream.onBatch((events) => handle(events.map(({ key }) => Number(key))));
        else stream.onChange((event) => handle([Number(event.key)]));
        stream.onMessage("outbox", async (message) => {
          const last = Number(textOf(message));
          if (open > 0 || done.length !== last) wrong.push(`${last}: ${open} open, ${done.length}`);
          await sleep(1);
          if (open > 0 || done.length !== last) wrong.push(`${last} did not stay alone`);
        });
        const running = await started(stream);
        for (let last = 0; last < 600; last += 20) {
          // In the middle of a transaction, too.
          await sql.unsafe(`BEGIN;
            INSERT INTO ${table.name} SELECT generate_series(${last + 1}, ${last + 10});
            ${emit("outbox", `${last + 10}`)};
            INSERT INTO ${table.name} SELECT generate_series(${last + 11}, ${last + 20}); COMMIT`);
          await db.query(emit("outbox", `${last + 20}`));
        }
        await until("all", () => done.length === 600 && stream.status().messages === 60);
        await running.stop();
        assertEquals(wrong, []);
        assertGreater(atOnce, 2, "rows are still handled side by side");
        await table.remove();
      }
    });

    test("that belong to no transaction come between two, once, and are confirmed by themselves", async () => {
      const table = await TestTable.create(db, "beats");
      const seen: (ChangeEvent | LogicalMessage)[] = [];
      const note = (item: ChangeEvent | LogicalMessage) => void seen.push(item);
      const make = () => table.stream().onChange(note).onMessage("beat", note);
      const running = await started(make());
      const other = openClient(db.dsn);
      // They do not wait for the transaction that is open, which writes beside them.
      await sql.unsafe(`BEGIN; INSERT INTO ${table.name} VALUES (1)`);
      await other.unsafe(`${emit("beat", "a", false)}; INSERT INTO ${table.name} VALUES (2);`);
      await sql.unsafe(`INSERT INTO ${table.name} VALUES (3); ${emit("beat", "b", false)}; COMMIT`);
      await other.unsafe(`${emit("beat", "c", false)}; ${emit("others", "x", false)}`);
      await other.unsafe(`INSERT INTO ${table.name} VALUES (4)`);
      await until("all", () => seen.length === 7);
      assertEquals(seen.map(nameOf), ["beat a", "2", "beat b", "1", "3", "beat c", "4"]);
      const [a] = seen as [LogicalMessage];
      assertEquals([a.transactional, a.ordinal, a.xid, a.commitTime], [false, 0, null, null]);
      const lsns = seen.map(({ lsn }) => parseLsn(lsn));
      assertEquals(lsns, [...lsns].sort((x, y) => x < y ? -1 : x > y ? 1 : 0));
      // A connection that is remade brings nothing again.
      await table.terminate();
      await until("another connection", () => running.stream.status().reconnects === 1);
      await other.unsafe(`${emit("beat", "d", false)}; INSERT INTO ${table.name} VALUES (5)`);
      await until("the next row", () => seen.at(-1)?.operation === "insert" && seen.length >= 9);
      assertEquals(seen.slice(7).map(nameOf), ["beat d", "5"]);
      // A transaction may commit right where a message ends.
      const [told] = await other.unsafe(`${emit("beat", "x", false)}::text AS lsn`);
      await until("the message", () => seen.length >= 10);
      assertEquals(seen.at(-1)!.lsn, told!.lsn);
      await running.stop();
      seen.length = 0;

      // Nor does a process that comes after; though nothing else was written since.
      const next = await started(make());
      await other.unsafe(emit("beat", "e", false));
      // Nothing flushes what belongs to no transaction but the server's own writer, now and then.
      await until("the message", () => seen.length > 0);
      const { lsn } = seen[0]!;
      await until("its confirmation", async () => await table.confirmedLsn() >= parseLsn(lsn));
      await next.stop();
      const last = await started(make());
      await other.unsafe(emit("beat", "f", false));
      await until("the message", () => seen.length > 1);
      await last.stop();
      assertEquals(seen.map(nameOf), ["beat e", "beat f"]);
      await other.end({ timeout: 1 });
      await table.remove();
    });

    test("that are in hand when the process is killed come again, those that are confirmed do not", async () => {
      for (const transactional of [true, false]) {
        const table = await TestTable.create(db, "killed");
        const arguments_ = [db.dsn, table.slotName, table.name, "outbox"];
        const first = new Child("message_consumer.ts", ...arguments_, "b");
        await db.query(`INSERT INTO ${table.name} VALUES (1)`);
        await db.query(emit("outbox", "a", transactional));
        await db.query(emit("outbox", "b", transactional));
        await db.query(`INSERT INTO ${table.name} VALUES (2)`);
        await first.printed(3);
        const { lsn } = (await db.query<{ lsn: string }>(
          "SELECT pg_current_wal_insert_lsn()::text AS lsn",
        ))[0]!;
        // All before it is confirmed, it is not.
        await sleep(300);
        assertLess(await table.confirmedLsn(), parseLsn(lsn));
        await first.kill();
        await table.free();

        const second = new Child("message_consumer.ts", ...arguments_, "none");
        await second.printed(2);
        await until("the confirmation", async () => await table.confirmedLsn() >= parseLsn(lsn));
        await second.kill();
        await table.free();
        assertEquals(first.lines, ["row 1", "a", "b"]);
        assertEquals(second.lines, ["b", "row 2"]);

        const third = new Child("message_consumer.ts", ...arguments_, "none");
        await db.query(`INSERT INTO ${table.name} VALUES (3)`);
        await third.printed(1);
        await third.kill();
        await table.free();
        assertEquals(third.lines, ["row 3"]);
        await table.remove();
      }
    });

    test("are caught up with as rows are, and counted", async () => {
      const table = await TestTable.create(db, "caught");
      const seen: string[] = [];
      const note = (item: ChangeEvent | LogicalMessage) => void seen.push(nameOf(item));
      const stream = table.stream().onChange(note).onMessage("outbox", note);
      await db.query(`BEGIN; ${emit("outbox", "a")}; INSERT INTO ${table.name} VALUES (1); COMMIT`);
      await db.query(emit("outbox", "b", false));
      // Which flushes it.
      await db.query(`INSERT INTO ${table.name} VALUES (2)`);
      const report = await within("catchUp()", stream.catchUp());
      assertEquals(seen, ["outbox a", "1", "outbox b", "2"]);
      assertEquals([report.events, report.messages, report.transactions], [2, 2, 3]);
      const none = await within("catchUp()", stream.catchUp());
      assertEquals([none.events, none.messages], [0, 0]);

      // What is written while it runs is not waited for, or it would never return.
      let written = 0;
      const endless = table.stream().onChange(() => {}).onMessage("outbox", async () => {
        written++;
        await db.query(`${emit("outbox", "more", false)}; ${emit("outbox", "more")}`);
      });
      await db.query(emit("outbox", "more"));
      const { messages } = await within("catchUp()", endless.catchUp());
      // One more, perhaps, that may have begun before what was the end by then.
      assertLessOrEqual(messages, 3);
      assertEquals(written, messages);
      await table.remove();
    });

    test("that fail are tried again and given up as events are, and nothing tells what is in them", async () => {
      const logger = new LogLines();
      const failures: Failure[] = [];
      const options: PgStreamOptions = {
        retry: { attempts: 3, minDelayMs: 1 },
        logger,
        concurrency: 3,
      };
      const table = await TestTable.create(db, "poison", options);
      const seen: string[] = [];
      const poison = (message: LogicalMessage) => {
        seen.push(nameOf(message));
        if (textOf(message) === "SECRET") throw new Error("no");
      };
      await db.query(`BEGIN; INSERT INTO ${table.name} VALUES (1); ${emit("outbox", "SECRET")};
        INSERT INTO ${table.name} VALUES (2); COMMIT`);
      await db.query(emit("outbox", "fine"));
      const error = await within(
        "the failure",
        assertRejects(() => table.stream().onChange(() => {}).onMessage("outbox", poison).start()),
      );
      assertInstanceOf(error, HandlerError);
      assertEquals([error.kind, error.prefix, error.operation], [
        "handler-failed",
        "outbox",
        "message",
      ]);
      assertEquals([error.schema, error.table, error.ordinal], [null, null, 1]);
      assert(error.message.includes(`message "outbox" at ${error.lsn}`), error.message);
      assertEquals(seen, ["outbox SECRET", "outbox SECRET", "outbox SECRET"]);

      const skipping = table.stream({
        onFailure: (failure) => {
          failures.push(failure);
          return "skip";
        },
      }).onChange((event) => void seen.push(event.key!)).onMessage("outbox", poison);
      seen.length = 0;
      const report = await within("catchUp()", skipping.catchUp());
      assertEquals(seen, ["1", ...Array(3).fill("outbox SECRET"), "2", "outbox fine"]);
      assertEquals([report.events, report.messages], [2, 1]);
      const { skipped, retries } = skipping.status();
      assertEquals([skipped, retries], [1, 2]);
      const [failure] = failures;
      assertEquals([failures.length, failure?.events, failure?.attempts], [1, [], 3]);
      assertEquals(textOf(failure!.message!), "SECRET");
      const told = [error.message, error.hint, ...logger.lines].join("\n");
      assert(!told.includes("SECRET"), told);
      assert(logger.lines.some((line) => line.includes('Skipped message "outbox"')), told);
      await table.remove();
    });

    test("are not asked for by a stream that has no handler of them, nor by changes()", async () => {
      const table = await TestTable.create(db, "quiet");
      const ordinals: number[] = [];
      await db.query(`BEGIN; ${emit("outbox", "a")}; INSERT INTO ${table.name} VALUES (1); COMMIT`);
      const stream = table.stream().onChange((event) => void ordinals.push(event.ordinal));
      await within("catchUp()", stream.catchUp());
      await db.query(`BEGIN; ${emit("outbox", "a")}; INSERT INTO ${table.name} VALUES (2); COMMIT`);
      stream.onMessage("outbox", () => {});
      for await (const transaction of stream.changes()) {
        for (const event of transaction.events) ordinals.push(event.ordinal);
        break;
      }
      assertEquals(ordinals, [0, 0]);
      await table.remove();
    });

    if (major !== 18) return;

    test("by the 100,000 wait outside of memory for a slow handler, and all come", async () => {
      const maxQueueBytes = 500_000;
      const table = await TestTable.create(db, "many", { maxQueueBytes, concurrency: 4 });
      const gate = new Gate();
      let count = 0;
      const stream = table.stream().onChange(() => {}).onMessage("outbox", async () => {
        if (++count === 10) await gate.pass();
      });
      const running = await started(stream);
      await db.query(`SELECT count(pg_logical_emit_message(true, 'outbox', repeat('x', 200)))
        FROM generate_series(1, 50000)`);
      await db.query(`SELECT count(pg_logical_emit_message(false, 'outbox', repeat('x', 200)))
        FROM generate_series(1, 50000)`);
      await until("the tenth", () => gate.waiting === 1);
      let most = 0;
      for (let look = 0; look < 20; look++) {
        most = Math.max(most, stream.status().queueBytes);
        await sleep(20);
      }
      assertGreater(most, 100_000, "they count");
      assertLessOrEqual(most, maxQueueBytes * 2);
      gate.open();
      await db.query(`INSERT INTO ${table.name} VALUES (1)`);
      await until("all", () => stream.status().messages === 100_000, 60_000);
      const end = await currentLsn(db);
      await until("the confirmation", async () => await table.confirmedLsn() >= end, 30_000);
      await running.stop();
      await table.remove();
    });

    test("stay in step with a backfill, and come once", async () => {
      const table = await TestTable.create(db, "filled", {
        backfill: "initial",
        backfillChunk: { maxRows: 20 },
      });
      await table.insertMany(1, 500);
      const beats: string[] = [];
      const keys = new Set<string>();
      const stream = table.stream().onChange((event) => void keys.add(event.key!))
        .onMessage("beat", (message) => void beats.push(textOf(message)));
      const running = await started(stream);
      const expected: string[] = [];
      for (let n = 0; n < 60; n++) {
        await db.query(emit("beat", `${n}`, n % 2 === 0));
        expected.push(`${n}`);
        if (n % 20 === 10) await table.terminate();
      }
      await db.query(`INSERT INTO ${table.name} VALUES (501)`);
      await until("all", () => keys.size === 501 && beats.length >= 60, 30_000);
      await running.stop();
      assertEquals(beats, expected);
      await table.remove();
    });
  });
}

test("an outbox needs no table: set up, streamed, confirmed and torn down by itself", async () => {
  const db = await testPostgres({ major: 17 });
  const slotName = uniqueName("outbox");
  const make = () => new PgStream({ dsn: db.dsn, slotName, logger: false });
  try {
    const seen: string[] = [];
    const stream = make().onMessage("outbox", (message) => void seen.push(textOf(message)));
    const report = await stream.setup();
    assertEquals([report.slot, report.publication, report.added], ["created", "created", []]);
    assertEquals((await stream.setup()).publication, "found");
    await db.query("CREATE TABLE of_others (id int PRIMARY KEY); INSERT INTO of_others VALUES (1)");
    for (const text of ["one", "two"]) {
      await db.query("SELECT pg_logical_emit_message(true, 'outbox', $1)", [text]);
    }
    const first = await within("catchUp()", stream.catchUp());
    assertEquals([first.messages, first.events, seen], [2, 0, ["one", "two"]]);
    assertEquals((await within("catchUp()", stream.catchUp())).messages, 0);
    // Who watches nothing and asks for nothing is told so, as before.
    const kinds = [() => make().setup(), () => make().onChange(() => {}).start()].map(
      async (call) => (await assertRejects(call, PgStreamError)).kind,
    );
    assertEquals(await Promise.all(kinds), ["nothing-watched", "nothing-watched"]);
    const pulled = stream.changes()[Symbol.asyncIterator]().next();
    assertEquals((await assertRejects(() => pulled, PgStreamError)).kind, "nothing-watched");
    await stream.teardown();
  } finally {
    await db.stop();
  }
});

test("a server older than 14 is refused by name, where messages are asked for", async () => {
  const db = await testPostgres({ major: 13 });
  try {
    if (db.major >= 14) return;
    const table = await TestTable.create(db, "old");
    const stream = table.stream().onChange(() => {}).onMessage("outbox", () => {});
    const error = await within("the refusal", assertRejects(() => stream.start(), PgStreamError));
    assertInstanceOf(error, ReplicationError);
    assertEquals(error.kind, "not-supported");
    assert(/PostgreSQL 13\.\d+/.test(error.message), error.message);
    const slotName = uniqueName("none");
    const alone = new PgStream({ dsn: db.dsn, slotName, logger: false }).onMessage("p", () => {});
    const before = await assertRejects(() => alone.setup(), PgStreamError);
    assertEquals(before.kind, "not-supported");
    // A slot that nobody can read would hold back WAL.
    const [made] = await db.query(
      `SELECT (SELECT count(*)::int FROM pg_replication_slots WHERE slot_name = '${slotName}') AS slots,
        (SELECT count(*)::int FROM pg_publication WHERE pubname = '${slotName}') AS publications`,
    );
    assertEquals({ ...made }, { slots: 0, publications: 0 });
    await table.remove();
  } finally {
    await db.stop();
  }
});
