/** Ctrl+C and SIGTERM: what is in hand is finished and confirmed, at whichever moment they come. */

import { assertEquals, assertGreater, assertLess } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { Child } from "../support/child.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { newTable, sleep, started, until, walsenderPid } from "../support/streams.ts";

const ROUNDS = 100;

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

describe("a process that is told to stop", () => {
  test(`at ${ROUNDS} random moments: each commit is handled once, in order, and start() resolves (36)`, async () => {
    const seed = Date.now() & 0xffff;
    console.log(`seed ${seed}`);
    const { table, slotName, make, teardown } = await newTable(db, "told");
    const child = new Child(
      "signalled_consumer.ts",
      db.dsn,
      slotName,
      table,
      `${ROUNDS}`,
      `${seed}`,
    );
    let over = false;
    void child.ended.then(() => over = true);
    let rows = 0;
    while (!over) {
      await db.query(`INSERT INTO ${table} VALUES (${++rows})`);
      await sleep(2);
    }
    assertEquals(await child.ended, 0, `seed ${seed}`);
    const lives = child.lines.map((line) => JSON.parse(line) as number[]);
    assertEquals(lives.length, ROUNDS);
    const handled = lives.flat();
    assertEquals(
      handled,
      Array.from({ length: handled.length }, (_, index) => index + 1),
      `seed ${seed}`,
    );
    assertGreater(lives.filter((keys) => keys.length > 0).length, ROUNDS / 8);
    assertLess(handled.length, rows + 1);

    const rest: number[] = [];
    const running = await started(make((event) => void rest.push(Number(event.key))));
    await db.query(`INSERT INTO ${table} VALUES (${++rows})`);
    await until("the last row", () => rest.at(-1) === rows);
    await running.stop();
    assertEquals(rest[0], handled.length + 1);
    await teardown();
  });

  for (const [signal, status] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    test(`a second time, by ${signal}, ends at once, though its handler hangs; the event comes again (36)`, async () => {
      const { table, slotName, make, teardown } = await newTable(db, "twice");
      await db.query(`INSERT INTO ${table} VALUES (1)`);
      const child = new Child("signalled_consumer.ts", db.dsn, slotName, table, "0", "1");
      await child.printed(1);
      assertEquals(child.lines, ["begun"]);
      child.signal(signal);
      await sleep(300);
      const askedAt = performance.now();
      assertEquals(await child.kill(signal), status);
      assertLess(performance.now() - askedAt, 5000);
      await until("the slot to be free", async () => await walsenderPid(db, slotName) === null);
      const keys: string[] = [];
      const running = await started(make((event) => void keys.push(event.key!)));
      await until("the event", () => keys.length > 0);
      await running.stop();
      assertEquals(keys, ["1"]);
      await teardown();
    });
  }
});
