/** A DSN that names the standby too: the stream finds the primary, also when it is another one. */

import { assertEquals } from "@std/assert";
import { afterEach, describe, test } from "node:test";
import { PgStream } from "../../mod.ts";
import { startStandby } from "../support/servers/copied_server.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { started, uniqueName, until } from "../support/streams.ts";

const stops: (() => Promise<unknown>)[] = [];

async function use(starting: Promise<PostgresServer>): Promise<PostgresServer> {
  const server = await starting;
  stops.unshift(() => server.stop());
  return server;
}

async function walsenderOn(server: PostgresServer, slotName: string): Promise<boolean> {
  const [row] = await server.query<{ active: boolean }>(
    `SELECT active FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
  );
  return row?.active === true;
}

async function promote(standby: PostgresServer): Promise<void> {
  await standby.query("SELECT pg_promote()");
  await until("the promotion", async () => {
    const [row] = await standby.query<{ standby: boolean }>(
      "SELECT pg_is_in_recovery() AS standby",
    );
    return !row!.standby;
  });
}

describe("several hosts", { skip: needsOwnServer }, () => {
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
  });

  test("the stream, its backfill and its state follow the primary to the other host (12)", async () => {
    const primary = await use(startPostgres());
    const standby = await use(startStandby(primary, {
      slotName: "standby",
      settings: { sync_replication_slots: "on", hot_standby_feedback: "on" },
    }));
    await primary.query("ALTER SYSTEM SET synchronized_standby_slots = 'standby'");
    await primary.query("SELECT pg_reload_conf()");
    const table = uniqueName("documents");
    await primary.query(`CREATE TABLE ${table} (id int PRIMARY KEY)`);
    await primary.query(`INSERT INTO ${table} SELECT generate_series(1, 20)`);

    const { user, password, database } = primary;
    // The standby comes first: whoever does not look takes it.
    const hosts = [standby, primary].map(({ host, port }) => `${host}:${port}`).join(",");
    const slotName = uniqueName();
    const keys = new Set<number>();
    const stream = new PgStream({
      dsn: `postgresql://${user}:${password}@${hosts}/${database}`,
      slotName,
      backfill: "initial",
      failover: true,
      logger: false,
      reconnect: { minDelayMs: 10, maxDelayMs: 200 },
    }).watch(table).onChange((event) => void keys.add(Number(event.key)));
    await stream.setup();
    const first = await started(stream);
    await until("what was there before", () => keys.size === 20, 30_000);
    assertEquals(await walsenderOn(primary, slotName), true);
    await until("the slot on the standby", async () => {
      await primary.query("SELECT pg_log_standby_snapshot()");
      const [row] = await standby.query<{ there: boolean }>(
        `SELECT bool_or(synced AND NOT temporary AND invalidation_reason IS NULL) AS there
          FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
      );
      return row!.there === true;
    }, 40_000);
    await primary.query(`INSERT INTO ${table} VALUES (21)`);
    await until("its row", () => keys.has(21), 30_000);

    await primary.kill9();
    await promote(standby);
    await standby.query(`INSERT INTO ${table} VALUES (22)`);
    await until("the new primary's row", () => keys.has(22), 30_000);
    assertEquals(await walsenderOn(standby, slotName), true);
    // On a connection for queries, beside the stream.
    keys.clear();
    await stream.backfill(table);
    await until("all rows, read anew", () => keys.size === 22, 30_000);
    await first.stop();

    const again = await started(stream);
    await standby.query(`INSERT INTO ${table} VALUES (23)`);
    await until("the row after another start", () => keys.has(23), 30_000);
    await again.stop();
    await stream.teardown();
  });
});
