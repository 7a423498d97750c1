/** What is to be published, against what there is to publish. */
import { formatTableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteLiteral } from "../wire/quote.ts";
import { whatIsOpen } from "../wire/sql_condition.ts";
import { PublicationError, ReplicationError } from "./errors.ts";
import type { WantedTable } from "./publication_sql.ts";
import { namesOf, rowsOf } from "./server.ts";
import type { CatalogTable } from "./tables.ts";
import type { WatchedTable } from "./watched_table.ts";

/**
 * Checks that the server's version has what is asked for.
 *
 * @throws {ReplicationError} of kind `not-supported`.
 */
export function checkSupported(
  connection: Connection,
  { tables, publishGeneratedColumns }: {
    tables: readonly WatchedTable[];
    publishGeneratedColumns: boolean | undefined;
  },
): void {
  const part = tables.find(({ columns, where }) => columns !== null || where !== null);
  if (part !== undefined && connection.serverVersion < 150000) {
    const what = part.columns !== null ? "some columns" : "some rows";
    throw notSupported(
      connection,
      `publishes no table in part, as is wanted of ${what} of "${formatTableName(part)}"`,
      "Column lists and row filters need PostgreSQL 15 or later: leave columns and where out, and " +
        "choose in the handler.",
    );
  }
  if (publishGeneratedColumns === true && connection.serverVersion < 180000) {
    throw notSupported(
      connection,
      "publishes no generated columns",
      "They need PostgreSQL 18 or later: leave publishGeneratedColumns out.",
    );
  }
}

/** Puts together what the catalogue has of tables and what is to be published of them, in the same order. */
export function wantedTables(
  found: readonly CatalogTable[],
  watched: readonly WatchedTable[],
): WantedTable[] {
  return found.map((table, index) => {
    const { columns, where } = watched[index]!;
    return { ...table, publish: { columns, where } };
  });
}

/**
 * Checks that each condition is one text in its own right, before it is put into a statement.
 *
 * @throws {PublicationError} of kind `row-filter`.
 */
export function checkConditions(publicationName: string, tables: readonly WatchedTable[]): void {
  for (const table of tables) {
    const open = table.where === null ? null : whatIsOpen(table.where);
    if (open === null) continue;
    throw new PublicationError(
      `The row filter of table "${formatTableName(table)}" is not one condition: ${open} in it ` +
        "has no place there, or no end",
      {
        kind: "row-filter",
        publicationName,
        hint: "Pass what stands between the parentheses of WHERE (…), such as: id > 1000",
      },
    );
  }
}

function notSupported(connection: Connection, what: string, hint: string): ReplicationError {
  const version = connection.parameters.get("server_version") ?? "of unknown version";
  return new ReplicationError(`The server is PostgreSQL ${version}, which ${what}`, {
    kind: "not-supported",
    hint,
  });
}

/**
 * Checks that the columns are there, and that they can be published.
 *
 * @throws {ReplicationError} of kind `column-missing`, naming those that are there; `column-list`.
 */
export async function checkColumns(
  connection: Connection,
  tables: readonly WantedTable[],
  signal?: AbortSignal,
): Promise<void> {
  const listed = tables.filter((table) => table.publish.columns !== null);
  if (listed.length === 0) return;
  const oids = listed.map(({ oid }) => oid).join(", ");
  const result = await connection.query(
    `SELECT a.attrelid, pg_catalog.json_agg(a.attname ORDER BY a.attnum) AS columns
      FROM pg_catalog.pg_attribute a
      WHERE a.attrelid IN (${oids}) AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1`,
    { signal },
  );
  const columnsOf = new Map(
    rowsOf(result).map((row) => [Number(row.attrelid), namesOf(row, "columns")]),
  );
  for (const table of listed) {
    const name = formatTableName(table);
    const columns = columnsOf.get(table.oid) ?? [];
    const missing = table.publish.columns!.filter((column) => !columns.includes(column));
    if (missing.length > 0) {
      throw new ReplicationError(`Table "${name}" has no column ${missing.join(", ")}`, {
        kind: "column-missing",
        hint: `It has ${columns.join(", ")}. Names are literal.`,
      });
    }
    const unpublishable = connection.serverVersion < 180000 ? table.generated : table.virtual;
    const refused = table.publish.columns!.filter((column) => unpublishable.includes(column));
    if (refused.length > 0) {
      throw new ReplicationError(
        `Column ${refused.join(", ")} of table "${name}" is generated and cannot be published`,
        {
          kind: "column-list",
          hint: "PostgreSQL 18 and later publish generated columns that are stored. Leave it out.",
        },
      );
    }
  }
}

/** Of what SQLSTATEs a condition, or a list, is refused that cannot be one of a publication. */
const NO_SUCH_PART = new Set([
  "0A000", // of what a publication cannot do
  "22023",
  "42601", // a syntax error
  "42702",
  "42703", // no such column
  "42804", // no condition
  "42883", // no such function or operator
  "42P10",
  "42P17",
  "42P01",
]);

function isPart({ publish: { columns, where } }: WantedTable): boolean {
  return columns !== null || where !== null;
}

/** The error for a list or a condition that the server refuses; null where `error` does not say that. */
export function refusedPart(
  publicationName: string,
  tables: readonly WantedTable[],
  error: unknown,
): PublicationError | null {
  if (!(error instanceof PostgresError)) return null;
  // Of a table that another set-up has removed, too; but then no place in the statement is told.
  const noType = error.code === "42704" && error.position !== undefined;
  if (!noType && !NO_SUCH_PART.has(error.code)) return null;
  if (!tables.some(isPart)) return null;
  const filters = tables.filter((table) => table.publish.where !== null);
  const parts = filters.length > 0 ? filters : tables.filter(isPart);
  const detail = error.detail === undefined ? "" : ` (${error.detail.replace(/\.$/, "")})`;
  return new PublicationError(
    `The server does not take what is to be published of ${
      parts.map(formatTableName).join(", ")
    }: ${error.summary}${detail}`,
    {
      kind: filters.length > 0 ? "row-filter" : "column-list",
      publicationName,
      hint: filters.length > 0
        ? "A row filter is a condition on columns of the table itself, with operators and functions " +
          "that are built in and immutable."
        : "Look at the columns of the table, and at what else the publication has: " +
          `SELECT * FROM pg_publication_tables WHERE pubname = ${quoteLiteral(publicationName)};`,
      cause: error,
    },
  );
}
