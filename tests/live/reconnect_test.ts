/** A connection that is lost, in whatever way, is remade: each event comes once, none is missing. */

import { assert, assertEquals, assertLess } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, parseLsn, type StreamState } from "../../mod.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { type Database, sleep, started, until } from "../support/streams.ts";
import { Gate, TestTable, texts } from "../support/test_table.ts";

let server: PostgresServer;
let db: Database;

/** Most of these tests take their server down. */
const options = { skip: needsOwnServer };
before(async () => {
  if (needsOwnServer !== false) return;
  server = await startPostgres();
  db = {
    get dsn() {
      return server.dsn;
    },
    query: (sql, parameters = []) => server.query(sql, { parameters }),
  };
});
after(() => server?.stop("immediate"));

const soon = { minDelayMs: 20, maxDelayMs: 200 };

/** Ways to lose a connection, and whether it takes something to get it back. */
const ways: [string, (table: TestTable) => Promise<unknown>][] = [
  ["its session is terminated", (table) => table.terminate()],
  ["the server restarts in order", () => server.restart("fast")],
  ["the server is stopped at once and started", () => server.restart("immediate")],
  ["the server is killed and started", async () => {
    await server.kill9();
    await server.start();
  }],
];

describe("a stream comes back and hands out each event once (44):", options, () => {
  for (const [name, lose] of ways) {
    test(`idle, ${name}`, async () => {
      const table = await TestTable.create(db, "idle", { reconnect: soon });
      const events: ChangeEvent[] = [];
      const states: StreamState[] = [];
      const stream = table.stream().onChange((event) => void events.push(event))
        .onStateChange((state) => states.push(state));
      const running = await started(stream);
      await table.insert(1, 2);
      await until("the first rows", () => events.length === 2);
      await lose(table);
      await table.insert(3, 4);
      await until("the next rows", () => events.length === 4);
      await sleep(200);
      assertEquals(events.map(({ key }) => key), ["1", "2", "3", "4"]);
      const { reconnects, state, lastError } = stream.status();
      assert(reconnects >= 1 && lastError !== null, `${reconnects} ${lastError}`);
      assertEquals(state, "streaming");
      const last = events.at(-1)!.lsn;
      await until("the confirmation", async () => await table.confirmedLsn() > parseLsn(last));
      await running.stop();
      assertEquals(states.slice(0, 4), ["connecting", "streaming", "reconnecting", "streaming"]);
      assertEquals(states.slice(-2), ["stopping", "stopped"]);
      await table.remove();
    });

    for (const concurrency of [1, 8]) {
      test(`amid a transaction of 20,000 rows, ${concurrency} at once, ${name}`, async () => {
        const ROWS = 20_000;
        const table = await TestTable.create(db, "amid", {
          reconnect: soon,
          maxQueueBytes: 200_000,
          concurrency,
        });
        const seen: number[] = [];
        const stream = table.stream().onChange(async (event) => {
          seen.push(Number(event.key));
          if (seen.length % 100 === 0) await sleep(1);
        });
        const running = await started(stream);
        await table.insert(0);
        await table.insertMany(1, ROWS, "repeat('x', 100)");
        await until("some rows", () => seen.length > 1000);
        const before = seen.length;
        await lose(table);
        assertLess(before, ROWS / 2);
        await table.insert(ROWS + 1);
        await until("all rows", () => seen.length >= ROWS + 2, 60_000);
        await sleep(200);
        if (concurrency > 1) seen.sort((a, b) => a - b);
        assertEquals(seen.map(String), texts(0, ROWS + 1));
        assert(stream.status().reconnects >= 1);
        assertEquals(stream.status().transactions, 3);
        await running.stop();
        await table.remove();
      });
    }
  }

  test("amid batches that wait for others, again and again", async () => {
    const table = await TestTable.create(db, "batches", { reconnect: soon, concurrency: 2 });
    const seen: string[] = [];
    const stream = table.stream().onBatch(async (events) => {
      await sleep(20);
      seen.push(...events.map(({ key }) => key!));
    }, { maxEvents: 50, maxDelayMs: 100 });
    const running = await started(stream);
    for (let round = 0; round < 10; round++) {
      await table.insertMany(round * 100 + 1, round * 100 + 99);
      if (round % 3 !== 2) await table.terminate();
      await table.insert(round * 100 + 100);
    }
    await until("all rows", () => seen.length >= 1000);
    await sleep(300);
    assertEquals(seen.map(Number).sort((a, b) => a - b).map(String), texts(1, 1000));
    await running.stop();
    await table.remove();
  });

  test("where a handler runs on through the outage: what it did is confirmed afterwards", async () => {
    const table = await TestTable.create(db, "through", { reconnect: soon });
    const gate = new Gate();
    const events: ChangeEvent[] = [];
    const stream = table.stream().onChange(async (event) => {
      events.push(event);
      await gate.pass();
    });
    const running = await started(stream);
    await table.insert(1, 2, 3);
    await until("the first row", () => events.length === 1);
    await server.shutdown("immediate");
    await until("the outage", () => stream.status().state === "reconnecting");
    gate.open();
    // What is queued may wait until it is known to whom the slot belongs.
    await sleep(200);
    await server.start();
    await until("the others", () => events.length === 3);
    const last = events.at(-1)!.lsn;
    await until("the confirmation", async () => await table.confirmedLsn() > parseLsn(last));
    await running.stop();
    assertEquals(events.map(({ key }) => key), ["1", "2", "3"]);
    const next = await started(table.stream().onChange((event) => void events.push(event)));
    await table.insert(4);
    await until("the next row", () => events.length > 3);
    await next.stop();
    assertEquals(events.map(({ key }) => key), ["1", "2", "3", "4"]);
    await table.remove();
  });

  test("with tables that were altered meanwhile", async () => {
    const table = await TestTable.create(db, "altered", { reconnect: soon });
    const rows: unknown[] = [];
    const stream = table.stream().onChange((event) => void rows.push({ ...event.row }));
    const running = await started(stream);
    await table.insert(1);
    await until("the first row", () => rows.length === 1);
    await server.restart("fast");
    await db.query(`ALTER TABLE ${table.name} DROP v, ADD w int DEFAULT 7, ADD x text`);
    await table.insert(2);
    await until("the second row", () => rows.length === 2);
    await running.stop();
    assertEquals(rows, [{ id: "1", v: null }, { id: "2", w: "7", x: null }]);
    await table.remove();
  });
});
