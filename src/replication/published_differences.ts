/** What a publication carries of the watched tables, beside what is watched of them. */
import { formatTableName, quoteTableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { type Publication, type PublishedAs, publishedAs } from "./publication.ts";
import { changeTablesSql, type WantedTable } from "./publication_sql.ts";
import { isSameFilter } from "./row_filter.ts";

/** A table that is published, but not as it is watched. */
export interface Difference {
  table: WantedTable;
  published: PublishedAs;
  /** False where that is not known: the role may not ask the server about the row filter. */
  known: boolean;
  /** True where the publication lists the table: it can be changed there. */
  listed: boolean;
}

/** Those tables of the publication that are not published as they are watched. */
export async function differencesOf(
  connection: Connection,
  publication: Publication,
  tables: readonly WantedTable[],
  signal?: AbortSignal,
): Promise<Difference[]> {
  const differences: Difference[] = [];
  for (const table of tables) {
    const published = publishedAs(publication, table);
    if (published === null) continue;
    const { columns, where } = table.publish;
    const same = !sameColumns(columns, published.columns)
      ? false
      : where === null || published.filter === null
      ? where === published.filter
      : await isSameFilter(connection, table, where, published.filter, signal);
    if (same === true) continue;
    const listed = published === publication.byOid.get(table.oid);
    differences.push({ table, published, known: same === false, listed });
  }
  return differences;
}

function sameColumns(one: readonly string[] | null, other: readonly string[] | null): boolean {
  if (one === null || other === null) return one === other;
  return one.length === other.length && one.every((column) => other.includes(column));
}

/**
 * Says of a difference that it is there, and how to be rid of it.
 *
 * @param options.why it is left as it is, a sentence's end
 * @param options.place where to run the statement, `" on the primary"`; default: here
 */
export function differenceWarning(
  publicationName: string,
  { table, published, known, listed }: Difference,
  { why, place = "" }: { why?: string | undefined; place?: string },
): string {
  const name = formatTableName(table);
  if (!known) {
    return `Publication "${publicationName}" publishes rows of table "${name}" where ` +
      `${published.filter}: whether that is what is watched, this role may not ask. ` +
      `GRANT SELECT ON ${quoteTableName(table)} to it.`;
  }
  const { columns, where } = table.publish;
  const watched = words(columns, where);
  const way = listed
    ? `Run${place}: BEGIN; ${changeTablesSql(publicationName, [table])}; COMMIT;`
    : "Choose another publicationName: this one carries all tables, or all of the schema.";
  return `Publication "${publicationName}" publishes ${
    words(published.columns, published.filter)
  } of table "${name}", where ${watched} are watched` +
    `${why === undefined ? "" : `. It stays so: ${why}`}. ${way}`;
}

function words(columns: readonly string[] | null, filter: string | null): string {
  const which = columns === null ? "all columns" : `only the columns ${columns.join(", ")}`;
  return `${which} of ${filter === null ? "all rows" : `the rows with ${filter}`}`;
}
