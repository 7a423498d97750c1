/** Whether a server can have what a stream needs. */
import type { Connection } from "../wire/connection.ts";
import { ReplicationError } from "./errors.ts";
import { rowsOf, textOf } from "./server.ts";

/** The oldest server that has logical replication with pgoutput. */
const OLDEST_VERSION = 100000;

/**
 * Checks what no slot can work without: a version with pgoutput, `wal_level`, an encoding whose
 * texts can be read.
 *
 * @throws {ReplicationError} of kind `server-version`, `wal-level` or `server-encoding`.
 */
export async function checkServer(connection: Connection, signal?: AbortSignal): Promise<void> {
  if (connection.serverVersion < OLDEST_VERSION) {
    throw new ReplicationError(
      `The server is PostgreSQL ${connection.parameters.get("server_version")}`,
      { kind: "server-version", hint: "Logical replication needs PostgreSQL 10 or later." },
    );
  }
  const sql = `SELECT pg_catalog.current_setting('wal_level') AS wal_level,
    pg_catalog.current_setting('server_encoding') AS encoding`;
  const [row] = rowsOf(await connection.query(sql, { signal }));
  const walLevel = textOf(row, "wal_level");
  if (walLevel !== "logical") {
    throw new ReplicationError(`The server's wal_level is "${walLevel}", not "logical"`, {
      kind: "wal-level",
      hint: "Run: ALTER SYSTEM SET wal_level = 'logical'; and restart the server. " +
        "Hosted servers have a setting of their own for it (RDS: rds.logical_replication = 1).",
    });
  }
  if (textOf(row, "encoding") === "SQL_ASCII") {
    throw new ReplicationError("The database's encoding is SQL_ASCII: its texts have no encoding", {
      kind: "server-encoding",
      hint: "A byte that is not UTF-8 would stop the stream for good. Move the tables to a " +
        "database with an encoding: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
    });
  }
}
