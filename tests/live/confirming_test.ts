/** Which position is confirmed: the end of a commit, never back, never what nobody has handled. */

import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLess,
  assertLessOrEqual,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, type Lsn, parseLsn, ReplicationStream } from "../../mod.ts";
import { PgOutputDecoder } from "../../src/pgoutput/mod.ts";
import { Child } from "../support/child.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  confirmedLsn,
  newTable,
  openClient,
  sleep,
  started,
  until,
  walsenderPid,
  within,
  withServerOptions,
} from "../support/streams.ts";

/** A transaction as the protocol hands it out. */
interface Received {
  /** By their keys. */
  rows: { key: string; lsn: Lsn }[];
  commitLsn: Lsn;
  endLsn: Lsn;
}

/** Reads as far as the end of the transaction that has the key in it. */
function readTo(stream: ReplicationStream, key: string): Promise<Received[]> {
  const decoder = new PgOutputDecoder();
  const transactions: Received[] = [];
  let rows: Received["rows"] = [];
  async function read(): Promise<Received[]> {
    for (;;) {
      const messages = await stream.read();
      assert(messages !== null, "the stream ended");
      for (const message of messages) {
        if (message.type !== "xLogData") continue;
        const decoded = decoder.decode(message.data);
        if (decoded.type === "insert") {
          rows.push({ key: decoded.row.id as string, lsn: message.walStart });
        } else if (decoded.type === "commit") {
          const { commitLsn, endLsn } = decoded;
          transactions.push({ rows, commitLsn, endLsn });
          if (rows.some((row) => row.key === key)) return transactions;
          rows = [];
        }
      }
    }
  }
  return within(`the row ${key}`, read());
}

const keysOf = (transactions: Received[]) =>
  transactions.flatMap(({ rows }) => rows.map(({ key }) => key));

