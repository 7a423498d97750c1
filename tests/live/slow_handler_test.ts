/** Handlers that take long, and changes that are many: the connection lives, nothing is confirmed early. */

import { assertEquals, assertGreater, assertInstanceOf } from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import { HandlerError, parseLsn } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
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

describe("a slow handler", () => {
  test("keeps its walsender for ten times the server's timeout, and gets each event once (7)", async () => {
    const { table, slotName, make, teardown } = await newTable(db, "slow", {
      dsn: withServerOptions(db.dsn, "-c wal_sender_timeout=1s"),
    });
    const keys: string[] = [];
    const stream = make(async (event) => {
      keys.push(event.key!);
      if (event.key === "1") await sleep(10_000);
    });
    const running = await started(stream);
    const pid = await until("the walsender", () => walsenderPid(db, slotName));
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    await db.query(`INSERT INTO ${table} VALUES (2)`);
    await until("the last event", () => keys.length === 2, 20_000);
    assertEquals(await walsenderPid(db, slotName), pid);
    await running.stop();
    assertEquals(keys, ["1", "2"]);
    await teardown();
  });

  test("may block the whole process for less than the timeout, again and again (7)", async () => {
    const { table, slotName, make, teardown } = await newTable(db, "blocking", {
      dsn: withServerOptions(db.dsn, "-c wal_sender_timeout=2s"),
    });
    const keys: string[] = [];
    const stream = make((event) => {
      const until = performance.now() + 900;
      while (performance.now() < until);
      keys.push(event.key!);
    });
    const running = await started(stream);
    const pid = await until("the walsender", () => walsenderPid(db, slotName));
    for (let id = 1; id <= 6; id++) await sql.unsafe(`INSERT INTO ${table} VALUES (${id})`);
    await until("the last event", () => keys.length === 6, 20_000);
    assertEquals(await walsenderPid(db, slotName), pid);
    await running.stop();
    assertEquals(keys, ["1", "2", "3", "4", "5", "6"]);
    await teardown();
  });

  test("may end in the middle of a transaction of 100,000 rows, which then comes again whole (1)", async () => {
    const { table, slotName, make, teardown } = await newTable(db, "huge", {
      retry: { attempts: 1 },
    });
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
    assertGreater(await confirmedLsn(db, slotName), parseLsn([...lsns][0]!));
    await teardown();
  });
});
