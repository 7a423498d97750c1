/** What an initial backfill needs on the server, made or checked before slot and publication are. */
import { readPublication, unpublishedTables } from "../replication/publication.ts";
import { onlyRow } from "../replication/server.ts";
import { readSlot } from "../replication/slot_state.ts";
import { checkStandbyDecodes, readReplayedLsn } from "../replication/standby.ts";
import { type CatalogTable, readTables } from "../replication/tables.ts";
import { formatTableName, quoteTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import { BackfillError } from "./errors.ts";
import { prepareStateTable, standbyKeepsNoState } from "./postgres_state_store.ts";
import type { Progress } from "./progress.ts";

/** What is prepared. */
export interface PrepareOptions {
  connector: Connector;
  slotName: string;
  publicationName: string;
  tables: readonly TableName[];
  /** True for tables whose rows are to be read. */
  reads: (table: TableName) => boolean;
  /** Null: none is kept. */
  progress: Progress | null;
  /** True where progress is kept in the source database. */
  stateTable: boolean;
}

/**
 * Makes the table of states where it is missing, and takes back what an earlier slot or publication has
 * handed out: what was changed while they were not there was missed.
 *
 * @throws {BackfillError} `select-privilege`: the role may not read a table; `state-store`: it may not make its own, or
 * the source is a standby; {ReplicationError} `standby`: it is one that does not decode.
 */
export async function prepareBackfill(
  options: PrepareOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { connector, slotName, publicationName, progress } = options;
  const connection = await connector.connect({ signal });
  try {
    if (await readReplayedLsn(connection, signal) !== null) {
      checkStandbyDecodes(connection);
      if (options.stateTable) throw standbyKeepsNoState();
    }
    const tables = await readTables(connection, options.tables, signal);
    const read = tables.filter(options.reads);
    await checkReadable(connection, read, connector.options.user, signal);
    if (progress === null) return;
    if (options.stateTable) await prepareStateTable(connection, signal);
    await progress.load();
    if (progress.server === null) return;
    const slot = await readSlot(connection, slotName, signal);
    const publication = await readPublication(connection, publicationName, signal);
    if (slot === null || publication === null) {
      progress.invalidate();
      progress.server = null;
    } else {
      const unpublished = new Set(unpublishedTables(publication, tables).map(formatTableName));
      if (unpublished.size === 0) return;
      progress.invalidate(({ table }) => unpublished.has(table));
    }
    // Before they are made: whoever is killed in between has nothing that looks whole.
    await progress.save();
  } finally {
    await connection.close();
  }
}

async function checkReadable(
  connection: Connection,
  tables: readonly CatalogTable[],
  user: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (tables.length === 0) return;
  const each = tables.map(({ oid }) => `pg_catalog.has_table_privilege(${oid}, 'SELECT')`);
  const result = await connection.query(`SELECT ${each.join(", ")}`, { signal });
  const readable = onlyRow(result, each.length);
  const hidden = tables.filter((_, place) => readable[place] !== "t");
  if (hidden.length === 0) return;
  const role = quoteIdentifier(user);
  throw new BackfillError(
    `Role ${role} may not read ${hidden.map(formatTableName).join(", ")}, as a backfill has to`,
    {
      kind: "select-privilege",
      hint: `Run: GRANT SELECT ON ${hidden.map(quoteTableName).join(", ")} TO ${role};`,
    },
  );
}
