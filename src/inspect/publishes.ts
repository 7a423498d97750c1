/** Whether a publication will do as it is. */

import { connectForReplication } from "../replication/connect.ts";
import { withDeadline } from "../replication/deadline.ts";
import { publishedAs, readPublication } from "../replication/publication.ts";
import { readTables } from "../replication/tables.ts";
import { parseWatchedName } from "../replication/watched_table.ts";
import { Connector, type ConnectorOptions } from "../wire/connector.ts";

/** The server has this long to answer. */
const TIMEOUT_MS = 60_000;

/**
 * Tells whether the publication is there and carries the tables, all of their columns, rows and operations: then a
 * stream can read from it with nothing set up.
 *
 * @throws {ReplicationError} of kind `table-missing`, `table-not-publishable`; what connecting meets.
 */
export async function publishes(
  { publicationName, tables, signal = new AbortController().signal, ...source }:
    & ConnectorOptions
    & { publicationName: string; tables: readonly string[]; signal?: AbortSignal },
): Promise<boolean> {
  const connector = new Connector(source);
  const names = tables.map(parseWatchedName);
  return await withDeadline("publishes()", TIMEOUT_MS, signal, async (signal) => {
    const connection = await connectForReplication(connector, { signal });
    try {
      const wanted = await readTables(connection, names, signal);
      const publication = await readPublication(connection, publicationName, signal);
      if (publication === null || publication.unpublished.length > 0) return false;
      return wanted.every((table) => {
        const part = publishedAs(publication, table);
        return part !== null && part.columns === null && part.filter === null &&
          (!table.partitioned || publication.viaPartitionRoot);
      });
    } finally {
      await connection.close();
    }
  });
}
