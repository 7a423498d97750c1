/** A connection that is lost, in whatever way, is remade: each event comes once, none is missing. */

import { assert, assertEquals, assertLess, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, parseLsn, PgStream, type StreamState } from "../../mod.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { type Database, LogLines, sleep, started, until, within } from "../support/streams.ts";
import { Gate, TestTable, texts } from "../support/test_table.ts";

let server: PostgresServer;
let db: Database;

/** Runs the same tests with a server of their own: most of them take it down. */
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

describe("while the server is away", options, () => {
  test("stop() and abort do not wait for it, and resolve", async () => {
    const table = await TestTable.create(db, "away", {
      reconnect: { minDelayMs: 60_000, maxDelayMs: 60_000 },
    });
    const abort = new AbortController();
    const aborted = await started(table.stream().onChange(() => {}), { signal: abort.signal });
    await table.terminate();
    await until("the loss", () => aborted.stream.status().state === "reconnecting");
    await table.free();
    const stopped = await started(table.stream().onChange(() => {}));
    await server.shutdown("immediate");
    try {
      await until("the loss", () => stopped.stream.status().state === "reconnecting");
      const at = performance.now();
      abort.abort();
      await stopped.stop();
      assertEquals(await within("start()", aborted.ended), null);
      assertLess(performance.now() - at, 3000);
      assertEquals(aborted.stream.status().state, "stopped");
    } finally {
      await server.start();
    }
    await table.remove();
  });

  test("it is tried as often as was said, and start() then rejects with what the last try met", async () => {
    const table = await TestTable.create(db, "often", {
      reconnect: { attempts: 3, minDelayMs: 20, maxDelayMs: 20 },
    });
    const logger = new LogLines();
    const stream = table.stream({ logger }).onChange(() => {});
    const { ended } = await started(stream);
    await server.shutdown("immediate");
    try {
      const error = await within("start() to reject", ended) as Error & { retryable: boolean };
      assertEquals([error.retryable, stream.status().state], [true, "failed"]);
      assertEquals(stream.status().lastError, error.message);
      assertEquals(stream.status().reconnects, 0);
    } finally {
      await server.start();
    }
    await table.remove();
  });

  test("attempts are in a row: a connection that works sets them back", async () => {
    const table = await TestTable.create(db, "row", {
      reconnect: { attempts: 2, minDelayMs: 10, maxDelayMs: 20 },
    });
    const keys: string[] = [];
    const running = await started(table.stream().onChange((event) => void keys.push(event.key!)));
    for (let round = 1; round <= 6; round++) {
      await table.terminate();
      await table.insert(round);
      await until("the row", () => keys.length === round);
    }
    await running.stop();
    await table.remove();
  });

  test("reconnect: false makes start() reject at once", async () => {
    const table = await TestTable.create(db, "never", { reconnect: false });
    const { ended, stream } = await started(table.stream().onChange(() => {}));
    await table.terminate();
    const error = await within("start() to reject", ended) as Error & { retryable: boolean };
    assertEquals([error.retryable, stream.status().state], [true, "failed"]);
    await table.free();
    await table.remove();
  });

  test("the very first connection is not tried again", async () => {
    const table = await TestTable.create(db, "first", { reconnect: soon });
    const stream = table.stream().onChange(() => {});
    await server.shutdown("immediate");
    try {
      const at = performance.now();
      const error = await within("start()", stream.start().then(() => null, (error) => error));
      assert(error instanceof Error);
      assertLess(performance.now() - at, 3000);
      assertEquals(stream.status().state, "failed");
    } finally {
      await server.start();
    }
    // The same stream, once the server is there.
    await (await started(stream)).stop();
    await table.remove();
  });
});

