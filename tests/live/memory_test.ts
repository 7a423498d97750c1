/** What passes through a process whose sink is slow, and what it takes of that process. */

import { assertEquals, assertGreater, assertLess } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { Child } from "../support/child.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { newTable } from "../support/streams.ts";

const MB = 1024 * 1024;

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

/** What a consumer tells of one transaction. */
interface Told {
  handled: number;
  /** When it was handled, and nothing was left to do. */
  nowBytes: number;
  mostBytes: number;
  mostQueued: number;
}

/** Sends transactions through a consumer in a process of its own, one after the other. */
async function measure(
  { columns = "", fill, sizes, maxQueueBytes, every, sleepMs }: {
    /** Columns beside `id`. */
    columns?: string;
    /** Values of the columns in the row `n`. */
    fill: string;
    /** Rows of each transaction. */
    sizes: number[];
    maxQueueBytes: number;
    /** The handler sleeps once in so many events. */
    every: number;
    sleepMs: number;
  },
): Promise<Told[]> {
  const { table, slotName, teardown } = await newTable(db, "memory");
  await db.query(`ALTER TABLE ${table} DROP v ${columns}`);
  const child = new Child(
    "memory_consumer.ts",
    ...[db.dsn, slotName, table],
    ...[maxQueueBytes, sizes.length, every, sleepMs].map(String),
  );
  const told: Told[] = [];
  let first = 1;
  for (const rows of sizes) {
    await db.query(`INSERT INTO ${table} SELECT n, ${fill}
      FROM generate_series(${first}, ${first + rows - 1}) n`);
    first += rows;
    await child.printed(told.length + 1, 90_000);
    told.push(JSON.parse(child.lines.at(-1)!));
  }
  assertEquals(await child.ended, 0);
  assertEquals(told.map(({ handled }) => handled), sizes);
  await teardown();
  return told;
}

const inMB = (bytes: number) => `${(bytes / MB).toFixed(1)} MB`;

describe("a slow sink", () => {
  // The queue, and the garbage that a runtime lets lie beside it, which is the larger part. All rows at
  // once would be more than 500 MB.
  for (const [maxQueueMB, mostMB] of [[2, 64], [8, 64]] as const) {
    test(`lets 1,000,000 rows of a transaction through a queue of ${maxQueueMB} MiB, and ${mostMB} MB at most (35)`, async () => {
      const [idle, during] = await measure({
        columns: ", ADD v text",
        fill: "'text ' || n",
        sizes: [1_000, 1_000_000],
        maxQueueBytes: maxQueueMB * MB,
        every: 5000,
        sleepMs: 5,
      });
      const grew = during!.mostBytes - idle!.nowBytes;
      console.log(`a queue of ${maxQueueMB} MiB: ${inMB(idle!.nowBytes)} idle, ${inMB(grew)} more`);
      assertGreater(during!.mostQueued, MB);
      assertLess(grew, mostMB * MB);
    });
  }

  const shapes = [
    { name: "rows of one column of 96 kB", columns: 1, bytes: 96_000, rows: 2100 },
    { name: "rows of 100 columns of 1 kB", columns: 100, bytes: 1_000, rows: 900 },
    { name: "rows of 10 columns of 50 bytes", columns: 10, bytes: 50, rows: 100_000 },
  ];
  for (const { name, columns, bytes, rows } of shapes) {
    const total = Math.round(columns * bytes * rows / MB);
    test(`holds the server back: ${total} MB pass a queue of 1 MiB, and memory stays flat; ${name} (35)`, async () => {
      const names = Array.from({ length: columns }, (_, index) => `c${index}`);
      const value = `left(repeat(md5(n::text), ${Math.ceil(bytes / 32)}), ${bytes})`;
      // The first one is of the same shape: buffers, code and garbage are what they will be.
      const [before, during] = await measure({
        columns: names.map((column) => `, ADD ${column} text`).join(""),
        fill: names.map(() => value).join(),
        sizes: [Math.ceil(rows / 7), rows],
        maxQueueBytes: MB,
        every: Math.ceil(rows / 50),
        sleepMs: 20,
      });
      const grew = during!.mostBytes - before!.nowBytes;
      console.log(`${name}: ${inMB(grew)} more than after a seventh of it`);
      assertGreater(during!.mostQueued, MB / 2);
      // An event that begins within the bound may end beyond it.
      assertLess(during!.mostQueued, MB + 4 * columns * bytes + MB / 8);
      assertLess(grew, 64 * MB);
    });
  }

  test("of 100 ms an event, under a load that it cannot keep up with, leaves memory flat (35)", async () => {
    const [before, during] = await measure({
      columns: ", ADD v text",
      // 400 kB, of which 100 are 40 MB that the server has to hold back for 10 s.
      fill: "repeat(md5(n::text), 12500)",
      sizes: [30, 100],
      maxQueueBytes: 2 * MB,
      every: 1,
      sleepMs: 100,
    });
    const grew = during!.mostBytes - before!.nowBytes;
    console.log(`100 ms an event: ${inMB(grew)} more than after a third of it`);
    assertGreater(during!.mostQueued, MB);
    assertLess(grew, 64 * MB);
  });
});
