/** The end of a connection: the server goes on sending, and only its answer proves what it has read. */

import { assert, assertEquals, assertGreaterOrEqual, assertLess } from "@std/assert";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { ReplicationStream } from "../../mod.ts";
import { PgOutputDecoder } from "../../src/pgoutput/mod.ts";
import {
  needsOwnServer,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import {
  confirmedLsn,
  newTable,
  sleep,
  started,
  until,
  walsenderPid,
  within,
} from "../support/streams.ts";

const ROWS = 300_000;

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

/** Reads up to a Commit, and confirms it. */
async function confirmOne(stream: ReplicationStream): Promise<bigint> {
  const decoder = new PgOutputDecoder();
  for (;;) {
    const messages = await within("a transaction", stream.read());
    assert(messages !== null);
    for (const message of messages) {
      if (message.type !== "xLogData") continue;
      const decoded = decoder.decode(message.data);
      if (decoded.type !== "commit") continue;
      stream.acknowledge(decoded.endLsn);
      return decoded.endLsn;
    }
  }
}

describe("closing a connection", () => {
  test("in the middle of a large transaction waits a second for its end, and no longer (45)", async () => {
    const { table, slotName, make, teardown } = await newTable(db, "large");
    await db.query(`INSERT INTO ${table} SELECT n FROM generate_series(1, ${ROWS}) n`);
    const stream = await ReplicationStream.open({ dsn: db.dsn, slotName, logger: false });
    assert(await within("the first rows", stream.read()));
    const closedAt = performance.now();
    const proven = await within("close()", stream.close());
    const tookMs = performance.now() - closedAt;
    console.log(
      `closed in ${Math.round(tookMs)} ms; the server ${proven ? "answered" : "was sending"}`,
    );
    assertLess(tookMs, 4000);
    await until(
      "the slot to be free",
      async () => await walsenderPid(db, slotName) === null,
      30_000,
    );

    // The same with a handler, and all of it comes again.
    let handled = 0;
    const stopping = make(async () => {
      if (++handled % 100 === 0) await sleep(1);
    });
    await started(stopping);
    await until("some rows", () => handled > 500);
    const stoppedAt = performance.now();
    await within("stop()", stopping.stop());
    assertLess(performance.now() - stoppedAt, 4000);
    assertLess(handled, ROWS);
    await until(
      "the slot to be free",
      async () => await walsenderPid(db, slotName) === null,
      30_000,
    );
    let next = 0;
    const whole = await started(make(({ ordinal, key }) => {
      assertEquals([ordinal, key], [next, String(++next)]);
    }));
    await until("all rows", () => next === ROWS, 60_000);
    await until("the commit", () => whole.stream.status().transactions === 1);
    await whole.stop();
    await teardown();
  });

  test("tells that the last confirmation was read, where the server has answered (45)", async () => {
    const { table, slotName, teardown } = await newTable(db, "answered");
    for (let id = 1; id <= 5; id++) {
      await db.query(`INSERT INTO ${table} VALUES (${id})`);
      const stream = await ReplicationStream.open({ dsn: db.dsn, slotName, logger: false });
      const confirmed = await confirmOne(stream);
      assertEquals(await within("close()", stream.close()), true);
      assertGreaterOrEqual(await confirmedLsn(db, slotName), confirmed);
    }
    await teardown();
  });

  test("tells that it does not know, where it has not (45)", { skip: needsOwnServer }, async () => {
    const { table, slotName, teardown } = await newTable(db, "unanswered");
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    const stream = await ReplicationStream.open({ dsn: db.dsn, slotName, logger: false });
    const before = await confirmedLsn(db, slotName);
    process.kill(stream.processId, "SIGSTOP");
    try {
      const reading = confirmOne(stream).catch(() => 0n);
      await Promise.race([reading, sleep(300)]);
      const closedAt = performance.now();
      assertEquals(await within("close()", stream.close()), false);
      assertLess(performance.now() - closedAt, 4000);
      assertEquals(await confirmedLsn(db, slotName), before);
    } finally {
      process.kill(stream.processId, "SIGCONT");
    }
    await until("the slot to be free", async () => await walsenderPid(db, slotName) === null);
    await teardown();
  });
});
