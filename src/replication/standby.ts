/**
 * A standby as the source. It decodes what it has replayed, with slots of its own (16+), and is read-only: what
 * a stream needs beside its slot is made on the primary, and comes here by replication.
 * https://www.postgresql.org/docs/current/logicaldecoding-explanation.html#LOGICALDECODING-REPLICATION-SLOTS
 */
import type { Lsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import { ReplicationError } from "./errors.ts";
import { lsnOf, rowsOf } from "./server.ts";

/** The first version whose standbys decode. */
const DECODES_SINCE = 160000;

/** How far a standby has replayed the WAL of its primary; null on a server that is none. */
export async function readReplayedLsn(
  connection: Connection,
  signal?: AbortSignal,
): Promise<Lsn | null> {
  const sql = `SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
    THEN pg_catalog.pg_last_wal_replay_lsn() END AS lsn`;
  const [row] = rowsOf(await connection.query(sql, { signal }));
  return row?.lsn == null ? null : lsnOf(row, "lsn");
}

/**
 * Checks that a standby of this version decodes.
 *
 * @throws {ReplicationError} of kind `standby`.
 */
export function checkStandbyDecodes(connection: Connection): void {
  if (connection.serverVersion >= DECODES_SINCE) return;
  const version = connection.parameters.get("server_version") ?? "of unknown version";
  throw new ReplicationError(`The server is a standby, and PostgreSQL ${version}`, {
    kind: "standby",
    hint: "A standby streams changes from PostgreSQL 16 on: connect to the primary.",
  });
}
