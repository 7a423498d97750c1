/** The events that a handler receives. */

/**
 * Rows of tables that nobody typed. With `values: "text"` each value is a string or null; with `"js"` it is as
 * its type has it, see `PgStreamOptions.values`.
 */
// deno-lint-ignore no-explicit-any
export type AnyRow = Record<string, any>;

/** The schema of a watched name: what stands before the first dot, else `public`. */
export type SchemaOf<N extends string> = string extends N ? string
  : N extends `${infer S}.${string}` ? S
  : "public";
/** The table of a watched name: what stands after the first dot. */
export type TableOf<N extends string> = N extends `${string}.${infer T}` ? T : N;

/** What every event carries. */
export interface EventBase<N extends string = string> {
  /** The table's schema, literally. */
  schema: SchemaOf<N>;
  /** The table's name, literally. */
  table: TableOf<N>;
  /** LSN of the commit record, `"0/1A3F28"`. `(lsn, ordinal)` names and orders an event. */
  lsn: string;
  /** Place in its transaction, from 0; −1 for a row that a backfill read. */
  ordinal: number;
  /** When the transaction was committed, to the millisecond. */
  commitTime: Date;
  /** The transaction's id, unsigned 32 bits. */
  xid: number;
  /** Columns stored out of line whose value the server did not send: absent from `row`, never null. */
  unchanged: readonly string[];
}

/** A row that was inserted, or that a backfill read. */
export interface InsertEvent<R = AnyRow, N extends string = string> extends EventBase<N> {
  /** An INSERT, or a row of a backfill. */
  operation: "insert";
  /** The new row. It inherits nothing: a column called `__proto__` is a column. */
  row: R;
  /** There was none. */
  oldRow: null;
  /** Primary key as text; several columns: a JSON array of texts. */
  key: string;
  /** There was none. */
  oldKey: null;
  /** True for a row that was there before the stream began. */
  backfill: boolean;
}

/** A row that was updated. */
export interface UpdateEvent<R = AnyRow, N extends string = string> extends EventBase<N> {
  /** An UPDATE. */
  operation: "update";
  /** The new row, without its `unchanged` columns. */
  row: Partial<R>;
  /** What the server sent of the old row: its key, or all of it under REPLICA IDENTITY FULL. */
  oldRow: Partial<R> | null;
  /** Primary key as text; several columns: a JSON array of texts. */
  key: string;
  /** The key before, where this update changed it. */
  oldKey: string | null;
  /** A backfill gives inserts only. */
  backfill: false;
}

/** A row that was deleted. */
export interface DeleteEvent<R = AnyRow, N extends string = string> extends EventBase<N> {
  /** A DELETE. */
  operation: "delete";
  /** The old row, or its key: what the server sent. */
  row: Partial<R>;
  /** The same as `row`. */
  oldRow: Partial<R>;
  /** Primary key as text; several columns: a JSON array of texts. */
  key: string;
  /** The key is `key`. */
  oldKey: null;
  /** A backfill gives inserts only. */
  backfill: false;
}

/** A table that was emptied. One event for each watched table of the statement. */
export interface TruncateEvent<N extends string = string> extends EventBase<N> {
  /** A TRUNCATE. */
  operation: "truncate";
  /** Empty: no row is told. */
  row: Record<string, never>;
  /** None is told. */
  oldRow: null;
  /** All keys are meant. */
  key: null;
  /** All keys are meant. */
  oldKey: null;
  /** True where the table's known rows are void because changes were missed, and a backfill follows. */
  backfill: boolean;
}

/** One change of one row, or a TRUNCATE of one table. Branch on `operation`. */
export type ChangeEvent<R = AnyRow, N extends string = string> =
  | InsertEvent<R, N>
  | UpdateEvent<R, N>
  | DeleteEvent<R, N>
  | TruncateEvent<N>;

/** What a program wrote into the WAL by `pg_logical_emit_message`: no row, and of no table. PostgreSQL 14 and later. */
export interface LogicalMessage {
  /** What tells it from changes of rows. */
  operation: "message";
  /** What its writer called it. */
  prefix: string;
  /** Its writer's bytes: `new TextDecoder().decode(content)` where it was text. */
  content: Uint8Array;
  /** True where it belongs to a transaction, and comes in its place among that one's changes. */
  transactional: boolean;
  /** LSN of the commit record; of a message that belongs to no transaction the end of its own. */
  lsn: string;
  /** Place in its transaction, counted with the changes, from 0. */
  ordinal: number;
  /** When the transaction was committed, to the millisecond; null where it belongs to none. */
  commitTime: Date | null;
  /** The transaction's id, unsigned 32 bits; null where it belongs to none. */
  xid: number | null;
}

/** The events of a map of tables to rows, `{ documents: Doc; "blog.articles": Article }`. */
export type EventOf<T> = { [N in keyof T & string]: ChangeEvent<T[N], N> }[keyof T & string];
