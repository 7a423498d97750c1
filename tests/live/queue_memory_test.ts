/** What waits for a handler that is blocked: bounded on the heap too, whatever shape the rows have. */

import { assertEquals, assertGreater, assertLess } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { heapBytes } from "../support/collect_garbage.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { newTable, sleep, started, until } from "../support/streams.ts";

const MAX_QUEUE_BYTES = 8 * 1024 * 1024;

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

const columns = (many: number, definition: string) =>
  Array.from({ length: many }, (_, index) => `ADD c${index} ${definition}`).join();

describe("8 MiB of rows that wait take less than as much of the heap:", () => {
  const shapes: { name: string; alter?: string; fill: (table: string) => string }[] = [
    {
      name: "1,500 integers, all NULL",
      alter: columns(1500, "int"),
      fill: (table) => `INSERT INTO ${table} (id) SELECT n FROM generate_series(1, 8000) n`,
    },
    {
      name: "200 texts, all empty",
      alter: columns(200, "text DEFAULT ''"),
      fill: (table) => `INSERT INTO ${table} (id) SELECT n FROM generate_series(1, 30000) n`,
    },
    {
      name: "40 integers of one digit",
      alter: columns(40, "int DEFAULT 7"),
      fill: (table) => `INSERT INTO ${table} (id) SELECT n FROM generate_series(1, 60000) n`,
    },
    {
      name: "a number and NULL",
      fill: (table) => `INSERT INTO ${table} SELECT n FROM generate_series(1, 300000) n`,
    },
    {
      name: "updates under REPLICA IDENTITY FULL",
      alter: `${columns(20, "text DEFAULT 'x'")}, REPLICA IDENTITY FULL`,
      fill: (table) =>
        `INSERT INTO ${table} (id) SELECT n FROM generate_series(1, 40000) n; UPDATE ${table} SET v = 'y'`,
    },
    {
      name: "a transaction for each",
      fill: (table) =>
        `DO $$ BEGIN FOR n IN 1..40000 LOOP INSERT INTO ${table} VALUES (n); COMMIT; END LOOP; END $$`,
    },
    {
      name: "texts of 1 kB, half of their characters beyond Latin-1",
      fill: (table) =>
        `INSERT INTO ${table} SELECT n, n || repeat('aя', 400) FROM generate_series(1, 15000) n`,
    },
  ];
  for (const { name, alter, fill } of shapes) {
    test(`${name} (35)`, async () => {
      const { table, make, teardown } = await newTable(db, "shape", {
        maxQueueBytes: MAX_QUEUE_BYTES,
      });
      if (alter !== undefined) await db.query(`ALTER TABLE ${table} ${alter}`);
      const { promise: released, resolve: release } = Promise.withResolvers<void>();
      let handled = 0;
      const stream = make(async () => {
        if (handled++ === 0) await released;
      });
      const before = await heapBytes();
      const running = await started(stream);
      try {
        await db.query(fill(table));
        let last = -1;
        let quietSince = performance.now();
        await until("the queue to be full", () => {
          const { queueBytes } = stream.status();
          if (queueBytes !== last) quietSince = performance.now();
          last = queueBytes;
          return queueBytes > 0 && performance.now() - quietSince > 400;
        }, 20_000);
        assertGreater(last, MAX_QUEUE_BYTES * 0.9, "there were too few rows to fill the queue");
        const grew = await heapBytes() - before;
        console.log(`${name}: ${(grew / MAX_QUEUE_BYTES).toFixed(2)} of the bound`);
        assertLess(grew, MAX_QUEUE_BYTES);
        assertEquals(handled, 1);
      } finally {
        // The rest need not be handed out: the signal ends the stream after the event in hand.
        const stopping = running.stop();
        await sleep(0);
        release();
        await stopping;
      }
      assertEquals(stream.status().queueBytes, 0);
      await teardown();
    });
  }
});
