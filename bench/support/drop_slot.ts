/** Drops a slot that somebody has just stopped reading. */
import type { PostgresServer } from "../../tests/support/servers/postgres.ts";

const PATIENCE_MS = 30_000;

/** Waits until the walsender has noticed that its client is gone, which it may while it decodes. */
export async function dropSlot(server: PostgresServer, slotName: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  const isActive = async () => {
    const active = `SELECT FROM pg_replication_slots WHERE slot_name = '${slotName}' AND active`;
    return (await server.query(active)).length > 0;
  };
  while (await isActive() && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await server.query(`SELECT pg_drop_replication_slot('${slotName}')`);
}
