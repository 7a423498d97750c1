/**
 * Whether the columns and rows that are published let UPDATE and DELETE work: the server refuses both where
 * a column list lacks a column of the replica identity, or a row filter uses another one.
 * https://www.postgresql.org/docs/current/logical-replication-row-filter.html#LOGICAL-REPLICATION-ROW-FILTER-RESTRICTIONS
 */
import { formatTableName, quoteTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteIdentifier, quoteLiteral } from "../wire/quote.ts";
import { ReplicationError } from "./errors.ts";
import type { WantedTable } from "./publication_sql.ts";
import { readFilterColumns } from "./row_filter.ts";
import { rowsOf } from "./server.ts";
import type { CatalogTable } from "./tables.ts";

const BROKEN = "its UPDATE and DELETE would fail";

/**
 * Checks that column lists have the columns that rows are known by.
 *
 * @returns warnings about what works, though not as one might think
 * @throws {ReplicationError} of kind `identity-not-covered`.
 */
export function checkListsCoverIdentity(tables: readonly WantedTable[]): string[] {
  const warnings: string[] = [];
  for (const table of tables) {
    const { columns } = table.publish;
    if (columns === null) continue;
    const name = formatTableName(table);
    if (table.replicaIdentity === "full" && !table.partitioned) {
      throw notCovered(
        `Table "${name}" has REPLICA IDENTITY FULL, which goes with no list of columns: ${BROKEN}`,
        `Watch all of its columns${
          table.primaryKey.length === 0 ? "." : `, or run: ${identityDefault(table)}`
        }`,
      );
    }
    const lacks = (needed: readonly string[]) =>
      needed.filter((column) => !columns.includes(column));
    const missing = lacks(identityColumns(table) ?? []);
    if (missing.length > 0) {
      throw notCovered(
        `The columns watched of table "${name}" lack ${missing.join(", ")} of its replica ` +
          `identity: ${BROKEN}`,
        `Add ${missing.join(", ")} to its columns.`,
      );
    }
    const unknown = lacks(table.primaryKey);
    if (unknown.length > 0) {
      warnings.push(
        `The columns watched of table "${name}" lack ${
          unknown.join(", ")
        } of its primary key: its ` +
          "rows are known by the columns of its replica identity instead. Add " +
          `${unknown.join(", ")} to its columns.`,
      );
    }
  }
  return warnings;
}

/**
 * Checks the row filters that a publication has for these tables, in the transaction that has set them.
 *
 * @throws {ReplicationError} of kind `identity-not-covered`.
 */
export async function checkFiltersUseIdentity(
  connection: Connection,
  publicationName: string,
  tables: readonly WantedTable[],
  signal?: AbortSignal,
): Promise<void> {
  const filtered = tables.filter((table) => table.publish.where !== null);
  if (filtered.length === 0) return;
  const used = await readFilterColumns(connection, publicationName, signal);
  for (const table of filtered) {
    const identity = identityColumns(table);
    const others = (used.get(table.oid) ?? []).filter((column) =>
      identity !== null && !identity.includes(column)
    );
    if (others.length === 0) continue;
    const full = `${alter(table)} REPLICA IDENTITY FULL;`;
    throw notCovered(
      `The row filter of table "${formatTableName(table)}" uses ${others.join(", ")}, which ` +
        `${others.length === 1 ? "is" : "are"} not in its replica identity: ${BROKEN}`,
      `Use only ${identity!.join(", ")} in it; or ` +
        (table.publish.columns === null ? `run: ${full}` : `watch all columns, and run: ${full}`),
    );
  }
}

/**
 * Asks the server, in the transaction that has changed a publication, whether the tables' writers could go
 * on: EXPLAIN makes an UPDATE or DELETE ready, with all checks, and runs none of it.
 *
 * @param operations those that the publication carries
 * @throws {ReplicationError} of kind `identity-not-covered`, in the server's words.
 */
export async function checkWriters(
  connection: Connection,
  tables: readonly CatalogTable[],
  operations: { update: boolean; delete: boolean },
  signal?: AbortSignal,
): Promise<void> {
  const privilege = operations.delete ? "DELETE" : "UPDATE";
  if (tables.length === 0 || !(operations.delete || operations.update)) return;
  // Who may not write does not get so far as to be told.
  const allowed = await connection.query(
    `SELECT c.oid, (SELECT a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
        AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum LIMIT 1) AS column
      FROM pg_catalog.pg_class c WHERE c.oid IN (${tables.map(({ oid }) => oid).join(", ")})
        AND pg_catalog.has_table_privilege(c.oid, '${privilege}')`,
    { signal },
  );
  for (const row of rowsOf(allowed)) {
    const table = tables.find(({ oid }) => oid === Number(row.oid));
    if (table === undefined || row.column == null) continue;
    // What inherits from a table is another one; the partitions of a root are its rows.
    const target = `${table.partitioned ? "" : "ONLY "}${quoteTableName(table)}`;
    // Any column may be set to its default, also one that is generated.
    const statement = operations.delete
      ? `DELETE FROM ${target}`
      : `UPDATE ${target} SET ${quoteIdentifier(row.column)} = DEFAULT`;
    try {
      await connection.query(`SAVEPOINT asked; EXPLAIN ${statement}`, { signal });
    } catch (error) {
      if (!(error instanceof PostgresError)) throw error;
      if (!REFUSALS.has(error.code)) {
        // It could not be told, say for a partition that is elsewhere.
        await connection.query("ROLLBACK TO SAVEPOINT asked", { signal });
        continue;
      }
      const { summary, detail } = error;
      throw notCovered(
        `Table "${formatTableName(table)}" cannot be published so, ${BROKEN}: ${summary}` +
          // Of this code it is a sentence about publications.
          `${
            error.code === "42P10" && detail !== undefined ? ` (${detail.replace(/\.$/, "")})` : ""
          }`,
        `${toldBy(table)}What this and other publications have of it: ` +
          `SELECT * FROM pg_publication_tables WHERE tablename = ${quoteLiteral(table.table)};`,
        error,
      );
    }
  }
}

/** How the server says that a row could not be told: 55000 without lists and filters, 42P10 with them. */
const REFUSALS = new Set(["42P10", "55000"]);

function toldBy({ primaryKey }: CatalogTable): string {
  if (primaryKey.length === 0) return "";
  return `By default its rows are told by ${primaryKey.join(", ")}: columns has to name all of ` +
    "these, and where may use no others. ";
}

/** By which a row is told; null: by all it has, or each partition has columns of its own for it. */
function identityColumns(table: CatalogTable): readonly string[] | null {
  if (table.partitioned) return null;
  switch (table.replicaIdentity) {
    case "default":
      return table.primaryKey;
    case "index":
      return table.identityIndex;
    default:
      return null;
  }
}

function notCovered(message: string, hint: string, cause?: PostgresError): ReplicationError {
  return new ReplicationError(message, { kind: "identity-not-covered", hint, cause });
}

function identityDefault(table: TableName): string {
  return `${alter(table)} REPLICA IDENTITY DEFAULT;`;
}

function alter(table: TableName): string {
  return `ALTER TABLE ${quoteTableName(table)}`;
}
