/** Another server in the old one's place: a promoted standby, a restored copy, or some other one. */

import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLessOrEqual,
} from "@std/assert";
import { afterEach, beforeEach, describe, test } from "node:test";
import { formatLsn, parseLsn, PgStream, type PgStreamOptions, SlotError } from "../../mod.ts";
import { copyServer, startStandby } from "../support/servers/copied_server.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { TcpProxy } from "../support/tcp_proxy.ts";
import { started, uniqueName, until, within } from "../support/streams.ts";

/** Whatever was started in a test. */
const stops: (() => Promise<unknown>)[] = [];
let primary: PostgresServer;
let proxy: TcpProxy;

async function use<T extends { stop(): Promise<unknown> }>(starting: Promise<T>): Promise<T> {
  const server = await starting;
  stops.unshift(() => server.stop());
  return server;
}

async function slotsOf(server: PostgresServer): Promise<string[]> {
  const rows = await server.query<{ name: string }>(
    "SELECT slot_name AS name FROM pg_replication_slots WHERE slot_type = 'logical'",
  );
  return rows.map(({ name }) => name);
}

async function lsnOf(server: PostgresServer, slotName: string): Promise<bigint> {
  const [row] = await server.query<{ lsn: string }>(
    `SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
  );
  return parseLsn(row!.lsn);
}

/** A stream by way of the proxy, of a table on the primary. */
async function newStream(options: PgStreamOptions = {}): Promise<{
  stream: PgStream;
  slotName: string;
  table: string;
  keys: number[];
}> {
  const [slotName, table] = [uniqueName(), uniqueName("documents")];
  await primary.query(`CREATE TABLE ${table} (id int PRIMARY KEY)`);
  const keys: number[] = [];
  const stream = new PgStream({
    dsn: proxy.through(primary.dsn),
    slotName,
    logger: false,
    reconnect: { minDelayMs: 10, maxDelayMs: 200 },
    ...options,
  }).watch(table).onChange((event) => void keys.push(Number(event.key)));
  await stream.setup();
  return { stream, slotName, table, keys };
}

async function insert(server: PostgresServer, table: string, from: number, to: number) {
  for (let id = from; id <= to; id++) await server.query(`INSERT INTO ${table} VALUES (${id})`);
}

/** Waits until the standby has all that the server has. */
async function replayed(standby: PostgresServer): Promise<void> {
  const [row] = await primary.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
  await until("the standby to follow", async () => {
    const [found] = await standby.query<{ there: boolean }>(
      `SELECT pg_last_wal_replay_lsn() >= '${row!.lsn}' AS there`,
    );
    return found!.there;
  });
}

/** The primary dies, and the standby takes its place. */
async function failOver(standby: PostgresServer): Promise<void> {
  await primary.kill9();
  await standby.query("SELECT pg_promote()");
  await until("the promotion", async () => {
    const [row] = await standby.query<{ standby: boolean }>(
      "SELECT pg_is_in_recovery() AS standby",
    );
    return !row!.standby;
  });
  proxy.targetPort = standby.port;
}

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

describe("another server", { skip: needsOwnServer }, () => {
  beforeEach(async () => {
    primary = await use(startPostgres());
    proxy = await use(TcpProxy.start(primary.dsn));
  });
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
  });

  test("a standby without the slot: an error, and no slot is made (12)", async () => {
    const standby = await use(startStandby(primary));
    const { stream, slotName, table, keys } = await newStream();
    const { ended } = await started(stream);
    await insert(primary, table, 1, 3);
    await until("the rows", () => keys.length === 3);
    await replayed(standby);
    await failOver(standby);
    await insert(standby, table, 4, 5);
    const error = await within("start() to reject", ended, 30_000);
    assertInstanceOf(error, SlotError, `${error}`);
    assertEquals([error.kind, error.slotName], ["slot-missing", slotName]);
    assert(/missed/.test(error.hint ?? ""), error.hint);
    assertEquals(await slotsOf(standby), []);
    assertEquals(keys, numbers(1, 3));
  });

  test('a standby without the slot, onSlotLost: "recreate": goes on, and onGap is told from where (12)', async () => {
    const standby = await use(startStandby(primary));
    const { stream, slotName, table, keys } = await newStream({ onSlotLost: "recreate" });
    const gaps: { slotName: string; reason: string; fromLsn: string | null; toLsn: string }[] = [];
    stream.onGap((gap) => void gaps.push(gap));
    const running = await started(stream);
    await insert(primary, table, 1, 3);
    await until("the rows", () => keys.length === 3);
    const handled = parseLsn(stream.status().handledLsn);
    await replayed(standby);
    await failOver(standby);
    await until("the gap", () => gaps.length > 0, 30_000);
    await until("the stream", () => stream.status().state === "streaming");
    await insert(standby, table, 4, 5);
    await until("the rows after it", () => keys.at(-1) === 5);
    await running.stop();
    assertEquals(keys, numbers(1, 5));
    assertEquals(gaps.map(({ slotName, reason }) => [slotName, reason]), [[
      slotName,
      "slot-missing",
    ]]);
    assertGreaterOrEqual(parseLsn(gaps[0]!.fromLsn!), handled);
    assertGreaterOrEqual(parseLsn(gaps[0]!.toLsn), handled);
    await stream.teardown();
  });

  test("a standby that lags: what is queued of the old server is handled, and confirms nothing on the new one (47)", async () => {
    const standby = await use(startStandby(primary, {
      slotName: "standby",
      settings: { sync_replication_slots: "on", hot_standby_feedback: "on" },
    }));
    const { stream, slotName, table, keys } = await newStream({ failover: true });
    const gate = Promise.withResolvers<void>();
    let open = true;
    stream.onChange(async () => {
      if (!open) await gate.promise;
    });
    const running = await started(stream);
    await insert(primary, table, 1, 5);
    await until("the rows", () => keys.length === 5);
    await until("the slot on the standby", async () => {
      await primary.query("SELECT pg_log_standby_snapshot()");
      const [row] = await standby.query<{ there: boolean }>(
        `SELECT bool_or(synced AND NOT temporary AND invalidation_reason IS NULL) AS there
          FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
      );
      return row!.there === true;
    }, 40_000);
    await standby.query("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'");
    await standby.query("SELECT pg_reload_conf()");
    await until("the standby to be alone", async () => {
      const rows = await standby.query("SELECT FROM pg_stat_wal_receiver");
      return rows.length === 0;
    });
    open = false;
    const [end] = await primary.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
    await insert(primary, table, 6, 300);
    await until(
      "much to be queued",
      () => parseLsn(stream.status().receivedLsn) > parseLsn(end!.lsn) + 20_000n,
    );
    await failOver(standby);
    await until("the stream to have the new server's slot", async () => {
      const [slot] = await standby.query<{ active: boolean }>(
        `SELECT active FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
      );
      return slot!.active;
    }, 30_000);
    open = true;
    gate.resolve();
    await until("what was queued", () => keys.length >= 6);
    await until("the stream", () => stream.status().state === "streaming", 30_000);
    const [after] = await standby.query<{ lsn: string }>(
      "SELECT pg_current_wal_lsn()::text AS lsn",
    );
    assertLessOrEqual(await lsnOf(standby, slotName), parseLsn(after!.lsn));
    await insert(standby, table, 1001, 1003);
    await until("the new server's rows", () => keys.at(-1) === 1003, 30_000);
    await running.stop();
    await stream.teardown();
  });

  test("a standby with the slot, failover: true: nothing that it has is missed (12)", async () => {
    const standby = await use(startStandby(primary, {
      slotName: "standby",
      settings: { sync_replication_slots: "on", hot_standby_feedback: "on" },
    }));
    // The stream gets nothing that the standby does not have.
    await primary.query("ALTER SYSTEM SET synchronized_standby_slots = 'standby'");
    await primary.query("SELECT pg_reload_conf()");
    const { stream, slotName, table, keys } = await newStream({ failover: true });
    const running = await started(stream);
    await insert(primary, table, 1, 5);
    await until("the rows", () => keys.length === 5);
    await until("the slot on the standby", async () => {
      await primary.query("SELECT pg_log_standby_snapshot()");
      const [row] = await standby.query<{ there: boolean }>(
        `SELECT bool_or(synced AND NOT temporary AND invalidation_reason IS NULL) AS there
          FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
      );
      return row!.there === true;
    }, 40_000);
    await insert(primary, table, 6, 10);
    await until("the rows", () => keys.at(-1) === 10);
    await replayed(standby);
    await failOver(standby);
    await insert(standby, table, 11, 15);
    await until("the rows of the new server", () => keys.at(-1) === 15, 30_000);
    await running.stop();
    // In order, and twice only what the slot on the standby was not told of.
    assertEquals([...new Set(keys)], numbers(1, 15));
    const again = keys.slice(keys.indexOf(10) + 1);
    assertEquals(again, numbers(again[0]!, 15));
    console.log(`${keys.length - 15} of 10 rows came again`);
    await stream.teardown();
  });

  test("a promoted standby with a slot that was made there: its position is not taken for ours (47)", async () => {
    const standby = await use(startStandby(primary));
    const { stream, slotName, table, keys } = await newStream();
    const { ended } = await started(stream);
    await insert(primary, table, 1, 3);
    await until("the rows", () => keys.length === 3);
    await replayed(standby);
    await primary.kill9();
    await standby.query("SELECT pg_promote()");
    await until("the promotion", async () => {
      const [row] = await standby.query<{ standby: boolean }>(
        "SELECT pg_is_in_recovery() AS standby",
      );
      return !row!.standby;
    });
    await new PgStream({ dsn: standby.dsn, slotName, logger: false }).watch(table).setup();
    const made = await lsnOf(standby, slotName);
    await insert(standby, table, 4, 5);
    proxy.targetPort = standby.port;
    const error = await within("start() to reject", ended, 30_000);
    assertInstanceOf(error, SlotError, `${error}`);
    assertEquals(error.kind, "timeline-changed");
    assert(error.hint);
    assertEquals(keys, numbers(1, 3));
    assertEquals(await lsnOf(standby, slotName), made);

    // The same object remembers it at a second start(); who takes the decision has a new one.
    const second = await within("start()", stream.start().then(() => null, (error) => error));
    assertEquals(second?.kind, "timeline-changed");
    const others: number[] = [];
    const next = new PgStream({ dsn: standby.dsn, slotName, logger: false }).watch(table)
      .onChange((event) => void others.push(Number(event.key)));
    const running = await started(next);
    await until("its rows", () => others.length === 2);
    await running.stop();
    assertEquals(others, [4, 5]);
    await next.teardown();
  });

  test("a copy restored from before: no position of the future is confirmed to it (47)", async () => {
    const { stream, slotName, table, keys } = await newStream();
    const first = await started(stream);
    await insert(primary, table, 1, 3);
    await until("the rows", () => keys.length === 3);
    await first.stop();
    const copy = await use(copyServer(primary));
    const { ended } = await started(stream);
    await insert(primary, table, 4, 200);
    await until("the rows", () => keys.at(-1) === 200, 30_000);
    const handled = parseLsn(stream.status().handledLsn);
    await primary.kill9();
    await copy.start();
    const kept = await lsnOf(copy, slotName);
    assert(kept < handled);
    proxy.targetPort = copy.port;
    const error = await within("start() to reject", ended, 30_000);
    assertInstanceOf(error, SlotError, `${error}`);
    assertEquals(error.kind, "lsn-beyond-server");
    assert(error.message.includes(formatLsn(handled)) || error.hint, error.message);
    assertEquals(await lsnOf(copy, slotName), kept);

    // Nothing that is written there now is skipped.
    await insert(copy, table, 4, 5);
    const others: number[] = [];
    const next = new PgStream({ dsn: copy.dsn, slotName, logger: false }).watch(table)
      .onChange((event) => void others.push(Number(event.key)));
    const running = await started(next);
    await until("its rows", () => others.at(-1) === 5);
    await running.stop();
    assertEquals(others, [4, 5]);
    await next.teardown();
  });

  test("a server of its own, with a slot of the same name: nothing is confirmed to it (47)", async () => {
    // Made by an initdb of its own, as each major is.
    const other = await use(startPostgres({ major: 17 }));
    const { stream, slotName, table, keys } = await newStream();
    const { ended } = await started(stream);
    await insert(primary, table, 1, 3);
    await until("the rows", () => keys.length === 3);
    await other.query(`CREATE TABLE ${table} (id int PRIMARY KEY)`);
    await new PgStream({ dsn: other.dsn, slotName, logger: false }).watch(table).setup();
    await insert(other, table, 4, 5);
    const kept = await lsnOf(other, slotName);
    proxy.targetPort = other.port;
    proxy.cut();
    const error = await within("start() to reject", ended, 30_000);
    assertInstanceOf(error, SlotError, `${error}`);
    assertEquals(error.kind, "system-changed");
    assert(error.hint);
    assertEquals(keys, numbers(1, 3));
    assertEquals(await lsnOf(other, slotName), kept);
    await new PgStream({ dsn: other.dsn, slotName, logger: false }).teardown();
  });
});
