/** Connections that read existing rows, and what the server answers where it does not let them. */
import { formatTableName, quoteTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import { BackfillError } from "./errors.ts";

/** What a reader needs, whatever the database or the role says. */
const SETTINGS: readonly { name: string; value: string; since?: number }[] = [
  // An error where rows would be hidden in silence.
  { name: "row_security", value: "off" },
  { name: "statement_timeout", value: "0" },
  { name: "idle_in_transaction_session_timeout", value: "0" },
  // The reader idles while a slow handler has its rows.
  { name: "idle_session_timeout", value: "0", since: 140000 },
  { name: "transaction_timeout", value: "0", since: 170000 },
  // A LOCK that waits makes everybody wait who comes after it.
  { name: "lock_timeout", value: "'5s'" },
  // Chunks in key order: by the key's index, and never all rows sorted again for each chunk, which
  // the planner may think cheaper for a key in no order, like a UUID. A plan that is forced looks
  // dear, and would be compiled for nothing.
  { name: "enable_sort", value: "off" },
  { name: "enable_incremental_sort", value: "off", since: 130000 },
  { name: "jit", value: "off", since: 110000 },
  { name: "max_parallel_workers_per_gather", value: "0" },
];

/**
 * Opens an ordinary connection to read whole tables with: no timeouts but the one for locks, row
 * security as an error, and plans that follow an index where order is asked for. Text comes in the form that pgoutput sends, as on every connection.
 *
 * @throws {PgStreamError} as connections do.
 */
export async function connectForReading(
  connector: Connector,
  signal?: AbortSignal,
): Promise<Connection> {
  const connection = await connector.connect({ signal });
  try {
    const settings = SETTINGS
      .filter(({ since = 0 }) => connection.serverVersion >= since)
      .map(({ name, value }) => `SET ${name} = ${value}`);
    await connection.query(settings.join("; "), { signal });
    return connection;
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/**
 * What a failed read of a table means: an error that names the table and the way out, or the same
 * error where nothing more is known of it.
 *
 * @param role who reads, for the statements to run
 */
export function explainReadError(error: unknown, name: TableName, role?: string): unknown {
  if (!(error instanceof PostgresError)) return error;
  const table = formatTableName(name);
  const who = role === undefined ? "the role that reads" : quoteIdentifier(role);
  switch (error.code) {
    case "42501":
      if (isRowSecurity(error)) {
        return new BackfillError(`Row-level security would hide rows of "${table}" from ${who}`, {
          kind: "row-security",
          hint: "Changes come without it, so existing rows must, too. Run as a superuser: " +
            `ALTER ROLE ${role === undefined ? "…" : who} BYPASSRLS;`,
          cause: error,
        });
      }
      return new BackfillError(`May not read table "${table}": ${error.summary}`, {
        kind: "select-privilege",
        hint: `Run: GRANT USAGE ON SCHEMA ${quoteIdentifier(name.schema)} TO ${
          role === undefined ? "…" : who
        }; GRANT SELECT ON ${quoteTableName(name)} TO ${role === undefined ? "…" : who};`,
        cause: error,
      });
    case "55P03":
      return new BackfillError(`Table "${table}" is locked by somebody, for longer than 5 s`, {
        kind: "lock-timeout",
        retryable: true,
        hint: "See who: SELECT pid, mode, granted FROM pg_locks " +
          `WHERE relation = '${quoteTableName(name).replaceAll("'", "''")}'::regclass;`,
        cause: error,
      });
    // LOCK says 3F000 where the schema is gone, too.
    case "42P01":
    case "3F000":
      return new BackfillError(`Table "${table}" is gone: ${error.summary}`, {
        kind: "table-missing",
        hint: "It was dropped or renamed while its rows were read.",
        cause: error,
      });
    default:
      return error;
  }
}

/** By the function that refuses: the server's words are in the server's language. */
function isRowSecurity(error: PostgresError): boolean {
  return error.routine === "check_enable_rls" || error.summary.includes("row-level security");
}
