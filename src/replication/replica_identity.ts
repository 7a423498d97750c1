/** Whether the changes of tables can be published, by what the catalogue says of them. */
import { formatTableName, quoteTableName } from "../table_name.ts";
import { ReplicationError } from "./errors.ts";
import type { CatalogTable } from "./tables.ts";

/**
 * Checks that publishing the tables breaks nobody: without a usable replica identity, every UPDATE
 * and DELETE of a published table fails for whoever runs it.
 * https://www.postgresql.org/docs/current/logical-replication-publication.html
 *
 * @param options.publishesGenerated what makes a stored generated column no trouble under FULL: before
 * PostgreSQL 18 it is none, since then the publication may carry it
 * @param options.standby what is to be run is to be run elsewhere. Default: false
 * @returns warnings about what works, though not as one might think
 * @throws {ReplicationError} of kind `replica-identity`, with the statement to run.
 */
export function checkReplicaIdentity(
  tables: readonly CatalogTable[],
  { publishesGenerated, standby = false }: { publishesGenerated: boolean; standby?: boolean },
): string[] {
  const warnings: string[] = [];
  for (const table of tables) {
    const trouble = identityTrouble(table, publishesGenerated);
    if (trouble !== null) {
      throw new ReplicationError(trouble.message, {
        kind: "replica-identity",
        hint: standby ? `On the primary: ${trouble.hint}` : trouble.hint,
      });
    }
    for (const { message, hint } of identityWarnings(table)) warnings.push(`${message}. ${hint}`);
  }
  return warnings;
}

/** Something about a table, and what to do about it. */
export interface TableTrouble {
  message: string;
  hint: string;
}

/** What works, though not as one might think. */
export function identityWarnings(table: CatalogTable): TableTrouble[] {
  const name = formatTableName(table);
  const warnings: TableTrouble[] = [];
  const uncovered = table.primaryKey.filter((column) => !table.identityIndex.includes(column));
  if (table.replicaIdentity === "index" && uncovered.length > 0) {
    warnings.push({
      message:
        `Table "${name}" has an index as its replica identity that lacks the primary key's ` +
        `${uncovered.join(", ")}: a DELETE is known by the index's columns only, and a change of ` +
        "the primary key goes unnoticed",
      hint: `Run: ${alter(table)} REPLICA IDENTITY DEFAULT;`,
    });
  }
  if (table.deferrableKey) {
    warnings.push({
      message: `Table "${name}" has a DEFERRABLE primary key: rows may swap their keys within a ` +
        "transaction, and what is kept by key then loses one of them, since its old key is the " +
        "other's by then",
      hint: "Make the key again, NOT DEFERRABLE.",
    });
  }
  return warnings;
}

/** Why the table's writers would fail once it is published; null: they would not. */
export function identityTrouble(
  table: CatalogTable,
  publishesGenerated: boolean,
): TableTrouble | null {
  const name = formatTableName(table);
  const fail = (message: string, hint: string) => ({ message, hint });
  const broken = "its UPDATE and DELETE would fail once it is published";
  let unpublished: readonly string[];
  switch (table.replicaIdentity) {
    case "default":
      if (table.deferrableKey && !table.partitioned) {
        return fail(
          `The primary key of table "${name}" is DEFERRABLE, and no replica identity: ${broken}`,
          `Make it again, NOT DEFERRABLE, or run: ${alter(table)} REPLICA IDENTITY FULL;`,
        );
      }
      if (table.primaryKey.length > 0) break;
      return fail(
        `Table "${name}" has no primary key: ${broken}`,
        `Add a primary key, or run: ${alter(table)} REPLICA IDENTITY FULL;`,
      );
    case "nothing":
      // The identity that counts for updates is the partitions'; the root's key names the row.
      if (table.partitioned && table.primaryKey.length > 0) break;
      return fail(
        `Table "${name}" has REPLICA IDENTITY NOTHING: ${broken}`,
        `Run: ${alter(table)} REPLICA IDENTITY ${usableIdentity(table)};`,
      );
    case "index":
      if (table.identityIndex.length > 0) break;
      return fail(
        `The index that is the replica identity of table "${name}" is gone: ${broken}`,
        `Run: ${alter(table)} REPLICA IDENTITY ${usableIdentity(table)};`,
      );
    case "full":
      unpublished = publishesGenerated ? table.virtual : table.generated;
      if (unpublished.length === 0) break;
      return fail(
        `Table "${name}" has REPLICA IDENTITY FULL and generated columns ` +
          `(${unpublished.join(", ")}) that are not published: ${broken}`,
        (usableIdentity(table) === "DEFAULT"
          ? `Run: ${alter(table)} REPLICA IDENTITY DEFAULT;`
          : "Add a primary key and go back to REPLICA IDENTITY DEFAULT.") +
          (table.virtual.length > 0 ? "" : " Or set publishGeneratedColumns: true."),
      );
  }
  if (table.partitionsWithoutIdentity.length > 0) {
    return fail(
      `Partitions of "${name}" have no usable replica identity: ${broken} ` +
        `(${table.partitionsWithoutIdentity.join(", ")})`,
      "Give the root a primary key, or run for each partition: " +
        "ALTER TABLE … REPLICA IDENTITY FULL;",
    );
  }
  return null;
}

function usableIdentity({ primaryKey, deferrableKey }: CatalogTable): string {
  return primaryKey.length > 0 && !deferrableKey ? "DEFAULT" : "FULL";
}

function alter(table: CatalogTable): string {
  return `ALTER TABLE ${quoteTableName(table)}`;
}
