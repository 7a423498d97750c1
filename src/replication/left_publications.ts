/** Publications that were made for the time that somebody runs, and that outlived him. */
import { Connector, type ConnectorOptions } from "../wire/connector.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import { withDeadline } from "./deadline.ts";
import { ownershipComment } from "./publication_sql.ts";
import { rowsOf, textOf } from "./server.ts";

/** It is done beside something else. */
const TIMEOUT_MS = 10_000;

/**
 * Drops publications that a slot of the same name owns, which is not there any more; those that the role may drop.
 *
 * @param isLeft is asked for each name: nobody makes the slot yet
 * @returns their names
 * @throws what connecting meets, or the server says
 */
export async function dropLeftPublications(
  options: ConnectorOptions,
  isLeft: (name: string) => boolean,
  signal: AbortSignal = new AbortController().signal,
): Promise<string[]> {
  return await withDeadline("Dropping publications", TIMEOUT_MS, signal, async (signal) => {
    const connection = await new Connector(options).connect({ signal });
    try {
      const result = await connection.query(
        `SELECT p.pubname, pg_catalog.obj_description(p.oid, 'pg_publication') AS comment
          FROM pg_catalog.pg_publication p
          WHERE pg_catalog.pg_has_role(p.pubowner, 'USAGE') AND NOT pg_catalog.pg_is_in_recovery()
            AND p.pubname NOT IN (SELECT slot_name FROM pg_catalog.pg_replication_slots)`,
        { signal },
      );
      const names = rowsOf(result)
        .filter((row) => row.comment === ownershipComment(textOf(row, "pubname")))
        .map((row) => textOf(row, "pubname")).filter(isLeft);
      for (const name of names) {
        await connection.query(`DROP PUBLICATION IF EXISTS ${quoteIdentifier(name)}`, { signal });
      }
      return names;
    } finally {
      await connection.close();
    }
  });
}
