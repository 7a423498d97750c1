/** The progress of a backfill in a table of the source database. */
import { onlyRow } from "../replication/server.ts";
import type { Connection } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteIdentifier, quoteLiteral } from "../wire/quote.ts";
import type { QueryResult } from "../wire/query.ts";
import { withDeadline } from "../replication/deadline.ts";
import { BackfillError } from "./errors.ts";
import type { StateStore } from "./state_store.ts";
import { Turns } from "./turns.ts";

const CREATE_SCHEMA = "CREATE SCHEMA IF NOT EXISTS pgstream";
const CREATE_TABLE = `CREATE TABLE IF NOT EXISTS pgstream.state (
  key text PRIMARY KEY,
  value text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now()
)`;
const PRIVILEGES = ["SELECT", "INSERT", "UPDATE"] as const;

// A statement of one row, and what a lock on it may take; then the network is dead.
const TIMEOUT_MS = 30_000;

const WHAT = "the table pgstream.state, which keeps the progress of backfills";

/**
 * Keeps state in the table `pgstream.state` of the database that the connector leads to. Connects
 * when it is first used, keeps that connection until `close()`, and makes a new one, once for each
 * call, where it was lost; a call after `close()` connects again.
 */
export class PostgresStateStore implements StateStore {
  readonly #connector: Connector;
  readonly #turns = new Turns();
  #connection: Connection | null = null;

  /** Connects to nothing yet. */
  constructor({ connector }: { connector: Connector }) {
    this.#connector = connector;
  }

  /**
   * What was last set under the key; null where nothing was.
   *
   * @throws {BackfillError} of kind `state-missing` or `state-store`.
   * @throws {PgStreamError} as connections and queries do; retryable where the connection was lost.
   */
  async get(key: string): Promise<string | null> {
    const sql = `SELECT value FROM pgstream.state WHERE key = ${quoteLiteral(key)}`;
    const { rows } = await this.#query(sql);
    return rows[0]?.[0] ?? null;
  }

  /**
   * Puts a value in place of the key's last one.
   *
   * @throws {BackfillError} as `get`.
   * @throws {PgStreamError} as `get`.
   */
  async set(key: string, value: string): Promise<void> {
    await this.#query(
      `INSERT INTO pgstream.state (key, value) VALUES (${quoteLiteral(key)}, ${
        quoteLiteral(value)
      }) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, updated_at = DEFAULT`,
    );
  }

  /** Closes the connection, once the calls before are done. May be called twice. */
  close(): Promise<void> {
    return this.#turns.take(async () => {
      const connection = this.#connection;
      this.#connection = null;
      await connection?.close();
    });
  }

  #query(sql: string): Promise<QueryResult> {
    return this.#turns.take(() =>
      withDeadline(WHAT, TIMEOUT_MS, new AbortController().signal, async (signal) => {
        const kept = this.#connection;
        try {
          return await this.#queryOnce(sql, signal);
        } catch (error) {
          // Both statements may be run twice: a lost connection does not tell whether it was.
          if (kept === null || !kept.closed || signal.aborted) throw error;
          return await this.#queryOnce(sql, signal);
        }
      })
    );
  }

  async #queryOnce(sql: string, signal: AbortSignal): Promise<QueryResult> {
    try {
      const connection = await this.#connect(signal);
      return await connection.query(sql, { signal });
    } catch (error) {
      throw explainStateError(error, quoteIdentifier(this.#connector.options.user));
    }
  }

  async #connect(signal: AbortSignal): Promise<Connection> {
    const kept = this.#connection;
    if (kept !== null && !kept.closed) {
      if (!this.#connector.hasLeft(kept)) return kept;
      // What is stored on a server that was the primary is lost to the one that is.
      await kept.close();
    }
    const connection = await this.#connector.connect({ signal });
    try {
      // Durable whatever the role's default is, and yet never held up by a standby that is away.
      await connection.query("SET synchronous_commit = local", { signal });
    } catch (error) {
      await connection.close();
      throw error;
    }
    return this.#connection = connection;
  }
}

/**
 * Makes schema and table of `PostgresStateStore` where they are missing, and checks that this role
 * can use them. Looks first: no right to create is needed where nothing has to be created.
 *
 * @returns true where something was created.
 * @throws {BackfillError} of kind `state-store`, with the statements to run.
 */
