/** The tables that `pgstream tail` was told of, as they are on the server. */

import { ReplicationError } from "../replication/errors.ts";
import { readTableColumns, type TableColumns } from "../replication/table_columns.ts";
import { parseWatchedName } from "../replication/watched_table.ts";
import { formatTableName } from "../table_name.ts";
import type { ConnectorOptions } from "../wire/connector.ts";
import { CliError, usageError } from "./errors.ts";
import { nearest } from "./nearest.ts";

/** A table to be watched. */
export type Watched = TableColumns;

/**
 * Looks them up.
 *
 * @param only columns, of which each is to be in one of them at least; null: none were named
 * @throws {CliError} of kind `table-missing`, or `usage` for a column, that says what may have been meant; what
 * connecting meets.
 */
export async function readWatched(
  source: ConnectorOptions,
  names: readonly string[],
  only: readonly string[] | null,
  signal: AbortSignal,
): Promise<Watched[]> {
  let tables: Watched[];
  try {
    tables = await readTableColumns({ ...source, tables: names, signal });
  } catch (error) {
    throw await withGuess(error, source, names, signal);
  }
  const columns = new Set(tables.flatMap(({ columns }) => columns.map(({ name }) => name)));
  const unknown = only?.find((name) => !columns.has(name));
  if (unknown === undefined) return tables;
  const meant = nearest(unknown, columns);
  throw usageError(
    `${tables.map(formatTableName).join(", ")} has no column "${unknown}"`,
    meant === null ? `There are ${[...columns].join(", ")}` : `Did you mean ${meant}?`,
  );
}

/** The error of a table that is not there, with the name that is nearest, where there is one. */
async function withGuess(
  error: unknown,
  source: ConnectorOptions,
  names: readonly string[],
  signal: AbortSignal,
): Promise<unknown> {
  if (!(error instanceof ReplicationError) || error.kind !== "table-missing") return error;
  // Another case, or another schema, was told already.
  if (error.hint?.startsWith("Did you mean") === true) return error;
  const there = (await readTableColumns({ ...source, signal })).map(formatTableName);
  const missing = names.map((name) => formatTableName(parseWatchedName(name)))
    .filter((name) => !there.includes(name));
  const meant = missing.map((name) => nearest(name, there)).filter((name) => name !== null);
  if (meant.length === 0) return error;
  return new CliError(error.summary, {
    kind: error.kind,
    hint: `Did you mean ${meant.join(", ")}?`,
    cause: error,
  });
}