describe("what does not come back by itself is an error at once:", options, () => {
  /** Long enough to break something between the loss and the next try. */
  const late = { minDelayMs: 1500, maxDelayMs: 1500, attempts: 20 };
  type Break = (table: TestTable) => Promise<unknown>;
  const endings: [string, string, Break, Break][] = [
    [
      "the publication was dropped",
      "publication-missing",
      (table) => db.query(`DROP PUBLICATION ${table.slotName}`),
      (table) => table.remove(),
    ],
    [
      "the slot was dropped",
      "slot-missing",
      (table) => db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`),
      (table) => table.remove(),
    ],
    [
      "the slot was dropped and made anew (12)",
      "slot-moved",
      async (table) => {
        await db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`);
        await table.insert(2);
        await table.stream().setup();
      },
      (table) => table.remove(),
    ],
    [
      "the table was dropped",
      "table-missing",
      (table) => db.query(`DROP TABLE ${table.name}`),
      async (table) => {
        await db.query(`CREATE TABLE ${table.name} ()`);
        await table.remove();
      },
    ],
  ];
  for (const [name, kind, harm, mend] of endings) {
    test(name, async () => {
      const table = await TestTable.create(db, "gone", { reconnect: late });
      const keys: string[] = [];
      const stream = table.stream().onChange((event) => void keys.push(event.key!));
      const { ended } = await started(stream);
      await table.insert(1);
      await until("the first row", () => keys.length === 1);
      await until(
        "it to be confirmed",
        () => stream.status().confirmedLsn === stream.status().handledLsn,
      );
      await table.terminate();
      await table.free();
      await harm(table);
      const error = await within("start() to reject", ended) as Error & {
        kind: string;
        hint?: string;
      };
      assertEquals(error.kind, kind, String(error));
      assert(error.hint);
      assertEquals(keys, ["1"]);
      await mend(table);
    });
  }

  test("the password was changed", async () => {
    await db.query("CREATE ROLE changing LOGIN SUPERUSER PASSWORD 'first'");
    const table = await TestTable.create(db, "password", { reconnect: soon });
    const dsn = server.dsnOf(server.database, "changing", "first");
    const asked: string[] = [];
    let password = "first";
    const stubborn = table.stream({ dsn }).onChange(() => {});
    const { ended } = await started(stubborn);
    await db.query("ALTER ROLE changing PASSWORD 'second'");
    await table.terminate();
    const error = await within("start() to reject", ended) as Error & { kind: string };
    assertEquals(error.kind, "authentication");
    assert(!String(error).includes("first"));

    // Where it is asked for, it is asked for each time.
    await table.free();
    password = "second";
    const keys: string[] = [];
    const asking = new PgStream({
      dsn,
      slotName: table.slotName,
      logger: false,
      reconnect: soon,
      password: () => {
        asked.push(password);
        return password;
      },
    }).watch(table.name).onChange((event) => void keys.push(event.key!));
    const running = await started(asking);
    password = "third";
    await db.query("ALTER ROLE changing PASSWORD 'third'");
    await table.terminate();
    await table.insert(1);
    await until("the row", () => keys.length === 1);
    await running.stop();
    assertEquals([asked[0], asked.at(-1)], ["second", "third"]);
    await table.remove();
    await db.query("DROP ROLE changing");
  });

  test("the database was renamed", async () => {
    const { dsn, name } = await server.createDatabase();
    const inside: Database = {
      dsn,
      query: (sql, parameters = []) => server.query(sql, { parameters, database: name }),
    };
    const table = await TestTable.create(inside, "renamed", { reconnect: late });
    const { ended } = await started(table.stream().onChange(() => {}));
    await table.terminate();
    await table.free();
    await db.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = '${name}'`);
    await until(
      "the new name",
      () =>
        db.query(`ALTER DATABASE ${name} RENAME TO ${name}_other`).then(() => true, () => false),
    );
    const error = await within("start() to reject", ended) as Error & { kind: string };
    assertEquals(error.kind, "database-missing");
    assertStringIncludes(error.message, name);
    await db.query(`ALTER DATABASE ${name}_other RENAME TO ${name}`);
    await table.remove();
  });
});
