/** Stores that lie in the source database, and in its publication: the stream would follow its own writes. */

import { readPublication } from "../replication/publication.ts";
import { identifySystem } from "../replication/server.ts";
import { connectForReplication } from "../replication/connect.ts";
import type { SinkLike } from "../sinks/sink.ts";
import { formatTableName, parseTableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";

/** What is to be warned of; nothing where no store tells where it is. */
export async function publishedStores(
  sinks: readonly SinkLike[],
  connector: Connector,
  publicationName: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const locations = (await Promise.all(sinks.map((sink) => sink.location?.() ?? null)))
    .filter((location) => location !== null);
  if (locations.length === 0) return [];
  const connection = await connectForReplication(connector, { signal });
  try {
    const { systemId, database } = await identifySystem(connection, signal);
    const publication = await readPublication(connection, publicationName, signal);
    if (publication === null) return [];
    const { allTables, schemas } = publication;
    const listed = new Set(publication.tables.map(formatTableName));
    const isPublished = (table: string) =>
      allTables || listed.has(table) || schemas.includes(parseTableName(table).schema);
    return locations
      .filter((store) => store.database === database && store.systemId === systemId)
      .flatMap(({ tables }) => tables.filter(isPublished))
      .map((table) =>
        `Publication "${publicationName}" publishes ${table}, to which the stream writes: each write ` +
        "comes back as a change. Keep the store in another database, or out of the publication"
      );
  } finally {
    await connection.close();
  }
}
