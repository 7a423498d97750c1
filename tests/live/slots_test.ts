/** Slots: those that survive a failover, those that leave nothing behind, and those that others hold. */

import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertStringIncludes,
} from "@std/assert";
import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { inspect } from "node:util";
import { SlotError, SlotManager, type SlotManagerOptions } from "../../mod.ts";
import { connectForReplication } from "../../src/replication/connect.ts";
import {
  ReplicationStream,
  type ReplicationStreamOptions,
} from "../../src/replication/replication_stream.ts";
import { currentDatabase } from "../../src/replication/server.ts";
import { recreateSlot, waitForSlot } from "../../src/replication/slot.ts";
import { readSlot } from "../../src/replication/slot_state.ts";
import { readStart, type StreamStart } from "../../src/replication/start.ts";
import type { Connection } from "../../src/wire/connection.ts";
import { Connector } from "../../src/wire/connector.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { copyTemplate, giveToServer } from "../support/servers/postgres_files.ts";
import {
  needsOwnServer,
  testMajors,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import {
  type Database,
  LogLines,
  openClient,
  sleep,
  uniqueName,
  until,
  walsenderPid,
  within,
} from "../support/streams.ts";

const never = new AbortController().signal;
const TABLES = [{ schema: "public", table: "documents", columns: null, where: null }];

function managerOf(db: Database, slotName: string, more: SlotManagerOptions = {}): SlotManager {
  return new SlotManager({ dsn: db.dsn, slotName, tables: ["documents"], logger: false, ...more });
}

function connectorOf(db: Database): Connector {
  return new Connector({ dsn: db.dsn, logger: false });
}

function databaseOf(server: PostgresServer): Database {
  return {
    dsn: server.dsn,
    query: (sql, parameters = []) => server.query(sql, { parameters }),
  };
}

async function slotsNamed(db: Database, slotName: string): Promise<Record<string, unknown>[]> {
  return await db.query("SELECT * FROM pg_replication_slots WHERE slot_name = $1", [slotName]);
}

/** What a promise was rejected with: a `SlotError`. */
async function slotError(what: string, promise: Promise<unknown>): Promise<SlotError> {
  const error = await within(what, promise.then(() => null, (error) => error));
  assertInstanceOf(error, SlotError, inspect(error));
  return error;
}

/** A stream that looks round on its own connection first, as a consumer of the whole library does. */
async function openStream(
  db: Database,
  slotName: string,
  options: ReplicationStreamOptions & { temporary?: boolean; createTimeoutMs?: number } = {},
): Promise<{ stream: ReplicationStream; start: StreamStart }> {
  const { temporary, createTimeoutMs, ...streamOptions } = options;
  let start: StreamStart | undefined;
  const stream = await ReplicationStream.open({
    connector: connectorOf(db),
    slotName,
    ...streamOptions,
    prepare: async (connection) => {
      const { publicationName = slotName } = options;
      const names = { slotName, publicationName, tables: TABLES };
      start = await readStart(connection, { ...names, temporary, createTimeoutMs }, never);
      return start.confirmedLsn;
    },
  });
  return { stream, start: start! };
}

/** Reads until a message of the output plugin of this type came. */
async function readUntil(stream: ReplicationStream, type: string): Promise<void> {
  await within(
    `a message of type ${type}`,
    (async () => {
      for (;;) {
        const messages = await stream.read();
        assert(messages !== null, "the stream has ended");
        for (const message of messages) {
          if (message.type === "xLogData" && message.data[0] === type.charCodeAt(0)) return;
        }
      }
    })(),
  );
}

/** Reads until the connection is lost. */
function lossOf(stream: ReplicationStream): Promise<{ kind?: string; retryable?: boolean } | null> {
  const reading = (async () => {
    while (await stream.read() !== null);
  })();
  return within("the connection to be lost", reading.then(() => null, (error) => error));
}

async function withReplication<T>(
  db: Database,
  use: (connection: Connection, database: string) => Promise<T>,
): Promise<T> {
  const connection = await connectForReplication(connectorOf(db));
  try {
    return await use(connection, await currentDatabase(connection));
  } finally {
    await connection.close();
  }
}

async function makeTables(db: Database): Promise<void> {
  await db.query(`CREATE TABLE documents (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
    CREATE TABLE others (id int)`);
}

for (const major of testMajors(18, 17, 16)) {
  describe(`failover slots on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await makeTables(db);
    });
    after(() => db?.stop());

    if (major < 17) {
      test("(12) are refused by a server that has none, before anything is changed", async (t) => {
        if (db.major >= 17) return t.skip("this server has them");
        const slotName = uniqueName();
        const error = await slotError(
          "setup()",
          managerOf(db, slotName, { failover: true }).setup(),
        );
        assertEquals([error.kind, error.slotName, error.retryable], [
          "failover-unsupported",
          slotName,
          false,
        ]);
        assertStringIncludes(error.message, String(db.major));
        assertEquals(await slotsNamed(db, slotName), []);
        assertEquals(
          await db.query("SELECT FROM pg_publication WHERE pubname = $1", [slotName]),
          [],
        );

        await managerOf(db, slotName).setup();
        const { stream, start } = await openStream(db, slotName);
        assertEquals(start.failover, false);
        await stream.close();
        const again = withReplication(
          db,
          (connection, database) =>
            recreateSlot(connection, slotName, database, { timeoutMs: 10_000, failover: true }),
        );
        assertEquals((await slotError("recreateSlot()", again)).kind, "failover-unsupported");
        assertEquals((await slotsNamed(db, slotName)).length, 1);
        await managerOf(db, slotName).teardown();
      });
    } else {
      test("(12) are made, found, and streamed from", async (t) => {
        if (db.major < 17) return t.skip("this server has none");
        const slotName = uniqueName();
        const manager = managerOf(db, slotName, { failover: true });
        assertEquals((await manager.setup()).slot, "created");
        assertEquals((await slotsNamed(db, slotName))[0]!.failover, true);
        assertEquals((await manager.setup()).slot, "found");
        // Who does not ask for it does not take it away.
        await managerOf(db, slotName).setup();
        assertEquals((await slotsNamed(db, slotName))[0]!.failover, true);
        const { stream, start } = await openStream(db, slotName);
        assertEquals(start.failover, true);
        await db.query("INSERT INTO documents DEFAULT VALUES");
        await readUntil(stream, "C");
        await stream.close();
        await manager.teardown();
        assertEquals(await slotsNamed(db, slotName), []);
      });

      test("(12) are made of slots that were none, once nobody streams from them", async (t) => {
        if (db.major < 17) return t.skip("this server has none");
        const slotName = uniqueName();
        await managerOf(db, slotName).setup();
        const [before] = await slotsNamed(db, slotName);
        assertEquals(before!.failover, false);
        const { stream } = await openStream(db, slotName);
        const manager = managerOf(db, slotName, { failover: true });
        const error = await slotError("setup()", manager.setup());
        assertEquals([error.kind, error.retryable], ["slot-in-use", true]);
        assertEquals(error.activePid, stream.processId);
        await stream.close();
        await until("the slot to be free", async () => await walsenderPid(db, slotName) === null);
        assertEquals((await manager.setup()).slot, "found");
        const [slot] = await slotsNamed(db, slotName);
        assertEquals(slot!.failover, true);
        assertEquals(slot!.restart_lsn, before!.restart_lsn);
        await manager.teardown();
      });
    }
  });
}

for (const major of [18, 17]) {
  describe(`a failover of PostgreSQL ${major}`, { skip: needsOwnServer }, () => {
    let primary: PostgresServer;
    let standby: PostgresServer;
    before(async () => {
      primary = await startPostgres({ major });
      standby = await startPostgres({ major });
    });
    after(async () => {
      await standby?.stop("immediate");
      await primary?.stop("immediate");
    });

    /** The second server becomes a standby of the first, which is down for it. */
    async function makeStandby(): Promise<void> {
      await primary.query("SELECT pg_create_physical_replication_slot('standby')");
      await primary.shutdown();
      await standby.shutdown();
      await rm(standby.dataDir, { recursive: true });
      await copyTemplate(primary.dataDir, standby.dataDir);
      // As pg_basebackup does: slots are no part of a backup.
      for (const slot of await readdir(join(standby.dataDir, "pg_replslot"))) {
        await rm(join(standby.dataDir, "pg_replslot", slot), { recursive: true });
      }
      await writeFile(join(standby.dataDir, "standby.signal"), "");
      await giveToServer(join(standby.dataDir, "standby.signal"));
      const { host, port, user, password, database } = primary;
      await standby.configure({
        port: String(standby.port),
        unix_socket_directories: standby.socketDir,
        primary_conninfo: Object.entries({ host, port, user, password, dbname: database })
          .map(([name, value]) => `${name}=${value}`).join(" "),
        primary_slot_name: "standby",
        hot_standby_feedback: "on",
        sync_replication_slots: "on",
      });
      await primary.start();
      await standby.start();
    }

    test("(12) a failover slot waits on the standby, and goes on when that is promoted", async (t) => {
      const [before, after] = [databaseOf(primary), databaseOf(standby)];
      const slotName = uniqueName();
      await makeTables(before);
      await managerOf(before, slotName, { failover: true }).setup();
      await makeStandby();
      const { stream } = await openStream(before, slotName);
      t.after(() => stream.close({ timeoutMs: 0 }));
      await until("the standby's copy of the slot to be whole", async () => {
        // The copy follows a slot that moves, to where the standby can decode from.
        await before.query(
          "INSERT INTO documents DEFAULT VALUES; SELECT pg_log_standby_snapshot()",
        );
        await readUntil(stream, "C");
        stream.acknowledge(stream.receivedLsn);
        await sleep(200);
        const [slot] = await slotsNamed(after, slotName);
        return slot?.synced === true && slot.temporary === false;
      }, 60_000);
      const early = await slotError("a stream before its time", openStream(after, slotName));
      assertEquals([early.kind, early.retryable], ["slot-standby", true]);
      const { systemId, timeline } = stream.identity;

      await primary.shutdown("immediate");
      await standby.query("SELECT pg_promote()");
      const next = await openStream(after, slotName);
      t.after(() => next.stream.close({ timeoutMs: 0 }));
      assertEquals(next.start.failover, true);
      assertEquals(next.stream.identity.systemId, systemId);
      assertEquals(next.stream.identity.timeline, timeline + 1);
      await standby.query("INSERT INTO documents DEFAULT VALUES");
      await readUntil(next.stream, "C");
      await next.stream.close();
      await managerOf(after, slotName).teardown();
    });
  });
}

for (const major of testMajors(18, 14, 10)) {
  describe(`temporary slots on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await makeTables(db);
    });
    after(() => db?.stop());

    test("stream what is committed from the start on, and leave nothing behind", async () => {
      const slotName = uniqueName();
      const manager = managerOf(db, slotName, { temporary: true });
      assertEquals(await manager.setup(), {
        slot: "found",
        temporary: true,
        publication: "created",
        added: ["public.documents"],
        removed: [],
        changed: [],
        warnings: [],
      });
      assertEquals(await slotsNamed(db, slotName), []);
      const { stream, start } = await openStream(db, slotName, { temporary: true });
      assertEquals(start.tables.map(({ table }) => table), ["documents"]);
      assertEquals(start.failover, false);
      assertEquals(stream.acknowledgedLsn, start.confirmedLsn);
      const [slot] = await slotsNamed(db, slotName);
      assertEquals([slot!.temporary, slot!.active_pid], [true, stream.processId]);
      await db.query("INSERT INTO documents DEFAULT VALUES");
      await readUntil(stream, "C");
      stream.acknowledge(stream.receivedLsn);
      // A second setup() beside it changes nothing; teardown() takes the publication alone.
      assertEquals((await manager.setup()).publication, "found");
      await manager.teardown();
      assertEquals((await slotsNamed(db, slotName)).length, 1);
      await stream.close();
      await until("the slot to be gone", async () => (await slotsNamed(db, slotName)).length === 0);
    });

    test("are not made where the publication, or a table, is missing", async () => {
      const slotName = uniqueName();
      const open = () => openStream(db, slotName, { temporary: true });
      const missing = await within("open()", open().then(() => null, (error) => error));
      assertEquals(missing.kind, "publication-missing");
      await db.query(`CREATE PUBLICATION ${slotName} FOR TABLE others`);
      const lacking = await within("open()", open().then(() => null, (error) => error));
      assertEquals(lacking.kind, "table-not-published");
      assertEquals(await slotsNamed(db, slotName), []);
      await db.query(`DROP PUBLICATION ${slotName}`);
    });

    test("do not take the name of another slot, nor another one theirs", async () => {
      const slotName = uniqueName();
      const temporary = managerOf(db, slotName, { temporary: true });
      await temporary.setup();
      const { stream } = await openStream(db, slotName, { temporary: true });
      const taken = {
        "a second one": () => openStream(db, slotName, { temporary: true }),
        "a lasting one": () => managerOf(db, slotName).setup(),
        "a stream from a lasting one": () => openStream(db, slotName),
      };
      for (const [what, attempt] of Object.entries(taken)) {
        const error = await slotError(what, attempt());
        assertEquals([error.kind, error.activePid], ["slot-in-use", stream.processId], what);
        assertEquals(error.retryable, true);
      }
      await stream.close();
      await until("the slot to be gone", async () => (await slotsNamed(db, slotName)).length === 0);

      assertEquals((await managerOf(db, slotName).setup()).slot, "created");
      const start = () => openStream(db, slotName, { temporary: true });
      for (const attempt of [start, () => temporary.setup()]) {
        const error = await slotError("the temporary one", attempt());
        assertEquals([error.kind, error.retryable], ["slot-exists", false]);
        assertStringIncludes(error.hint!, slotName);
      }
      await temporary.teardown();
      assertEquals((await slotsNamed(db, slotName)).length, 1);
      await managerOf(db, slotName).teardown();
    });

    test("(14) that an open writer holds up: its PID is told in time, and no slot is left", async () => {
      const slotName = uniqueName();
      await managerOf(db, slotName, { temporary: true }).setup();
      const writer = openClient(db.dsn);
      try {
        await writer.unsafe("BEGIN; INSERT INTO others VALUES (1)");
        const [{ pid }] = await writer.unsafe("SELECT pg_backend_pid() AS pid") as [
          { pid: number },
        ];
        const startedAt = performance.now();
        const error = await slotError(
          "open()",
          openStream(db, slotName, { temporary: true, createTimeoutMs: 300 }),
        );
        assertLess(performance.now() - startedAt, 10_000);
        assertEquals([error.kind, error.retryable], ["slot-creation-blocked", true]);
        assertStringIncludes(error.message, `PID ${pid}`);
        await until(
          "no slot to be there",
          async () => (await slotsNamed(db, slotName)).length === 0,
        );
        await writer.unsafe("ROLLBACK");
      } finally {
        await writer.end({ timeout: 1 });
      }
      const { stream } = await openStream(db, slotName, { temporary: true });
      await stream.close();
      await managerOf(db, slotName, { temporary: true }).teardown();
    });
  });
}

