/** What the server says about itself. */
import { type Lsn, parseLsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import type { QueryResult } from "../wire/query.ts";
import { ReplicationError } from "./errors.ts";

/** A row of the catalogue by its column names. */
export type CatalogRow = Record<string, string | null>;

/** The rows of a result by column name, for queries of ours whose columns have sane names. */
export function rowsOf(result: QueryResult): CatalogRow[] {
  return result.rows.map((values) =>
    Object.fromEntries(result.fields.map((field, index) => [field.name, values[index] ?? null]))
  );
}

/**
 * The row of a query that gives one whatever there is, as values in their order.
 *
 * @param columns how many it has to have
 * @throws {ReplicationError} of kind `catalogue-answer`.
 */
export function onlyRow({ rows }: QueryResult, columns: number): readonly (string | null)[] {
  const [row] = rows;
  if (row !== undefined && row.length >= columns) return row;
  throw nonsense("row");
}

/** The text in a row that has to be there. @throws {ReplicationError} of kind `catalogue-answer`. */
export function textOf(row: CatalogRow | undefined, column: string): string {
  const text = row?.[column];
  if (typeof text === "string") return text;
  throw nonsense(column);
}

/** A number without a sign: an OID, a process id, a duration. @throws as `textOf` */
export function numberOf(row: CatalogRow | undefined, column: string): number {
  const text = textOf(row, column);
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw nonsense(column);
}

/** A position. @throws as `textOf` */
export function lsnOf(row: CatalogRow | undefined, column: string): Lsn {
  const text = textOf(row, column);
  try {
    return parseLsn(text);
  } catch {
    // Its message would repeat the text.
    throw nonsense(column);
  }
}

/** A JSON array of names; none where it is NULL. @throws as `textOf` */
export function namesOf(row: CatalogRow, column: string): readonly string[] {
  let names: unknown;
  try {
    names = JSON.parse(row[column] ?? "[]");
  } catch {
    throw nonsense(column);
  }
  if (Array.isArray(names) && names.every((name) => typeof name === "string")) return names;
  throw nonsense(column);
}

/** No PostgreSQL answers so. */
export function nonsense(column: string): ReplicationError {
  return new ReplicationError(`The server's answer has no "${column}" that makes sense`, {
    kind: "catalogue-answer",
    hint: "Is it PostgreSQL that answers there, and not a pooler or something else?",
  });
}

/** The answer to IDENTIFY_SYSTEM: which cluster this is, and how far its WAL goes. */
export interface SystemIdentity {
  /** Unique to a cluster and its physical copies. */
  systemId: string;
  /** Goes up when a standby is promoted. */
  timeline: number;
  /** The end of WAL that is flushed. */
  walLsn: Lsn;
  /** The database of the connection. */
  database: string;
}

/**
 * Asks which cluster this is. Needs a connection with `replication=database`.
 * https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-IDENTIFY-SYSTEM
 */
export async function identifySystem(
  connection: Connection,
  signal?: AbortSignal,
): Promise<SystemIdentity> {
  const [row] = rowsOf(await connection.query("IDENTIFY_SYSTEM", { signal }));
  return {
    systemId: textOf(row, "systemid"),
    timeline: numberOf(row, "timeline"),
    walLsn: lsnOf(row, "xlogpos"),
    database: textOf(row, "dbname"),
  };
}

/** The database of the connection. */
export async function currentDatabase(
  connection: Connection,
  signal?: AbortSignal,
): Promise<string> {
  const sql = "SELECT pg_catalog.current_database()";
  const [row] = rowsOf(await connection.query(sql, { signal }));
  return textOf(row, "current_database");
}

/** When the server was started, as text: two connections that are told the same are to the same one. */
export async function serverStartedAt(
  connection: Connection,
  signal?: AbortSignal,
): Promise<string> {
  const sql = "SELECT pg_catalog.pg_postmaster_start_time()";
  const [row] = rowsOf(await connection.query(sql, { signal }));
  return textOf(row, "pg_postmaster_start_time");
}

/** How long the server waits for a sign of life, in milliseconds; 0: for ever. */
export async function readWalSenderTimeoutMs(
  connection: Connection,
  signal?: AbortSignal,
): Promise<number> {
  const sql = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'";
  const [row] = rowsOf(await connection.query(sql, { signal }));
  return numberOf(row, "setting");
}
