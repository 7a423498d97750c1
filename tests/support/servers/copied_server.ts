/** Copies of a server: its standby, or itself as it was at some moment. */

import { execFile } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { sleep, until } from "../streams.ts";
import { type PostgresServer, startPostgres } from "./postgres.ts";
import { giveToServer } from "./postgres_files.ts";

const run = promisify(execFile);

/** A copy that is not started yet, as a backup of the files makes it. The server is restarted for it. */
export async function copyServer(
  server: PostgresServer,
  settings: Record<string, string> = {},
): Promise<PostgresServer> {
  const copy = await startPostgres({ major: server.major });
  await copy.shutdown("immediate");
  await server.shutdown("fast");
  try {
    await rm(copy.dataDir, { recursive: true });
    await run("cp", ["-a", server.dataDir, copy.dataDir]);
  } finally {
    await server.start();
  }
  await copy.configure({
    port: String(copy.port),
    unix_socket_directories: copy.socketDir,
    ...settings,
  });
  return copy;
}

/** A standby that follows the server. With `slotName` that physical slot is made for it. */
export async function startStandby(
  server: PostgresServer,
  { slotName, settings = {} }: { slotName?: string; settings?: Record<string, string> } = {},
): Promise<PostgresServer> {
  const { host, port, user, password, database } = server;
  const standby = await copyServer(server, {
    primary_conninfo:
      `host=${host} port=${port} user=${user} password=${password} dbname=${database}`,
    ...slotName === undefined ? {} : { primary_slot_name: slotName },
    ...settings,
  });
  // A base backup has no slots.
  const slots = join(standby.dataDir, "pg_replslot");
  await rm(slots, { recursive: true });
  await mkdir(slots, { mode: 0o700 });
  await giveToServer(slots);
  const sign = join(standby.dataDir, "standby.signal");
  await writeFile(sign, "");
  await giveToServer(sign);
  if (slotName !== undefined) {
    await server.query("SELECT pg_create_physical_replication_slot($1, true)", {
      parameters: [slotName],
    });
  }
  await standby.start();
  return standby;
}

/** Waits until the standby has replayed all that the server has written by now. */
export async function replayed(server: PostgresServer, standby: PostgresServer): Promise<void> {
  const [row] = await server.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
  await until("the standby to follow", async () => {
    const [found] = await standby.query<{ there: boolean }>(
      `SELECT pg_last_wal_replay_lsn() >= '${row!.lsn}' AS there`,
    );
    return found!.there;
  });
}

/** Has the server log its running transactions while the work goes on: a slot on a standby waits for that. */
export async function loggingSnapshots<T>(
  server: PostgresServer,
  work: () => Promise<T>,
): Promise<T> {
  let over = false;
  const logging = (async () => {
    while (!over) {
      await server.query("SELECT pg_log_standby_snapshot()");
      await sleep(50);
    }
  })();
  try {
    return await work();
  } finally {
    over = true;
    await logging;
  }
}

/** A standby becomes a primary. */
export async function promote(standby: PostgresServer): Promise<void> {
  await standby.query("SELECT pg_promote()");
  await until("the promotion", async () => {
    const [row] = await standby.query<{ standby: boolean }>(
      "SELECT pg_is_in_recovery() AS standby",
    );
    return !row!.standby;
  });
}
