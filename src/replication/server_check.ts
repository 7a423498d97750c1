/** Whether a server can have what a stream needs. */
import type { Connection } from "../wire/connection.ts";
import { ReplicationError } from "./errors.ts";
import { rowsOf, textOf } from "./server.ts";

/** The oldest server that has logical replication with pgoutput. */
const OLDEST_VERSION = 100000;

/**
 * Checks what no slot can work without.
 *
 * @throws {ReplicationError} the first of `serverFaults`.
 */
export async function checkServer(connection: Connection, signal?: AbortSignal): Promise<void> {
  const [fault] = await serverFaults(connection, signal);
  if (fault !== undefined) throw fault;
}

/**
 * What no slot can work without and the server has not: a version with pgoutput, `wal_level`, an encoding whose
 * texts can be read.
 *
 * @returns errors of kind `server-version`, `wal-level` or `server-encoding`
 */
export async function serverFaults(
  connection: Connection,
  signal?: AbortSignal,
): Promise<ReplicationError[]> {
  if (connection.serverVersion < OLDEST_VERSION) {
    return [
      new ReplicationError(
        `The server is PostgreSQL ${connection.parameters.get("server_version")}`,
        { kind: "server-version", hint: "Logical replication needs PostgreSQL 10 or later." },
      ),
    ];
  }
  const sql = `SELECT pg_catalog.current_setting('wal_level') AS wal_level,
    pg_catalog.current_setting('server_encoding') AS encoding`;
  const [row] = rowsOf(await connection.query(sql, { signal }));
  const faults: ReplicationError[] = [];
  const walLevel = textOf(row, "wal_level");
  if (walLevel !== "logical") {
    faults.push(
      new ReplicationError(`The server's wal_level is "${walLevel}", not "logical"`, {
        kind: "wal-level",
        hint: "Run: ALTER SYSTEM SET wal_level = 'logical'; and restart the server. " +
          "Hosted servers have a setting of their own for it (RDS: rds.logical_replication = 1).",
      }),
    );
  }
  if (textOf(row, "encoding") === "SQL_ASCII") {
    faults.push(
      new ReplicationError("The database's encoding is SQL_ASCII: its texts have no encoding", {
        kind: "server-encoding",
        hint: "A byte that is not UTF-8 would stop the stream for good. Move the tables to a " +
          "database with an encoding: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
      }),
    );
  }
  return faults;
}
