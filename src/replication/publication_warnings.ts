/** What a set-up says of a publication that it leaves as it is, or that it has changed. */
import { formatTableName, type TableName } from "../table_name.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import type { Publication } from "./publication.ts";
import { optionsSql } from "./publication_sql.ts";

/** Warns of operations that no event will tell of. */
export function notPublishedWarnings(publicationName: string, existing: Publication): string[] {
  return existing.unpublished.map((operation) =>
    `Publication "${publicationName}" does not publish ${operation}: no such event will come. ` +
    `Run: ALTER PUBLICATION ${quoteIdentifier(publicationName)} ` +
    "SET (publish = 'insert, update, delete, truncate');"
  );
}

/**
 * Warns that generated columns are carried, or not, against what is wanted.
 *
 * @param place where to run the statement, `" on the primary"`; default: here
 */
export function generatedWarning(
  publicationName: string,
  generatedColumns: boolean,
  why: string,
  place = "",
): string {
  return `Publication "${publicationName}" ${
    generatedColumns ? "does not publish generated columns" : "publishes generated columns"
  }. It stays so: ${why}. Run${place}: ALTER PUBLICATION ${quoteIdentifier(publicationName)} SET ` +
    `${optionsSql({ viaPartitionRoot: false, generatedColumns })};`;
}

/** Says that what was not published of tables before is not sent by itself. */
export function notSentAgain(tables: readonly TableName[]): string {
  return `Of ${tables.map(formatTableName).join(", ")} other columns or rows are published from ` +
    "now on. Rows that are there already are not sent for that: to have them, call " +
    "stream.backfill(table) while the stream runs.";
}

/** Warns that another slot was to be the only one that reads it. */
export function sharedWarning(publicationName: string, owner: string, marked: boolean): string {
  return `Publication "${publicationName}" was made for slot "${owner}"` +
    (marked
      ? " and is shared from now on: neither slot's setup() removes tables from it"
      : ", whose setup() may remove tables from it: this role may not mark it as shared") +
    ". A publicationName for each slot keeps them apart.";
}

/** Warns of tables that stay in it. @param slotActivePid null: it is not ours */
export function leftAlone(
  publicationName: string,
  tables: readonly TableName[],
  slotActivePid: number | null,
): string {
  return `Publication "${publicationName}" also has ${
    tables.map(formatTableName).join(", ")
  }, not watched here. They stay: ${whyLeft(slotActivePid)}.`;
}

/** Why it is left as it is. @param slotActivePid null: it is not ours */
export function whyLeft(slotActivePid: number | null): string {
  return slotActivePid === null
    ? "its COMMENT does not say that this slot alone owns it"
    : `the slot is in use by PID ${slotActivePid}, which may watch them; setup() while nothing ` +
      "streams puts it right";
}
