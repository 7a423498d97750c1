/** Which session on the server a connection is. */
import type { Connection } from "../wire/connection.ts";
import { numberOf, rowsOf } from "./server.ts";

/** A session of the server's. A PID alone names none for long: the system gives it out again. */
export interface Backend {
  /** `pg_stat_activity.pid` */
  processId: number;
  /** `pg_stat_activity.backend_start` as text; empty where the role may not see it of its own session. */
  startedAt: string;
}

/** The session that the connection is, as the server knows it. */
export async function readBackend(connection: Connection, signal?: AbortSignal): Promise<Backend> {
  const sql = `SELECT pid, backend_start FROM pg_catalog.pg_stat_activity
    WHERE pid = pg_catalog.pg_backend_pid()`;
  const [row] = rowsOf(await connection.query(sql, { signal }));
  return { processId: numberOf(row, "pid"), startedAt: row!.backend_start ?? "" };
}
