/** One process takes another one's place on a slot: nothing is handled side by side, and nothing is lost. */

import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { after, before, describe, test } from "node:test";
import type { Gap, PgStreamOptions } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { newTable, sleep, started, until, walsenderPid, within } from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

describe("a process that starts while the one before it still streams", () => {
  const variants: PgStreamOptions[] = [{}, { onSlotLost: "recreate" }, { whenSlotInUse: "wait" }];
  for (const options of variants) {
    test(`gets what the other has not handled, and no more; options ${JSON.stringify(options)}`, async () => {
      const { table, make, teardown } = await newTable(db, "rolling", options);
      const first: string[] = [];
      const second: string[] = [];
      const gaps: Gap[] = [];
      const one = await started(make((event) => first.push(event.key!)));
      await db.query(`INSERT INTO ${table} VALUES (1)`);
      await until("the first row", () => first.length === 1);
      const stream = make((event) => second.push(event.key!)).onGap((gap) => gaps.push(gap));
      const ended = stream.start();
      // It has looked at the slot by then, and found it held.
      await sleep(500);
      await db.query(`INSERT INTO ${table} VALUES (2), (3)`);
      await until("the other rows", () => first.length === 3);
      await one.stop();
      await db.query(`INSERT INTO ${table} VALUES (4), (5)`);
      await until("the rows of the second", () => second.length >= 2);
      await within("the end", stream.stop());
      await ended;
      assertEquals([first, second, gaps], [["1", "2", "3"], ["4", "5"], []]);
      await teardown();
    });
  }
});

test("a process that has lost its slot to another begins nothing more of what is queued", async () => {
  const { table, slotName, make, teardown } = await newTable(db, "beside", {
    whenSlotInUse: "wait",
  });
  const first: string[] = [];
  const one = await started(make(async (event) => {
    first.push(event.key!);
    await sleep(100);
  }));
  await db.query(`INSERT INTO ${table} SELECT generate_series(1, 100)`);
  await until("the first row", () => first.length > 0);
  const second: string[] = [];
  const other = make((event) => {
    second.push(event.key!);
    return new Promise(() => {});
  });
  const otherEnded = other.start();
  await sleep(300);
  const pid = await walsenderPid(db, slotName);
  await db.query(`SELECT pg_terminate_backend(${pid})`);
  // Whichever comes first: at times the one that was there is back before the other has looked.
  await until("a new walsender", async () => {
    const now = await walsenderPid(db, slotName);
    return now !== null && now !== pid;
  });
  await sleep(200);
  const begun = first.length;
  if (other.status().state === "streaming") {
    await sleep(1000);
    // The one that was in hand, and one that may have been begun as the connection went.
    assertLessOrEqual(first.length, begun + 1);
    assert(second.length > 0);
  }
  await other.stop({ timeoutMs: 0 });
  await otherEnded;
  await one.stop();
  await teardown();
});
