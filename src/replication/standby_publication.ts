/** The publication of a stream from a standby: it is made on the primary, and comes here by replication. */
import { formatTableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import { PublicationError } from "./errors.ts";
import { checkPartitionRoots, type Publication, unpublishedTables } from "./publication.ts";
import { addTablesSql, createPublicationSql, type WantedTable } from "./publication_sql.ts";
import { differencesOf, differenceWarning } from "./published_differences.ts";
import { generatedWarning, notPublishedWarnings } from "./publication_warnings.ts";
import type { PublicationChange, PublicationUse } from "./reconcile.ts";

const PLACE = " on the primary";
const WHY = "a standby cannot change it";

/**
 * What `reconcilePublication` is on a primary: changes nothing, and checks that nothing has to be changed.
 *
 * @param publication as the standby shows it; null: there is none
 * @throws {PublicationError} `publication-missing`, `table-not-published`, `publication-partition-root`, each with
 * what to run on the primary.
 */
export async function checkPublicationOnStandby(
  connection: Connection,
  use: PublicationUse,
  publication: Publication | null,
  tables: readonly WantedTable[],
  signal?: AbortSignal,
): Promise<PublicationChange> {
  const { publicationName } = use;
  if (publication === null) {
    throw new PublicationError(
      `Publication "${publicationName}" does not exist, and a standby cannot make it`,
      {
        kind: "publication-missing",
        publicationName,
        hint: onPrimary(createPublicationSql(use, tables, connection.serverVersion)),
      },
    );
  }
  const missing = unpublishedTables(publication, tables);
  if (missing.length > 0) {
    throw new PublicationError(
      `Publication "${publicationName}" does not publish ${
        missing.map(formatTableName).join(", ")
      }, and a standby cannot add it`,
      {
        kind: "table-not-published",
        publicationName,
        hint: onPrimary(
          `ALTER PUBLICATION ${quoteIdentifier(publicationName)} ${addTablesSql(missing)}`,
        ),
      },
    );
  }
  checkPartitionRoots(publicationName, publication, tables);
  const differences = await differencesOf(connection, publication, tables, signal);
  const { generatedColumns: generated } = use;
  return {
    publication: "found",
    added: [],
    removed: [],
    changed: [],
    warnings: [
      ...differences.map((difference) =>
        differenceWarning(publicationName, difference, { why: WHY, place: PLACE })
      ),
      ...generated !== undefined && generated !== publication.generatedColumns
        ? [generatedWarning(publicationName, generated, WHY, PLACE)]
        : [],
      ...notPublishedWarnings(publicationName, publication),
    ],
  };
}

function onPrimary(sql: string): string {
  return `Run on the primary: ${sql}; then setup() here again`;
}
