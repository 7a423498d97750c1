/** Which table is to be watched, and what of it, as it was given. */
import { parseTableName, type TableName } from "../table_name.ts";
import { ReplicationError } from "./errors.ts";

/** A table that is to be watched, and what of it. */
export interface WatchedTable extends TableName {
  /** Only these columns, in any order; null: all. */
  columns: readonly string[] | null;
  /** Only rows for which this SQL condition holds; null: all. */
  where: string | null;
}

/**
 * Reads the name of a table that is to be watched.
 *
 * @throws {ReplicationError} of kind `table-name`.
 */
export function parseWatchedName(name: string): TableName {
  try {
    return parseTableName(name);
  } catch (cause) {
    throw new ReplicationError((cause as RangeError).message, {
      kind: "table-name",
      hint: 'Write table or schema.table, with "double quotes" around a part that has a dot.',
      cause,
    });
  }
}

/**
 * Reads what is to be watched of a table.
 *
 * @param options.columns only these; default: all
 * @param options.where only rows for which this SQL condition holds; default: all
 * @throws {ReplicationError} of kind `table-name` or `invalid-option`.
 */
export function parseWatched(
  table: string,
  { columns, where, ...unknown }: { columns?: readonly string[]; where?: string } = {},
): WatchedTable {
  const name = parseWatchedName(table);
  const fits = (text: unknown) =>
    typeof text === "string" && text.trim() !== "" && !text.includes("\0");
  const refuse = (option: string, hint: string) => {
    throw new ReplicationError(`The option ${option} of table "${table}" cannot be that`, {
      kind: "invalid-option",
      hint,
    });
  };
  for (const option of Object.keys(unknown)) refuse(option, "There are columns and where.");
  if (
    columns !== undefined && !(Array.isArray(columns) && columns.length > 0 && columns.every(fits))
  ) {
    refuse("columns", "Name at least one column, or leave it out: all columns.");
  }
  if (where !== undefined && !fits(where)) {
    refuse("where", "Pass an SQL condition on the table's columns, or leave it out: all rows.");
  }
  return { ...name, columns: columns ? [...new Set(columns)] : null, where: where ?? null };
}
