/** A standby as the source: a slot of its own, made and used there, whatever becomes of the standby. */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { after, afterEach, before, describe, test } from "node:test";
import {
  BackfillError,
  MemoryStateStore,
  PgStream,
  type PgStreamError,
  type PgStreamOptions,
  PublicationError,
  SlotError,
  SlotManager,
} from "../../mod.ts";
import {
  loggingSnapshots,
  promote,
  replayed,
  startStandby,
} from "../support/servers/copied_server.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer, testMajors } from "../support/servers/test_postgres.ts";
import { LogLines, started, uniqueName, until, within } from "../support/streams.ts";
import { TcpProxy } from "../support/tcp_proxy.ts";

const FEEDBACK = { slotName: "standby", settings: { hot_standby_feedback: "on" } };

/** What was started in a test. */
const stops: (() => Promise<unknown>)[] = [];

async function use<T extends { stop(): Promise<unknown> }>(starting: Promise<T>): Promise<T> {
  const server = await starting;
  stops.unshift(() => server.stop());
  return server;
}

async function rejection<E extends PgStreamError>(
  work: Promise<unknown>,
  type: new (...parameters: never[]) => E,
): Promise<E> {
  const error = await within("it to be refused", work.then(() => null, (error) => error), 30_000);
  assertInstanceOf(error, type, `${error}`);
  return error;
}

async function slotsOf(server: PostgresServer): Promise<string[]> {
  const rows = await server.query<{ name: string }>(
    "SELECT slot_name AS name FROM pg_replication_slots WHERE slot_type = 'logical'",
  );
  return rows.map(({ name }) => name);
}

/** A table on the primary with a publication, which the standby has; its slot is not made yet. */
async function published(primary: PostgresServer, standby: PostgresServer) {
  const [slotName, table] = [uniqueName(), uniqueName("documents")];
  await primary.query(`CREATE TABLE ${table} (id int PRIMARY KEY, v text)`);
  await primary.query(`CREATE PUBLICATION ${slotName} FOR TABLE ${table}`);
  await replayed(primary, standby);
  return { slotName, table };
}

/** A stream of such a table, with its slot on the standby. */
async function newStream(
  primary: PostgresServer,
  standby: PostgresServer,
  options: PgStreamOptions = {},
): Promise<{ stream: PgStream; slotName: string; table: string; keys: number[] }> {
  const { slotName, table } = await published(primary, standby);
  const keys: number[] = [];
  const stream = new PgStream({
    dsn: standby.dsn,
    slotName,
    logger: false,
    reconnect: { minDelayMs: 10, maxDelayMs: 200 },
    ...options,
  }).watch(table).onChange((event) => void keys.push(Number(event.key)));
  await loggingSnapshots(primary, () => stream.setup());
  return { stream, slotName, table, keys };
}

async function insert(server: PostgresServer, table: string, from: number, to: number) {
  for (let id = from; id <= to; id++) await server.query(`INSERT INTO ${table} VALUES (${id})`);
}

