/** How far backfills are, for somebody who looks on: as the table `pgstream.state` has it. */

import { withDeadline } from "../replication/deadline.ts";
import { rowsOf, textOf } from "../replication/server.ts";
import { Connector, type ConnectorOptions } from "../wire/connector.ts";
import { quoteLiteral } from "../wire/quote.ts";
import { parseProgress, SLOT_KEY } from "./progress.ts";

/** The server has this long to answer. */
const TIMEOUT_MS = 30_000;

/** What is known of a table's initial backfill. */
export interface BackfilledTable {
  /** Of the stream that reads it. */
  slotName: string;
  /** `schema.table` */
  table: string;
  /** Rows that were handed out. */
  rows: number;
  /** True once all that were there are. */
  done: boolean;
}

/**
 * Reads it, over a connection of its own. Where there is no such table, or it may not be read, nothing is known.
 *
 * @param options.slotName only of this slot. Default: of all
 * @throws {PgStreamError} what connecting meets.
 */
export async function readBackfills(
  { slotName, signal, ...source }: ConnectorOptions & {
    slotName?: string;
    signal?: AbortSignal | undefined;
  } = {},
): Promise<BackfilledTable[]> {
  const connector = new Connector(source);
  const limit = signal ?? new AbortController().signal;
  return await withDeadline("Reading backfills", TIMEOUT_MS, limit, async (signal) => {
    const connection = await connector.connect({ signal });
    try {
      const [may] = rowsOf(
        await connection.query(
          `SELECT CASE WHEN pg_catalog.to_regclass('pgstream.state') IS NULL THEN false
            ELSE pg_catalog.has_schema_privilege('pgstream', 'USAGE')
              AND pg_catalog.has_table_privilege('pgstream.state', 'SELECT') END AS may`,
          { signal },
        ),
      );
      if (may?.may !== "t") return [];
      const result = await connection.query(
        `SELECT key, value FROM pgstream.state WHERE ${
          slotName === undefined
            ? `key LIKE ${quoteLiteral(`${SLOT_KEY}%`)}`
            : `key = ${quoteLiteral(SLOT_KEY + slotName)}`
        } ORDER BY key`,
        { signal },
      );
      return rowsOf(result).flatMap((row) => {
        const key = textOf(row, "key");
        const { tables } = parseProgress(textOf(row, "value"), key);
        return Object.values(tables).map(({ table, rows, done }) => ({
          slotName: key.slice(SLOT_KEY.length),
          table,
          rows,
          done,
        }));
      });
    } finally {
      await connection.close();
    }
  });
}