for (const major of testMajors(18, 13)) {
  describe(`confirming, on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
    });
    after(() => db?.stop());

    const open = (slotName: string, startLsn: Lsn = 0n) =>
      ReplicationStream.open({
        dsn: withServerOptions(db.dsn, major >= 12 ? "-c wal_sender_timeout=600ms" : ""),
        slotName,
        startLsn,
        logger: false,
      });
    const points: [string, (received: Received) => Lsn, string[]][] = [
      ["a row's LSN", ({ rows }) => rows.at(-1)!.lsn, ["1", "2", "3", "4"]],
      ["the start of the commit record", ({ commitLsn }) => commitLsn, ["1", "2", "3", "4"]],
      ["the end of the commit record", ({ endLsn }) => endLsn, ["4"]],
    ];
    for (const [name, point, expected] of points) {
      test(`${name}: the transaction comes again unless its end was confirmed (1)`, async () => {
        const { table, slotName, teardown } = await newTable(db, "point");
        await db.query(`INSERT INTO ${table} VALUES (1), (2), (3)`);
        const stream = await open(slotName);
        const [received] = (await readTo(stream, "3")).slice(-1);
        const { rows, commitLsn, endLsn } = received!;
        assertLess(rows.at(-1)!.lsn, commitLsn);
        assertLess(commitLsn, endLsn);
        stream.acknowledge(point(received!));
        assertEquals(await stream.close(), true);
        assertEquals(await confirmedLsn(db, slotName), point(received!));

        await db.query(`INSERT INTO ${table} VALUES (4)`);
        const next = await open(slotName);
        assertEquals(keysOf(await readTo(next, "4")), expected);
        await next.close();
        await teardown();
      });
    }

    test("what was confirmed once is not taken back, neither while it streams nor by an older start (3)", async () => {
      const { table, slotName, teardown } = await newTable(db, "clamp");
      await db.query(`INSERT INTO ${table} VALUES (1)`);
      await db.query(`INSERT INTO ${table} VALUES (2)`);
      const stream = await open(slotName);
      const transactions = await readTo(stream, "2");
      const [first, second] = transactions.slice(-2).map(({ endLsn }) => endLsn);
      assertLess(first!, second!);
      stream.acknowledge(second!);
      stream.acknowledge(first!);
      assertEquals(stream.acknowledgedLsn, second!);
      await until(
        "the confirmation",
        async () => await confirmedLsn(db, slotName) === second,
      );
      stream.acknowledge(first!);
      // Three status updates and more: each of them says a position.
      await sleep(900);
      assertEquals(await confirmedLsn(db, slotName), second!);
      assertEquals(await stream.close(), true);
      assertEquals(await confirmedLsn(db, slotName), second!);

      for (const startLsn of [first!, 0n]) {
        const older = await open(slotName, startLsn);
        await sleep(900);
        const [sender] = await db.query<{ flushed: string | null }>(
          `SELECT flush_lsn::text AS flushed FROM pg_stat_replication WHERE pid = ${older.processId}`,
        );
        // 13.21 and others move the slot back to what they are told; 0/0 is told where nothing is known.
        const flushed = parseLsn(sender!.flushed ?? "0/0");
        assert(flushed === 0n || flushed >= second!, `it said ${sender!.flushed}`);
        assertEquals(await confirmedLsn(db, slotName), second!, `after a start at ${startLsn}`);
        await older.close();
        assertEquals(await confirmedLsn(db, slotName), second!, `after a start at ${startLsn}`);
      }
      await db.query(`INSERT INTO ${table} VALUES (3)`);
      const next = await open(slotName);
      assertEquals(keysOf(await readTo(next, "3")), ["3"]);
      await next.close();
      await teardown();
    });
  });
}

describe("a consumer that is killed", () => {
  let db: TestPostgres;
  before(async () => {
    db = await testPostgres();
  });
  after(() => db?.stop());

  const consumer = (slotName: string, table: string, delayMs: number, options = "") =>
    new Child("consumer.ts", withServerOptions(db.dsn, options), slotName, table, `${delayMs}`);
  const keyOf = (line: string) => JSON.parse(line)[2] as string;
  const free = (slotName: string) =>
    until("the slot to be free", async () => await walsenderPid(db, slotName) === null);

  test("between two commits loses nothing of the transaction that began first, whose rows have lower LSNs (2)", async () => {
    const { table, slotName, make, teardown } = await newTable(db, "crossed");
    const early = openClient(db.dsn);
    const late = openClient(db.dsn);
    try {
      await early.unsafe(`BEGIN; INSERT INTO ${table} VALUES (1)`);
      await late.unsafe(`BEGIN; INSERT INTO ${table} VALUES (2)`);
      await early.unsafe(`INSERT INTO ${table} VALUES (3)`);
      const child = consumer(slotName, table, 0);
      await late.unsafe(`INSERT INTO ${table} VALUES (4); COMMIT`);
      await child.printed(2);
      const committed = parseLsn(JSON.parse(child.lines[1]!)[0]);
      await until(
        "the first commit to be confirmed",
        async () => await confirmedLsn(db, slotName) > committed,
      );
      await child.kill();
      await free(slotName);
      assertEquals(child.lines.map(keyOf), ["2", "4"]);
      await early.unsafe(`INSERT INTO ${table} VALUES (5); COMMIT`);

      // What makes LSNs of rows useless: they go back, and begin before what is confirmed.
      const raw = await ReplicationStream.open({ dsn: db.dsn, slotName, logger: false });
      const [crossed] = (await readTo(raw, "5")).slice(-1);
      await raw.close();
      assertEquals(crossed!.rows.map(({ key }) => key), ["1", "3", "5"]);
      assertLess(crossed!.rows[0]!.lsn, committed);
      assertLess(crossed!.rows[1]!.lsn, await confirmedLsn(db, slotName));

      const events: ChangeEvent[] = [];
      const running = await started(make((event) => void events.push(event)));
      await until("the whole transaction", () => events.length >= 3);
      await db.query(`INSERT INTO ${table} VALUES (6)`);
      await until("a new one", () => events.at(-1)?.key === "6");
      await running.stop();
      assertEquals(events.map(({ key, ordinal }) => `${key} ${ordinal}`), [
        "1 0",
        "3 1",
        "5 2",
        "6 0",
      ]);
      assertGreater(parseLsn(events[0]!.lsn), committed);
    } finally {
      await early.end({ timeout: 1 });
      await late.end({ timeout: 1 });
    }
    await teardown();
  });

  test("while its handler hangs past every timer: commits that wait in the queue come again (5)", async () => {
    const { table, slotName, make, teardown } = await newTable(db, "hung");
    await db.query("CREATE TABLE unwatched_bait (v text)");
    const before = await confirmedLsn(db, slotName);
    const child = consumer(slotName, table, 1_000_000, "-c wal_sender_timeout=900ms");
    await until("the consumer", () => walsenderPid(db, slotName));
    const pid = await walsenderPid(db, slotName);
    for (let id = 1; id <= 20; id++) await db.query(`INSERT INTO ${table} VALUES (${id})`);
    // Keepalives beyond all of them, for whoever would confirm one.
    for (let round = 0; round < 15; round++) {
      await db.query(
        "INSERT INTO unwatched_bait SELECT repeat('x', 1000) FROM generate_series(1, 1000)",
      );
      await sleep(200);
    }
    const [sender] = await db.query<{ written: string; flushed: string }>(
      `SELECT write_lsn::text AS written, flush_lsn::text AS flushed FROM pg_stat_replication
        WHERE pid = ${pid}`,
    );
    assert(sender !== undefined, "the server closed the connection");
    // It has received it all, and says so; what it says of having done is another position.
    assertGreater(parseLsn(sender.written), before);
    assertLessOrEqual(parseLsn(sender.flushed), parseLsn(sender.written));
    const confirmed = await confirmedLsn(db, slotName);
    await child.kill();
    assertEquals(child.lines, []);
    await free(slotName);
    assertGreaterOrEqual(await confirmedLsn(db, slotName), confirmed);

    const keys: string[] = [];
    const running = await started(make((event) => void keys.push(event.key!)));
    await until("all rows", () => keys.at(-1) === "20");
    await running.stop();
    assertEquals(keys, Array.from({ length: 20 }, (_, index) => String(index + 1)));
    await teardown();
  });
});