async function endWalsender(server: PostgresServer, slotName: string): Promise<void> {
  await server.query(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
    WHERE slot_name = '${slotName}'`);
}

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

for (const major of testMajors(18, 17, 16)) {
  describe(`a standby of PostgreSQL ${major}`, { skip: needsOwnServer }, () => {
    let primary: PostgresServer;
    let standby: PostgresServer;
    before(async () => {
      primary = await startPostgres({ major });
      standby = await startStandby(primary, FEEDBACK);
    });
    after(async () => {
      await standby?.stop();
      await primary?.stop();
    });

    test("setup() says what to run on the primary, and makes the slot when it was run", async () => {
      const [slotName, table] = [uniqueName(), uniqueName("Odd, table")];
      const quoted = `"${table}"`;
      await primary.query(`CREATE TABLE ${quoted} (id int PRIMARY KEY)`);
      await replayed(primary, standby);
      const stream = new PgStream({ dsn: standby.dsn, slotName, logger: false }).watch(table);
      const runHint = async (error: PgStreamError) => {
        const sql = /^Run on the primary: (.*); then setup\(\) here again$/.exec(error.hint!)?.[1];
        assert(sql !== undefined, error.hint);
        await primary.query(sql);
        await replayed(primary, standby);
      };
      const missing = await rejection(stream.setup(), PublicationError);
      assertEquals([missing.kind, missing.publicationName], ["publication-missing", slotName]);
      await runHint(missing);
      const other = uniqueName("other");
      await primary.query(`CREATE TABLE ${other} (id int)`);
      await replayed(primary, standby);
      stream.watch(other);
      const identity = await rejection(stream.setup(), Error as never);
      assertEquals(identity.kind, "replica-identity");
      assertMatch(identity.hint!, /^On the primary: .*ALTER TABLE/);
      await primary.query(`ALTER TABLE ${other} ADD PRIMARY KEY (id)`);
      await replayed(primary, standby);
      const unpublished = await rejection(stream.setup(), PublicationError);
      assertEquals(unpublished.kind, "table-not-published");
      await runHint(unpublished);
      assertEquals(await slotsOf(standby), []);
      const report = await loggingSnapshots(primary, () => stream.setup());
      assertEquals([report.slot, report.publication], ["created", "found"]);
      assertEquals((await stream.setup()).slot, "found");

      const log = new LogLines();
      await new SlotManager({ dsn: standby.dsn, slotName, logger: log }).teardown();
      assertEquals(await slotsOf(standby), []);
      assertStringIncludes(
        log.lines.join("\n"),
        `Run on the primary: DROP PUBLICATION "${slotName}"`,
      );
    });

    test("a slot waits for a word of an idle primary: it is logged, can be ended, and has a limit (14)", async () => {
      const { slotName, table } = await published(primary, standby);
      // Whatever the test before has written is logged first.
      await primary.query("CHECKPOINT");
      await replayed(primary, standby);
      const logger = new LogLines();
      const stream = new PgStream({ dsn: standby.dsn, slotName, logger }).watch(table);
      const abort = new AbortController();
      const ended = stream.setup({ signal: abort.signal }).then(() => null, (error) => error);
      await until(
        "the warning",
        () => logger.lines.some((line) => line.includes("SELECT pg_log_standby_snapshot();")),
      );
      abort.abort("enough");
      assertEquals(await within("setup() to end", ended), "enough");
      await until("the slot to be gone", async () => (await slotsOf(standby)).length === 0);
      const { dsn } = standby;
      const manager = new SlotManager({
        dsn,
        slotName,
        tables: [table],
        createTimeoutMs: 300,
        logger: false,
      });
      const late = await rejection(manager.setup(), SlotError);
      assertEquals([late.kind, late.retryable], ["slot-creation-blocked", true]);
      assertStringIncludes(late.hint!, "pg_log_standby_snapshot()");
      assertEquals(await slotsOf(standby), []);
    });

    test("failover: true is refused", async () => {
      const { slotName, table } = await published(primary, standby);
      const stream = new PgStream({ dsn: standby.dsn, slotName, failover: true, logger: false });
      const error = await rejection(stream.watch(table).setup(), SlotError);
      assertEquals(error.kind, "failover-unsupported");
    });

    test("its changes are streamed, over lost connections and a crash of the standby, once", async () => {
      const { stream, slotName, table, keys } = await newStream(primary, standby);
      const running = await started(stream);
      await insert(primary, table, 1, 5);
      await until("the rows", () => keys.length === 5);
      await endWalsender(standby, slotName);
      await insert(primary, table, 6, 10);
      await until("the rows after a lost connection", () => keys.length === 10);
      await standby.restart("immediate");
      await insert(primary, table, 11, 15);
      await until("the rows after a crash", () => keys.length === 15, 30_000);
      await running.stop();
      assertEquals(keys, numbers(1, 15));
      assertEquals(await slotsOf(primary), []);

      const other = new PgStream({ dsn: standby.dsn, slotName, logger: false }).watch(table)
        .onChange((event) => void keys.push(Number(event.key)));
      await insert(primary, table, 16, 20);
      await replayed(primary, standby);
      const report = await within("catchUp()", other.catchUp());
      assertEquals([report.events, report.busy], [5, false]);
      assertEquals(keys, numbers(1, 20));
      assertEquals((await within("catchUp()", other.catchUp())).events, 0);
      await other.teardown();
    });

    test("a temporary slot on it", async () => {
      const { slotName, table } = await published(primary, standby);
      const keys: string[] = [];
      const stream = new PgStream({ dsn: standby.dsn, slotName, temporary: true, logger: false })
        .watch(table).onChange((event) => void keys.push(`${event.key}`));
      assertEquals((await stream.setup()).slot, "found");
      const running = await loggingSnapshots(primary, () => started(stream));
      await insert(primary, table, 1, 3);
      await until("the rows", () => keys.length === 3);
      await running.stop();
      // It goes with its session, which takes the server a moment.
      await until("the slot to be gone", async () => (await slotsOf(standby)).length === 0);
    });

    test("a backfill's progress needs a store elsewhere", async () => {
      const { slotName, table } = await published(primary, standby);
      const options = {
        dsn: standby.dsn,
        slotName,
        backfill: "initial" as const,
        logger: false as const,
      };
      const stream = new PgStream(options).watch(table).onChange(() => {});
      const error = await rejection(stream.setup(), BackfillError);
      assertEquals(error.kind, "state-store");
      assertStringIncludes(error.hint!, "stateStore: new FileStateStore(");
      assertEquals(await slotsOf(standby), []);
      // Somebody set the primary up, and then the stream is sent to the standby.
      const keeps = new PgStream({ ...options, stateStore: new MemoryStateStore() }).watch(table);
      await loggingSnapshots(primary, () => keeps.setup());
      await primary.query(`CREATE SCHEMA IF NOT EXISTS pgstream; CREATE TABLE IF NOT EXISTS
        pgstream.state (key text PRIMARY KEY, value text NOT NULL, updated_at timestamptz)`);
      await replayed(primary, standby);
      const late = await rejection(stream.start(), BackfillError);
      assertEquals([late.kind, late.hint], [error.kind, error.hint]);
      await keeps.teardown();
    });
  });

  describe(`what becomes of a standby of PostgreSQL ${major}:`, { skip: needsOwnServer }, () => {
    afterEach(async () => {
      for (const stop of stops.splice(0)) await stop();
    });

    test("it is promoted: its slot goes on, and nothing comes twice", async () => {
      const primary = await use(startPostgres({ major }));
      const standby = await use(startStandby(primary, FEEDBACK));
      const { stream, slotName, table, keys } = await newStream(primary, standby);
      const running = await started(stream);
      await insert(primary, table, 1, 5);
      await until("the rows", () => keys.length === 5);
      await primary.kill9();
      await promote(standby);
      await insert(standby, table, 6, 10);
      await until("the new primary's rows", () => keys.length === 10, 30_000);
      await endWalsender(standby, slotName);
      await insert(standby, table, 11, 15);
      await until("the rows on its timeline", () => keys.length === 15, 30_000);
      await standby.restart("fast");
      await insert(standby, table, 16, 20);
      await until("the rows after a restart", () => keys.length === 20, 30_000);
      await running.stop();
      assertEquals(keys, numbers(1, 20));
    });

    test("its slot is invalidated by what the primary removes: slot-lost, and the way out (11)", async () => {
      const primary = await use(startPostgres({ major }));
      const standby = await use(startStandby(primary));
      const { stream, slotName, table, keys } = await newStream(primary, standby);
      const { ended } = await started(stream);
      await insert(primary, table, 1, 3);
      await until("the rows", () => keys.length === 3);
      await until("the slot to be invalidated", async () => {
        // Not in one transaction: nobody could see rows that it has both made and removed.
        await primary.query("CREATE TABLE gone (id int)");
        await primary.query("DROP TABLE gone");
        await primary.query("VACUUM pg_class");
        await primary.query("VACUUM pg_attribute");
        const [slot] = await standby.query<{ conflicting: boolean }>(
          `SELECT conflicting FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
        );
        return slot!.conflicting;
      }, 30_000);
      const error = await within("start() to reject", ended, 30_000);
      assertInstanceOf(error, SlotError, `${error}`);
      assertEquals([error.kind, error.slotName], ["slot-lost", slotName]);
      assertStringIncludes(error.hint!, "hot_standby_feedback = on");
      assertEquals((await rejection(stream.start(), SlotError)).kind, "slot-lost");

      const { dsn } = standby;
      const gaps: string[] = [];
      const next = new PgStream({ dsn, slotName, logger: false, onSlotLost: "recreate" })
        .watch(table).onChange((event) => void keys.push(Number(event.key)))
        .onGap(({ reason }) => void gaps.push(reason));
      const running = await loggingSnapshots(primary, () => started(next));
      await insert(primary, table, 4, 6);
      await until("the rows behind the gap", () => keys.at(-1) === 6);
      assertEquals([gaps, keys], [["slot-lost"], numbers(1, 6)]);
      await running.stop();
    });
  });
}

