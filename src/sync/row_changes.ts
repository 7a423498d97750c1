/** What is left to do of events: the last state of each row that they touched. */

import type { AnyRow, ChangeEvent } from "../change.ts";
import { formatPayload } from "../sinks/payload.ts";
import { formatTableName } from "../table_name.ts";
import { keyMissing } from "./row_key.ts";

/** A row as its last event left it. */
export interface RowChange {
  readonly key: string;
  /** Whole; null: there is none of this key any more. */
  readonly row: AnyRow | null;
  /** The commit of its last event. */
  readonly lsn: string;
  /** The place of that. */
  readonly ordinal: number;
  /** True where it is what one event made of the row, and no other one came before it here. */
  readonly alone: boolean;
  /** True where nothing is known of what the store has of it: a row of a backfill, or one that was gone between. */
  readonly anew: boolean;
  /** The key that it had before these events, where that is another one. */
  readonly from: string | null;
  /** Where it is gone by a change of its key, its first event here: the row that it was, where all of it was sent. */
  readonly left: AnyRow | null;
}

/** What became of a table. */
export interface TableChanges {
  /** Its last TRUNCATE; null where there is none. What came before it needs no doing. */
  truncated: { readonly lsn: string; readonly ordinal: number } | null;
  /** By key, what came after it. */
  readonly rows: Map<string, RowChange>;
  /** By key, under which other one its row was before: also of rows that are left out. */
  readonly origins: Map<string, string>;
}

/**
 * Sums up events, which are in order, by table, as `formatTableName` writes it.
 *
 * @throws {PgStreamError} `sync-key` where the server does not tell which row was deleted.
 */
export function rowChanges(events: readonly ChangeEvent[]): Map<string, TableChanges> {
  const tables = new Map<string, TableChanges>();
  for (const event of events) {
    const name = formatTableName(event);
    const { lsn, ordinal } = event;
    if (event.operation === "truncate") {
      tables.set(name, { truncated: { lsn, ordinal }, rows: new Map(), origins: new Map() });
      continue;
    }
    let table = tables.get(name);
    if (table === undefined) {
      tables.set(name, table = { truncated: null, rows: new Map(), origins: new Map() });
    }
    if (event.operation !== "update") table.origins.delete(event.key);
    if (event.operation === "delete") {
      if (!tellsKey(event)) throw keyMissing(event);
      remove(table.rows, event.key, event, null);
      continue;
    }
    const row = wholeRow(event);
    if (event.operation === "update" && event.oldKey !== null) {
      table.origins.set(event.key, table.origins.get(event.oldKey) ?? event.oldKey);
      table.origins.delete(event.oldKey);
      const columns = [...Object.keys(event.row), ...event.unchanged];
      remove(table.rows, event.oldKey, event, tells(event, columns) ? event.oldRow : null);
    }
    // What was not sent is read again later than the event: a row that was not found by then is gone, or has
    // another key, and the event that says so is on its way. Until it comes, the store has what it has.
    if (row === null) continue;
    const { key } = event;
    const before = table.rows.get(key);
    const from = table.origins.get(key) ?? null;
    const anew = event.backfill || (before?.anew ?? false);
    table.rows.set(key, {
      key,
      row,
      lsn,
      ordinal,
      alone: before === undefined,
      anew,
      from,
      left: null,
    });
  }
  return tables;
}

function remove(
  rows: Map<string, RowChange>,
  key: string,
  event: ChangeEvent,
  left: AnyRow | null,
): void {
  const { lsn, ordinal } = event;
  const held = rows.get(key);
  // A primary key that is DEFERRABLE lets a row come to a key before the row that had it leaves, in one
  // transaction: UPDATE … SET id = id + 1. The server sends old rows whole then (REPLICA IDENTITY FULL).
  if (held?.lsn === lsn && held.row !== null && isOther(event, held.row)) return;
  rows.set(key, {
    key,
    row: null,
    lsn,
    ordinal,
    alone: held === undefined,
    anew: true,
    from: null,
    left: held === undefined ? left : null,
  });
}

/** True where the whole row that left is known, and is not this one. */
function isOther(event: ChangeEvent, row: AnyRow): boolean {
  const columns = Object.keys(row);
  if (!tells(event, columns)) return false;
  const left = columns.map((column) => [column, event.oldRow![column]]);
  return formatPayload(Object.fromEntries(left), "sync") !== formatPayload({ ...row }, "sync");
}

/** True where the old row has all of these columns. */
function tells({ oldRow }: ChangeEvent, columns: readonly string[]): boolean {
  return oldRow !== null && columns.every((column) => Object.hasOwn(oldRow, column));
}

/** The row with what was not sent and is in the old row; null where columns are missing all the same. */
function wholeRow(event: ChangeEvent): AnyRow | null {
  const { row, unchanged } = event;
  if (unchanged.length === 0) return row;
  if (!tells(event, unchanged)) return null;
  const whole: AnyRow = Object.assign(Object.create(null), row);
  for (const column of unchanged) whole[column] = event.oldRow![column];
  return whole;
}

/** False where the key is that of an index without the primary key: its columns as JSON, and no others were sent. */
function tellsKey({ key, oldRow }: ChangeEvent & { key: string; oldRow: AnyRow }): boolean {
  if (!key.startsWith('{"') || Object.values(oldRow).includes(key)) return true;
  try {
    const columns = JSON.parse(key);
    // A value of jsonb has spaces in its text.
    return JSON.stringify(columns) !== key ||
      !Object.keys(columns).every((column) => Object.hasOwn(oldRow, column));
  } catch {
    return true; // an array's text
  }
}
