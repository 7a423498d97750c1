/** What columns tables have, for who has to name some: the command line's `init`, templates of texts. */
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { Connector, type ConnectorOptions } from "../wire/connector.ts";
import { withDeadline } from "./deadline.ts";
import { namesOf, rowsOf, textOf } from "./server.ts";
import { indexColumns, readTables } from "./tables.ts";
import { parseWatchedName } from "./watched_table.ts";

/** A table's columns. */
export interface TableColumns extends TableName {
  /** All of them, in the table's order. */
  columns: { name: string; /** As `format_type` prints it. */ type: string }[];
  /** Of the primary key, in its order; none where there is no primary key. */
  primaryKey: readonly string[];
}

/** The server has this long to answer. */
const TIMEOUT_MS = 60_000;

/**
 * Reads what columns tables have.
 *
 * @param options.tables `table` or `schema.table`, literal; none: all tables that can be watched, but the system's
 * @throws {ReplicationError} of kind `table-missing`; `table-not-publishable`; what connecting meets.
 */
export async function readTableColumns(
  { tables = [], signal, ...options }: ConnectorOptions & {
    tables?: readonly string[];
    signal?: AbortSignal | undefined;
  } = {},
): Promise<TableColumns[]> {
  const names = tables.map(parseWatchedName);
  const connector = new Connector(options);
  const limit = signal ?? new AbortController().signal;
  return await withDeadline("Reading tables", TIMEOUT_MS, limit, async (signal) => {
    const connection = await connector.connect({ signal });
    try {
      // Says which are missing, and what was meant.
      await readTables(connection, names, signal);
      const found = await select(connection, names.length > 0, signal);
      if (names.length === 0) return found;
      return names.map((name) =>
        found.find((table) => formatTableName(table) === formatTableName(name))!
      );
    } finally {
      await connection.close();
    }
  });
}

async function select(
  connection: Connection,
  partitions: boolean,
  signal: AbortSignal,
): Promise<TableColumns[]> {
  const { serverVersion } = connection;
  // Before 13 the partitions are what can be watched, each by itself.
  const roots = serverVersion >= 130000;
  const result = await connection.query(
    `SELECT n.nspname, c.relname,
      (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
      (SELECT pg_catalog.json_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS types,
      ${indexColumns("i.indisprimary", serverVersion)} AS primary_key
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r'${roots ? ", 'p'" : ""}) AND c.relpersistence = 'p'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgstream')
      AND (${partitions || !roots} OR NOT EXISTS (
        SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid))
    ORDER BY 1, 2`,
    { signal },
  );
  return rowsOf(result).map((row) => {
    const types = namesOf(row, "types");
    return {
      schema: textOf(row, "nspname"),
      table: textOf(row, "relname"),
      columns: namesOf(row, "columns").map((name, index) => ({ name, type: types[index]! })),
      primaryKey: namesOf(row, "primary_key"),
    };
  });
}
