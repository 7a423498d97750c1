/** What a stream that starts should know of how its tables are published. */
import { formatTableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { PublicationError } from "./errors.ts";
import { type Publication, publishedAs } from "./publication.ts";
import { differencesOf, differenceWarning } from "./published_differences.ts";
import type { CatalogTable } from "./tables.ts";
import type { WatchedTable } from "./watched_table.ts";
import { checkConditions, refusedPart } from "./wanted_tables.ts";

/**
 * Checks that rows can be told by what is published of them.
 *
 * @param options.tables what is watched, in the order of `tables`
 * @returns warnings of tables that are not published as they are watched
 * @throws {PublicationError} of kind `key-not-published`; `row-filter`: what is watched is no condition.
 */
export async function checkPublished(
  connection: Connection,
  publication: Publication,
  tables: readonly CatalogTable[],
  { publicationName, tables: watched, standby }: {
    publicationName: string;
    tables: readonly WatchedTable[];
    standby: boolean;
  },
  signal?: AbortSignal,
): Promise<string[]> {
  for (const table of tables) {
    const columns = publishedAs(publication, table)?.columns ?? table.primaryKey;
    const missing = table.primaryKey.filter((column) => !columns.includes(column));
    const { replicaIdentity } = table;
    // By another identity the rows can be told all the same.
    if (missing.length === 0 || replicaIdentity === "index" || replicaIdentity === "full") continue;
    throw new PublicationError(
      `Publication "${publicationName}" does not publish ${missing.join(", ")} of table ` +
        `"${formatTableName(table)}", by which its rows are told`,
      {
        kind: "key-not-published",
        publicationName,
        hint:
          "Watch columns with the primary key in them, and run setup(); where the publication " +
          "is somebody else's, choose another publicationName.",
      },
    );
  }
  checkConditions(publicationName, watched);
  const wanted = tables.map((table, index) => ({ ...table, publish: watched[index]! }));
  let differences;
  try {
    differences = await differencesOf(connection, publication, wanted, signal);
  } catch (error) {
    throw refusedPart(publicationName, wanted, error) ?? error;
  }
  const place = standby ? " on the primary" : "";
  return differences.map((difference) => differenceWarning(publicationName, difference, { place }));
}
