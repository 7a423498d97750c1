/** Whether rows can be told from one another by what the server sends of their changes. */

import { PgStreamError } from "../errors.ts";
import { type CatalogTable, readTables } from "../replication/tables.ts";
import { formatTableName, quoteTableName, type TableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";

/**
 * Looks at the tables as they are in the catalogue.
 *
 * @throws {PgStreamError} `sync-key`; {ReplicationError} `table-missing`
 */
export async function checkRowKeys(
  names: readonly TableName[],
  connector: Connector,
  signal: AbortSignal | undefined,
): Promise<void> {
  const connection = await connector.connect({ signal });
  try {
    for (const table of await readTables(connection, names, signal)) {
      if (!tellsKey(table)) throw keyMissing(table);
    }
  } finally {
    await connection.close();
  }
}

/** True where each change tells the primary key; the identities of partitions are not looked at. */
export function tellsKey(
  { primaryKey, replicaIdentity, identityIndex }: Pick<
    CatalogTable,
    "primaryKey" | "replicaIdentity" | "identityIndex"
  >,
): boolean {
  return primaryKey.length > 0 &&
    (replicaIdentity !== "index" || primaryKey.every((column) => identityIndex.includes(column)));
}

/** The error for a table of which it cannot be known which row was changed. */
export function keyMissing(name: TableName): PgStreamError {
  const table = formatTableName(name);
  return new PgStreamError(`Cannot sync ${table}: its changes do not tell the primary key`, {
    kind: "sync-key",
    hint: "Give it a primary key where it has none, then run: " +
      `ALTER TABLE ${quoteTableName(name)} REPLICA IDENTITY DEFAULT`,
  });
}
