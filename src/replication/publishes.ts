/** `SlotManager.publishes()`. Loaded when it is called. */
import { connectForReplication } from "./connect.ts";
import { withDeadline } from "./deadline.ts";
import { publishedAs, readPublication } from "./publication.ts";
import type { Setup } from "./setup.ts";
import { readTables } from "./tables.ts";

/** As it says. @throws as it does */
export async function publishes(
  { connector, publicationName, tables, answerTimeoutMs }: Setup,
  signal: AbortSignal = new AbortController().signal,
): Promise<boolean> {
  return await withDeadline("publishes()", answerTimeoutMs, signal, async (signal) => {
    const connection = await connectForReplication(connector, { signal });
    try {
      const wanted = await readTables(connection, tables, signal);
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
