/** What a stream finds on the server before it starts. */
import type { Lsn } from "../lsn.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";
import { PublicationError } from "./errors.ts";
import { checkPartitionRoots, readPublication, unpublishedTables } from "./publication.ts";
import { currentDatabase } from "./server.ts";
import { checkSlot, readSlot, slotMissing } from "./slot.ts";
import { type CatalogTable, readTables } from "./tables.ts";

/** Where a stream goes on, and what it watches. */
export interface StreamStart {
  /** The watched tables, as the catalogue shows them. */
  tables: readonly CatalogTable[];
  /** The slot's position. */
  confirmedLsn: Lsn;
}

/**
 * Checks that slot, publication and tables are there and fit each other: what is missing would else be
 * noticed at some later change, or never.
 *
 * @throws {SlotError} `slot-missing` and those of `checkSlot`; {PublicationError} `publication-missing`,
 * `table-not-published`, `publication-partition-root`; {ReplicationError} `table-missing`.
 */
export async function readStart(
  connector: Connector,
  { slotName, publicationName, tables: names }: {
    slotName: string;
    publicationName: string;
    tables: readonly TableName[];
  },
  signal: AbortSignal,
): Promise<StreamStart> {
  const hint = "Run setup() first: it creates what is missing.";
  const connection = await connector.connect({ signal });
  try {
    const slot = await readSlot(connection, slotName, signal);
    if (slot === null) throw slotMissing(slotName);
    checkSlot(slotName, slot, await currentDatabase(connection, signal));
    const publication = await readPublication(connection, publicationName, signal);
    if (publication === null) {
      throw new PublicationError(`Publication "${publicationName}" does not exist`, {
        kind: "publication-missing",
        publicationName,
        hint,
      });
    }
    const tables = await readTables(connection, names, signal);
    const unpublished = unpublishedTables(publication, tables).map(formatTableName);
    if (unpublished.length > 0) {
      throw new PublicationError(
        `Publication "${publicationName}" does not publish ${unpublished.join(", ")}`,
        { kind: "table-not-published", publicationName, hint },
      );
    }
    checkPartitionRoots(publicationName, publication, tables);
    return { tables, confirmedLsn: slot.confirmedFlushLsn! };
  } finally {
    await connection.close();
  }
}