for (const major of testMajors(18, 10)) {
  describe(`a slot that is held, on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await makeTables(db);
    });
    after(() => db?.stop());

    /** That it is alive still. */
    async function streams(stream: ReplicationStream): Promise<void> {
      await db.query("INSERT INTO documents DEFAULT VALUES");
      await readUntil(stream, "C");
    }

    test("(10) by another: is waited for, its PID is told in time, and it is left alone", async () => {
      const slotName = uniqueName();
      await managerOf(db, slotName).setup();
      const { stream } = await openStream(db, slotName);
      const other = uniqueName();
      await managerOf(db, other, { publicationName: slotName }).setup();
      const { stream: bystander } = await openStream(db, other, { publicationName: slotName });
      const { processId, startedAt } = stream.backend;
      const own = [
        // The PID of the holder, which was somebody else's before.
        { processId, startedAt: "2001-01-01 00:00:00.123456+00" },
        { processId, startedAt: "" },
        // Its start, and another PID.
        { processId: processId + 1, startedAt },
        // One's own, though not the holder.
        bystander.backend,
      ];
      const startedWaiting = performance.now();
      const wait = waitForSlot(connectorOf(db), slotName, { timeoutMs: 700, signal: never, own });
      const error = await slotError("waitForSlot()", wait);
      assertGreater(performance.now() - startedWaiting, 600);
      assertEquals([error.kind, error.activePid, error.retryable], [
        "slot-in-use",
        processId,
        true,
      ]);
      assertStringIncludes(error.message, `PID ${processId}`);
      await streams(stream);
      await streams(bystander);

      const waiting = waitForSlot(connectorOf(db), slotName, {
        timeoutMs: Infinity,
        signal: never,
        own,
      });
      await stream.close();
      assertEquals(await within("waitForSlot()", waiting), "free");
      await bystander.close();
      await managerOf(db, other).teardown({ dropPublication: false });
      await managerOf(db, slotName).teardown();
    });

    test("(10) by a session of one's own: that one is ended, and it is said", async () => {
      const slotName = uniqueName();
      await managerOf(db, slotName).setup();
      const { stream } = await openStream(db, slotName);
      const logger = new LogLines();
      const connector = new Connector({ dsn: db.dsn, logger });
      const { backend } = stream;
      const own = [{ processId: 1, startedAt: "2001-01-01 00:00:00+00" }, backend];
      const startedAt = performance.now();
      const wait = waitForSlot(connector, slotName, { timeoutMs: 10_000, signal: never, own });
      assertEquals(await within("waitForSlot()", wait), "free");
      assertLess(performance.now() - startedAt, 5000);
      assertEquals(logger.lines.filter((line) => line.includes(slotName)).length, 1);
      assertStringIncludes(logger.lines.join(), String(backend.processId));
      const lost = await lossOf(stream);
      assertEquals([lost?.kind, lost?.retryable], ["connection-lost", true]);
      const next = await openStream(db, slotName);
      assert(next.stream.backend.startedAt !== backend.startedAt);
      await next.stream.close();
      await stream.close();
      await managerOf(db, slotName).teardown();
    });

    test("(10) that is not there is not waited for; nor is one for longer than the signal", async () => {
      const slotName = uniqueName();
      const options = { timeoutMs: Infinity, signal: never, own: [] };
      assertEquals(await waitForSlot(connectorOf(db), slotName, options), "missing");
      await managerOf(db, slotName).setup();
      assertEquals(await waitForSlot(connectorOf(db), slotName, options), "free");
      const { stream } = await openStream(db, slotName);
      const abort = new AbortController();
      const reason = new Error("the caller's reason");
      const wait = waitForSlot(connectorOf(db), slotName, { ...options, signal: abort.signal });
      setTimeout(() => abort.abort(reason), 150);
      assertEquals(await within("waitForSlot()", wait.then(() => null, (error) => error)), reason);
      await stream.close();
      await managerOf(db, slotName).teardown();
    });

    test("(10) is not made anew; a free one is, from here on, and none that is not ours", async () => {
      const slotName = uniqueName();
      await managerOf(db, slotName).setup();
      const { stream } = await openStream(db, slotName);
      const recreate = (timeoutMs = 10_000) =>
        withReplication(
          db,
          (connection, database) =>
            recreateSlot(connection, slotName, database, { timeoutMs, signal: never }),
        );
      const held = await slotError("recreateSlot()", recreate());
      assertEquals([held.kind, held.activePid], ["slot-in-use", stream.processId]);
      await streams(stream);
      await stream.close();
      await until("the slot to be free", async () => await walsenderPid(db, slotName) === null);

      const [before] = await db.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
      await db.query("INSERT INTO documents DEFAULT VALUES");
      const position = await recreate();
      const slot = await withReplication(db, (connection) => readSlot(connection, slotName));
      assertEquals(slot!.confirmedFlushLsn, position);
      const [{ later }] = await db.query<{ later: boolean }>(
        `SELECT confirmed_flush_lsn > '${before!.lsn}' AS later FROM pg_replication_slots
        WHERE slot_name = '${slotName}'`,
      ) as [{ later: boolean }];
      assertEquals(later, true);
      // Nor does it need one to be there.
      await db.query("SELECT pg_drop_replication_slot($1)", [slotName]);
      assertGreater(await recreate(), position - 1n);

      await db.query("SELECT pg_drop_replication_slot($1)", [slotName]);
      await db.query("SELECT pg_create_logical_replication_slot($1, 'test_decoding')", [slotName])
        .catch(() => db.query("SELECT pg_create_physical_replication_slot($1)", [slotName]));
      assertEquals((await slotError("recreateSlot()", recreate())).kind, "slot-plugin");
      assertEquals((await slotsNamed(db, slotName)).length, 1);
      await db.query("SELECT pg_drop_replication_slot($1)", [slotName]);
      await managerOf(db, slotName).teardown();
    });
  });
}

for (const major of [18, 14]) {
  describe(`slots that PostgreSQL ${major} has invalidated`, { skip: needsOwnServer }, () => {
    let server: PostgresServer;
    let db: Database;
    before(async () => {
      server = await startPostgres({
        major,
        settings: {
          max_slot_wal_keep_size: "1MB",
          ...(major >= 18 ? { idle_replication_slot_timeout: "2s" } : {}),
        },
      });
      db = databaseOf(server);
      await makeTables(db);
    });
    after(() => server?.stop("immediate"));

    /** Decided by columns: what the server says of it differs from version to version. */
    async function checkLost(slotName: string, reason: string): Promise<void> {
      const attempts = {
        "a stream that looks first": () => openStream(db, slotName),
        "a stream that does not": () =>
          ReplicationStream.open({ dsn: db.dsn, slotName, logger: false }),
        "setup()": () => managerOf(db, slotName).setup(),
      };
      for (const [what, attempt] of Object.entries(attempts)) {
        const error = await slotError(what, attempt());
        assertEquals([error.kind, error.slotName, error.retryable], ["slot-lost", slotName, false]);
        assertStringIncludes(error.message, reason, what);
        assertStringIncludes(error.hint!, "pg_drop_replication_slot");
      }
      const position = await withReplication(
        db,
        (connection, database) =>
          recreateSlot(connection, slotName, database, { timeoutMs: 10_000 }),
      );
      const { stream, start } = await openStream(db, slotName);
      assertEquals(start.confirmedLsn, position);
      await stream.close();
      await managerOf(db, slotName).teardown();
    }

    /** More WAL than a slot may keep. */
    async function moveOn(): Promise<void> {
      for (let segments = 0; segments < 4; segments++) {
        await server.query("INSERT INTO others VALUES (1); SELECT pg_switch_wal()");
      }
      await server.query("CHECKPOINT");
    }

    test("(11) for the WAL that they keep, while nobody streams", async () => {
      const slotName = uniqueName();
      await managerOf(db, slotName).setup();
      await moveOn();
      await checkLost(slotName, "wal_removed");
    });

    test("(11) for the WAL that they keep, under a stream that acknowledges nothing", async () => {
      const slotName = uniqueName();
      await managerOf(db, slotName).setup();
      const { stream } = await openStream(db, slotName);
      const lost = lossOf(stream);
      await moveOn();
      const error = await lost;
      // Only the next look at the slot tells that it is worse than a lost connection.
      assertEquals([error?.kind, error?.retryable], ["connection-lost", true]);
      await stream.close();
      await until("the slot to be invalidated", async () => {
        const [slot] = await slotsNamed(db, slotName);
        return slot!.wal_status === "lost" && slot!.active_pid === null;
      });
      await checkLost(slotName, "wal_removed");
    });

    if (major >= 18) {
      test("(11) for that nobody streamed for long", async (t) => {
        const [setting] = await server.query<{ ms: string }>(
          `SELECT setting::int * CASE unit WHEN 'min' THEN 60000 WHEN 's' THEN 1000 ELSE 1 END AS ms
        FROM pg_settings WHERE name = 'idle_replication_slot_timeout'`,
        );
        if (setting === undefined || Number(setting.ms) !== 2000) {
          return t.skip("this server knows no such time, or none that is short enough");
        }
        const slotName = uniqueName();
        await managerOf(db, slotName).setup();
        await until("the slot to be invalidated", async () => {
          await server.query("CHECKPOINT");
          return (await slotsNamed(db, slotName))[0]!.invalidation_reason;
        }, 20_000);
        await checkLost(slotName, "idle_timeout");
      });
    }
  });
}