export async function prepareStateTable(
  connection: Connection,
  signal?: AbortSignal,
): Promise<boolean> {
  const before = await lookAtState(connection, signal);
  if (before.tableOid !== null) {
    checkPrivileges(before);
    return false;
  }
  const statements = before.hasSchema ? [CREATE_TABLE] : [CREATE_SCHEMA, CREATE_TABLE];
  try {
    await connection.query(statements.join(";\n"), { signal });
  } catch (error) {
    // Somebody else made it in the same moment: IF NOT EXISTS looks, but does not wait.
    const now = await lookAtState(connection, signal);
    if (now.tableOid === null) throw explainCreationError(error, before);
    checkPrivileges(now);
  }
  return true;
}

/** What there is of the table, and what the role may do. */
interface StateTable {
  /** As SQL text. */
  role: string;
  hasSchema: boolean;
  tableOid: number | null;
  /** GRANT statements for what the role lacks. */
  missing: string[];
}

async function lookAtState(connection: Connection, signal?: AbortSignal): Promise<StateTable> {
  const result = await connection.query(
    `SELECT current_user, n.oid, c.oid, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
      ${PRIVILEGES.map((name) => `pg_catalog.has_table_privilege(c.oid, '${name}')`).join(", ")}
    FROM (SELECT) AS one
      LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'pgstream'
      LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'state'`,
    { signal },
  );
  const [name, schema, table, usage, ...privileges] = onlyRow(result, 4 + PRIVILEGES.length);
  const role = quoteIdentifier(name!);
  const lacking = PRIVILEGES.filter((_, index) => privileges[index] === "f");
  const missing: string[] = [];
  if (usage === "f") missing.push(`GRANT USAGE ON SCHEMA pgstream TO ${role};`);
  if (lacking.length > 0) {
    missing.push(`GRANT ${lacking.join(", ")} ON pgstream.state TO ${role};`);
  }
  const tableOid = table === null || table === undefined ? null : Number(table);
  return { role, hasSchema: schema !== null, tableOid, missing };
}

function checkPrivileges({ role, missing }: StateTable): void {
  if (missing.length === 0) return;
  throw new BackfillError(`Role ${role} may not use ${WHAT}`, {
    kind: "state-store",
    hint: `Run as its owner: ${missing.join(" ")}`,
  });
}

function explainCreationError(error: unknown, { role, hasSchema }: StateTable): unknown {
  if (!(error instanceof PostgresError)) return error;
  if (error.code === "25006") return readOnly(error);
  if (error.code !== "42501") return error;
  return new BackfillError(`Role ${role} may not create ${WHAT}: ${error.summary}`, {
    kind: "state-store",
    hint: `Run as one who may: ${hasSchema ? "" : "CREATE SCHEMA pgstream; "}` +
      `GRANT USAGE, CREATE ON SCHEMA pgstream TO ${role}; ` +
      "then setup() again. Or keep the progress elsewhere: the option stateStore.",
    cause: error,
  });
}

function explainStateError(error: unknown, role: string): unknown {
  if (!(error instanceof PostgresError)) return error;
  switch (error.code) {
    case "42P01":
    case "3F000":
      return new BackfillError(`There is no ${WHAT.slice("the ".length)}`, {
        kind: "state-missing",
        hint: "Run setup(), which creates it.",
        cause: error,
      });
    case "42501":
      return new BackfillError(`Role ${role} may not use ${WHAT}: ${error.summary}`, {
        kind: "state-store",
        hint: `Run as its owner: GRANT USAGE ON SCHEMA pgstream TO ${role}; ` +
          `GRANT ${PRIVILEGES.join(", ")} ON pgstream.state TO ${role};`,
        cause: error,
      });
    case "25006":
      return readOnly(error);
    default:
      return error;
  }
}

/** The error for a source that cannot keep the progress. */
export function standbyKeepsNoState(): BackfillError {
  return new BackfillError("The source is a standby: it cannot keep the progress of backfills", {
    kind: "state-store",
    hint: "Keep it elsewhere, by the option stateStore, for example in a file: " +
      'stateStore: new FileStateStore("./pgstream-state.json").',
  });
}

function readOnly(error: PostgresError): BackfillError {
  return new BackfillError(`Cannot write ${WHAT}: ${error.summary}`, {
    kind: "state-store",
    hint: "The database, or this role in it, is read-only. " +
      "Keep the progress elsewhere: the option stateStore.",
    cause: error,
  });
}
