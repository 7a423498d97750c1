/**
 * A backfill as one would write it in an afternoon: reads the tables in pieces, and hands out what it
 * reads beside the changes. It loses, and goes back in time; a suite that does not see that is blind.
 */

import postgres from "postgres";
import type { InsertEvent } from "../../../mod.ts";
import { quoteIdentifier } from "../../../src/wire/quote.ts";
import { nameOf, type TableShape } from "./backfill_tables.ts";
import { WIRE_TEXT } from "./backfill_world.ts";

/** What it has to be told of a table. */
export type StrawTable = Pick<TableShape, "schema" | "table" | "columns" | "primaryKey">;

/** Rows of all tables, a piece at a time. */
export async function* strawRows(
  dsn: string,
  tables: readonly StrawTable[],
  pieceRows: number,
): AsyncGenerator<InsertEvent[]> {
  const sql = postgres(dsn, { max: 1, onnotice: () => {} });
  try {
    await sql.unsafe(WIRE_TEXT);
    for (const shape of tables) {
      const names = shape.columns.map((name) => quoteIdentifier(name));
      const texts = names.map((name) =>
        `CASE WHEN ${name} IS NOT NULL THEN format('%s', ${name}) END`
      );
      const order = shape.primaryKey.map((name) => quoteIdentifier(name)).join() || "ctid";
      for (let from = 0;; from += pieceRows) {
        const rows = await sql.unsafe<{ lsn: string; row: (string | null)[] }[]>(
          `SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_insert_lsn() END::text AS lsn, json_build_array(${texts.join()}) AS row
          FROM ${nameOf(shape)} ORDER BY ${order} LIMIT ${pieceRows} OFFSET ${from}`,
        );
        if (rows.length === 0) break;
        yield rows.map(({ lsn, row }) => eventOf(shape, lsn, row));
      }
    }
  } finally {
    await sql.end({ timeout: 1 });
  }
}

function eventOf(shape: StrawTable, lsn: string, values: (string | null)[]): InsertEvent {
  const { schema, table, columns, primaryKey } = shape;
  const entries = columns.map((name, at) => [name, values[at]!] as const);
  const row = Object.fromEntries(entries);
  const keys = (primaryKey.length === 0 ? columns : primaryKey).map((name) => row[name]!);
  return {
    ...{ schema, table, lsn, ordinal: -1, commitTime: new Date(), xid: 0, unchanged: [] },
    ...{ operation: "insert", row, oldRow: null, oldKey: null, backfill: true },
    key: keys.length === 1 ? keys[0]! : JSON.stringify(keys),
  };
}
