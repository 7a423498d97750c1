/** The tables: whether their changes can be published, and what of a row is told. */

import { PgStreamError } from "../errors.ts";
import { identityTrouble, identityWarnings } from "../replication/replica_identity.ts";
import { rowsOf } from "../replication/server.ts";
import { type CatalogTable, readTables } from "../replication/tables.ts";
import type { WatchedTable } from "../replication/watched_table.ts";
import { formatTableName, quoteTableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import type { Findings } from "./findings.ts";

/** What is known of how tables are used. */
export interface TableUse {
  /** Stored generated columns are published, or may be (18+). */
  publishesGenerated: boolean;
  /** What an update did not send is read again: by `readUnchanged`, or `sync`. */
  readsUnchanged: boolean;
}

/** Looks at the tables. @returns those that are there, with what is watched of them */
export async function findTables(
  connection: Connection,
  tables: readonly WatchedTable[],
  use: TableUse,
  findings: Findings,
  signal: AbortSignal,
): Promise<{ table: CatalogTable; watched: WatchedTable }[]> {
  const found = [];
  for (const watched of tables) {
    const name = formatTableName(watched);
    try {
      // One by one: what is wrong with one says nothing of the others.
      const [table] = await readTables(connection, [watched], signal);
      found.push({ table: table!, watched });
    } catch (error) {
      if (signal.aborted || !(error instanceof PgStreamError)) throw error;
      findings.error(error, name);
    }
  }
  for (const { table, watched } of found) {
    findIdentity(connection, table, use, findings);
    await findValues(connection, table, watched, use, findings, signal);
  }
  return found;
}

function findIdentity(
  connection: Connection,
  table: CatalogTable,
  { publishesGenerated }: TableUse,
  findings: Findings,
): void {
  const name = formatTableName(table);
  const trouble = identityTrouble(table, connection.serverVersion < 180000 || publishesGenerated);
  if (trouble !== null) findings.problem("replica-identity", trouble.message, trouble.hint, name);
  const warnings = trouble === null ? identityWarnings(table) : [];
  for (const { message, hint } of warnings) {
    findings.warning("replica-identity", message, hint, name);
  }
  if (trouble === null && warnings.length === 0) {
    const { replicaIdentity, primaryKey, identityIndex } = table;
    const known = replicaIdentity === "full"
      ? "their whole old row (REPLICA IDENTITY FULL)"
      : (replicaIdentity === "index" ? identityIndex : primaryKey).join(", ");
    findings.ok("replica-identity", `Updates and deletes are told by ${known}`, name);
  }
  if (table.primaryKey.length === 0) {
    findings.warning(
      "primary-key",
      "The table has no primary key: rows that are there already cannot be read, and nothing is " +
        "kept by key",
      `ALTER TABLE ${quoteTableName(table)} ADD PRIMARY KEY (…);`,
      name,
    );
  }
}

async function findValues(
  connection: Connection,
  table: CatalogTable,
  watched: WatchedTable,
  { publishesGenerated, readsUnchanged }: TableUse,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const name = formatTableName(table);
  const [row] = rowsOf(
    await connection.query(
      `SELECT pg_catalog.quote_ident(current_user) AS role,
        pg_catalog.has_table_privilege(c.oid, 'SELECT') OR NOT EXISTS (
          SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
            AND NOT a.attisdropped
            AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')) AS may_read,
        pg_catalog.row_security_active(c.oid) AS row_security,
        CASE WHEN c.reltoastrelid = 0 THEN 0
          ELSE pg_catalog.pg_relation_size(c.reltoastrelid) END AS toast_bytes
      FROM pg_catalog.pg_class c WHERE c.oid = ${table.oid}`,
      { signal },
    ),
  );
  if (row === undefined) return;
  if (row.may_read !== "t") {
    findings.warning(
      "select-privilege",
      "The role may not read the table: changes come, but not the rows that are there already",
      `GRANT SELECT ON ${quoteTableName(table)} TO ${row.role};`,
      name,
    );
  }
  if (row.row_security === "t") {
    findings.warning(
      "row-security",
      "Policies hide rows of the table from the role, where it reads those that are there: their " +
        "changes come all the same",
      `ALTER ROLE ${row.role} BYPASSRLS;`,
      name,
    );
  }
  if (Number(row.toast_bytes) > 0 && table.replicaIdentity !== "full" && !readsUnchanged) {
    findings.warning(
      "unchanged-values",
      "The table has large values, which an update that leaves them alone does not send",
      "readUnchanged: true, or sync(), which both read them again; or: " +
        `ALTER TABLE ${quoteTableName(table)} REPLICA IDENTITY FULL;`,
      name,
    );
  }
  const unpublished =
    (publishesGenerated && connection.serverVersion >= 180000 ? table.virtual : table.generated)
      .filter((column) => watched.columns?.includes(column) ?? true);
  if (unpublished.length > 0) {
    const columns = unpublished.map(quoteIdentifier).join(", ");
    const stored = unpublished.every((column) => !table.virtual.includes(column));
    findings.warning(
      "generated-columns",
      `Generated columns are not published: no change tells ${columns}`,
      connection.serverVersion >= 180000 && stored
        ? "publishGeneratedColumns: true, and run setup()"
        : "Work them out where they are used, or make plain columns of them",
      name,
    );
  }
}
