/** How long a lost connection is remade, who may end that, and what is told at once instead. */

import { assert, assertEquals, assertLess, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { PgStream } from "../../mod.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { type Database, LogLines, sleep, started, until, within } from "../support/streams.ts";
import { TestTable } from "../support/test_table.ts";

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

describe("while the server is away", options, () => {
  test("who stands by for the slot stands by on, through one restart after the other", async () => {
    const table = await TestTable.create(db, "standby", {
      reconnect: soon,
      whenSlotInUse: "wait",
    });
    const seen: string[] = [];
    const one = await started(table.stream().onChange(({ key }) => void seen.push(key!)));
    const two = table.stream().onChange(({ key }) => void seen.push(key!));
    const ended = two.start().then(() => null, (error) => error ?? "nothing");
    const streaming = () =>
      [one.stream, two].filter((stream) => stream.status().state === "streaming");
    await sleep(500);
    for (const [round, mode] of (["fast", "immediate"] as const).entries()) {
      await server.restart(mode);
      await table.insert(round + 1);
      await until("the row", () => seen.at(-1) === String(round + 1));
      assertEquals(streaming().length, 1);
    }
    // Whoever had it last: the other one takes over.
    await streaming()[0]!.stop();
    await until("the other one", () => streaming().length === 1);
    await table.insert(3);
    await until("its row", () => seen.at(-1) === "3");
    await streaming()[0]!.stop();
    // What a server that crashed has forgotten of a confirmation, comes again to the other one.
    assertEquals([await one.ended, await ended, [...new Set(seen)]], [null, null, ["1", "2", "3"]]);
    await table.remove();
  });

  test("a password function that fails as well is asked again", async () => {
    const table = await TestTable.create(db, "vault", { reconnect: soon });
    const { password } = new URL(server.dsn);
    let asked = 0;
    const keys: string[] = [];
    const running = await started(
      table.stream({
        password: () => {
          if (++asked > 1 && asked < 5) throw new Error("the vault cannot be reached");
          return decodeURIComponent(password);
        },
      }).onChange(({ key }) => void keys.push(key!)),
    );
    await table.terminate();
    await table.insert(1);
    await until("the row", () => keys.length === 1);
    assert(asked >= 5);
    await running.stop();
    await table.remove();
  });

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
