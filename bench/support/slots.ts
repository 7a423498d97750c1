/** Slots of benchmarks. A stream that was closed leaves its slot only once the server has noticed. */

import { setTimeout as delay } from "node:timers/promises";
import type { PostgresServer } from "../../tests/support/servers/postgres.ts";

/** A walsender may decode for a while before it notices that its client is gone. */
const RELEASE_LIMIT_MS = 30_000;

/** Makes a slot, and a publication of the same name. */
export async function createSlot(
  server: PostgresServer,
  name: string,
  table: string,
): Promise<void> {
  await server.query(`CREATE PUBLICATION ${name} FOR TABLE ${table}`);
  await server.query(`SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`);
}

/** Waits until nobody has it. */
export async function slotReleased(server: PostgresServer, name: string): Promise<void> {
  const deadline = Date.now() + RELEASE_LIMIT_MS;
  const active = `SELECT 1 FROM pg_replication_slots WHERE active AND slot_name = '${name}'`;
  while ((await server.query(active)).length > 0) {
    if (Date.now() > deadline) throw new Error(`The slot ${name} was not released`);
    await delay(10);
  }
}

/** Drops the slot, and its publication where it has one, once nobody has it. */
export async function dropSlot(server: PostgresServer, name: string): Promise<void> {
  await slotReleased(server, name);
  await server.query(`SELECT pg_drop_replication_slot('${name}')`);
  await server.query(`DROP PUBLICATION IF EXISTS ${name}`);
}