describe("a standby", { skip: needsOwnServer }, () => {
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
  });

  test("of PostgreSQL 14 does not decode", async () => {
    const primary = await use(startPostgres({ major: 14 }));
    const standby = await use(startStandby(primary));
    const { slotName, table } = await published(primary, standby);
    const stream = new PgStream({ dsn: standby.dsn, slotName, logger: false }).watch(table)
      .onChange(() => {});
    for (const work of [() => stream.setup(), () => stream.start(), () => stream.catchUp()]) {
      const error = await rejection(work(), Error as never);
      assertEquals(error.kind, "standby");
      assertStringIncludes(error.hint!, "PostgreSQL 16");
    }
  });

  test("is promoted, and restarted later: it is still known (47)", async () => {
    const primary = await use(startPostgres());
    const standby = await use(startStandby(primary, FEEDBACK));
    const stateStore = new MemoryStateStore();
    const { stream, slotName, table, keys } = await newStream(primary, standby, { stateStore });
    const running = await started(stream);
    await insert(primary, table, 1, 5);
    await until("the rows", () => keys.length === 5);
    await primary.kill9();
    await promote(standby);
    await insert(standby, table, 6, 10);
    await until("the new primary's rows", () => keys.length === 10, 30_000);
    await until("the new timeline to be noticed", async () => {
      const stored = JSON.parse((await stateStore.get(`slot/${slotName}`))!);
      return stored.server.timeline === 2;
    }, 30_000);
    await standby.restart("fast");
    await insert(standby, table, 11, 15);
    await until("the rows after a restart", () => keys.length === 15, 30_000);
    await running.stop();
    assertEquals(keys, numbers(1, 15));
  });

  test("that has less, with a slot of the same name, takes its place: timeline-changed (47)", async () => {
    const primary = await use(startPostgres());
    const standby = await use(startStandby(primary, FEEDBACK));
    const behind = await use(startStandby(primary));
    const proxy = await use(TcpProxy.start(standby.dsn));
    const dsn = proxy.through(standby.dsn);
    const { stream, slotName, table, keys } = await newStream(primary, standby, { dsn });
    await replayed(primary, behind);
    const same = new PgStream({ dsn: behind.dsn, slotName, logger: false }).watch(table);
    await loggingSnapshots(primary, () => same.setup());
    const { ended } = await started(stream);
    await insert(primary, table, 1, 3);
    await until("the rows", () => keys.length === 3);
    await behind.query("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'");
    await behind.query("SELECT pg_reload_conf()");
    await until("the other standby to be alone", async () => {
      return (await behind.query("SELECT FROM pg_stat_wal_receiver")).length === 0;
    });
    await insert(primary, table, 4, 6);
    await until("the rows", () => keys.length === 6);
    await promote(behind);
    proxy.targetPort = behind.port;
    proxy.cut();
    const error = await within("start() to reject", ended, 30_000);
    assertInstanceOf(error, SlotError, `${error}`);
    assertEquals([error.kind, error.slotName], ["timeline-changed", slotName]);
    assertEquals(keys, numbers(1, 6));
  });
});
