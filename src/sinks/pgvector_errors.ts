/** What went wrong in Postgres, said in the terms of the sink. */

import { dimensionError, SinkError } from "./sink.ts";

// Errors of postgres.js carry the statement and its parameters, and a server's message may quote
// values: neither may leave the sink. So they are never a `cause`, and of a message only those kinds
// are repeated that quote names alone.

/** A server's error as postgres.js gives it, a system error, or one of postgres.js itself. */
interface Caught {
  name?: string;
  code?: string;
  message?: string;
  /** Only in an answer of the server; the class's name may not survive a minifier. */
  severity?: string;
}

const MISSING_TABLE = "42P01";
const MISSING_SCHEMA = "3F000";
const UNKNOWN_OBJECT = "42704";
const NO_SUCH_OPERATOR = "42883";
const EXTENSION_FILES_MISSING = ["58P01", "0A000"];
const WRONG_SHAPE = ["42703", "42804", "42809", "42P10"];
const UNAUTHORIZED = ["28000", "28P01", "42501"];
const LOST_STATEMENT = ["26000", "42P05"];
const NOT_TEXT = ["22P05", "22021"];
// Serialization failure, deadlock, lock not available, query cancelled by a conflict with recovery.
const RETRYABLE = ["40001", "40P01", "55P03"];
// The server is shutting down, has crashed, or is starting.
const UNREACHABLE = ["57P01", "57P02", "57P03"];

// ECONNREFUSED and its like, and postgres.js' own; not ERR_TLS_…, which stays as it is.
const CONNECTION_LOST = /^(E(?!RR_)[A-Z_]+|CONNECT_TIMEOUT|CONNECTION_[A-Z]+)$/;

/**
 * A `SinkError` for whatever a statement on `table` threw.
 *
 * @param table the table's name, for the message.
 */
export function pgVectorError(error: unknown, table: string): SinkError {
  if (error instanceof SinkError) return error;
  const { name, code = "", message = "", severity } = (error ?? {}) as Caught;
  const fail = (
    kind: string,
    text: string,
    hint: string,
    retryable = false,
  ): SinkError =>
    new SinkError(text, {
      kind,
      sink: "pgvector",
      hint,
      retryable,
      ...(code === "" ? {} : { code }),
    });

  if (code === "") {
    return fail(
      "sink-rejected",
      `Table ${table}: the statement was not run: ${name ?? "no error was given"}`,
      "Look at the sql that was passed to the sink, and at its callbacks",
    );
  }
  if (severity === undefined) {
    return fail(
      "sink-unreachable",
      `Cannot reach the server of table ${table}: ${code}`,
      "Check that the server runs, and host, port and TLS settings of the dsn",
      CONNECTION_LOST.test(code),
    );
  }

  const dimensions = readDimensions(message);
  if (code === "22000" && dimensions !== undefined) {
    return dimensionError("pgvector", `Table ${table}`, ...dimensions, code);
  }
  if (code === MISSING_TABLE) {
    return fail("sink-table-missing", `Table ${table} does not exist`, createHint(table));
  }
  if (code === MISSING_SCHEMA) {
    return fail(
      "sink-table-missing",
      `The schema of table ${table} does not exist`,
      "Run CREATE SCHEMA first: the sink makes tables, not schemas",
    );
  }
  if (code === UNKNOWN_OBJECT && message.includes("configuration parameter")) {
    return fail(
      "sink-options",
      `The server of table ${table} does not know a parameter of the dsn (${message})`,
      "Take it out of the dsn: what postgres.js does not know it hands to the server",
    );
  }
  if (
    code === NO_SUCH_OPERATOR || code === UNKNOWN_OBJECT || EXTENSION_FILES_MISSING.includes(code)
  ) {
    return fail(
      "sink-extension-missing",
      `pgvector is not at hand in the database of table ${table} (${message})`,
      "Install pgvector on the server and run CREATE EXTENSION vector in this database; for a search, " +
        "and to create a table, its schema must be on the search_path",
    );
  }
  if (WRONG_SHAPE.includes(code)) {
    return fail(
      "sink-table-shape",
      `Table ${table} is not what the sink writes to (${message})`,
      createHint(table),
    );
  }
  if (UNAUTHORIZED.includes(code)) {
    return fail(
      "sink-unauthorized",
      `The server of table ${table} refused access (${message})`,
      code === "42501"
        ? "GRANT INSERT, UPDATE, DELETE and SELECT on the table that it names; CREATE EXTENSION vector may need " +
          "a superuser, once"
        : "Check user and password of the dsn",
    );
  }
  if (LOST_STATEMENT.includes(code)) {
    return fail(
      "sink-rejected",
      `Table ${table}: the session lost its statement (${message})`,
      "Pass prepare: false: a pooler gives each transaction another session",
    );
  }
  if (NOT_TEXT.includes(code) || message === "invalid input syntax for type json") {
    return fail(
      "sink-payload",
      `Table ${table} cannot hold a text of the payload: Postgres stores neither U+0000 nor half a ` +
        "surrogate pair",
      'Leave them out of the payload: text.replaceAll("\\0", "").toWellFormed()',
    );
  }
  if (RETRYABLE.includes(code)) {
    return fail("sink-rejected", `Table ${table}: ${message}`, "Try again", true);
  }
  if (UNREACHABLE.includes(code) || code.startsWith("08")) {
    return fail(
      "sink-unreachable",
      `Lost the server of table ${table} (${message})`,
      "It is restarting, or was told to end the session",
      true,
    );
  }
  if (code.startsWith("53")) {
    return fail(
      "sink-overloaded",
      `The server of table ${table} is out of resources (${message})`,
      "Look at its connections, memory and disk",
      true,
    );
  }
  return fail(
    "sink-rejected",
    `Table ${table} refused the statement: ${
      quotesValues(code) ? withoutValues(message) : message
    }`,
    "Look the SQLSTATE up in the PostgreSQL manual, appendix A, or at the server's own log",
  );
}

/** True where there is no connection any more, or never was one: not for an answer of the server. */
export function isConnectionLost(error: unknown): boolean {
  const { code = "", severity } = (error ?? {}) as Caught;
  return severity === undefined && CONNECTION_LOST.test(code);
}

/** What the constructor refuses. */
export function optionsError(message: string, hint: string, cause?: unknown): SinkError {
  return new SinkError(message, { kind: "sink-options", sink: "pgvector", hint, cause });
}

/** `expected 3 dimensions, not 2` of an insert, `different vector dimensions 3 and 2` of a search. */
function readDimensions(message: string): [expected: number, got: number] | undefined {
  const match = /expected (\d+) dimensions, not (\d+)/.exec(message) ??
    /different \w+ dimensions (\d+) and (\d+)/.exec(message);
  return match === null ? undefined : [Number(match[1]), Number(match[2])];
}

/** Class 22 is data; P0 what a trigger raised; 42601 and XX whatever a function said. */
function quotesValues(code: string): boolean {
  return /^(22|P0|XX)/.test(code);
}

/** `invalid input syntax for type bigint: "abc"` up to the value. */
function withoutValues(message: string): string {
  return message.startsWith("invalid input syntax for type ")
    ? message.replace(/:.*$/s, "")
    : "its message is left out, since it may quote values";
}

function createHint(table: string): string {
  return `Pass createTable: { dimensions } to the sink, or run: CREATE TABLE ${table} ` +
    "(id text PRIMARY KEY, vector vector(384), payload jsonb), with the dimensions of your model";
}
