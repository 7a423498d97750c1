/** Events for tests, made by the code that makes those of a stream. */
import type {
  ChangeEvent,
  DeleteEvent,
  InsertEvent,
  LogicalMessage,
  TruncateEvent,
  UpdateEvent,
} from "../change.ts";
import { PgStreamError } from "../errors.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import { parseWatchedName } from "../replication/tables.ts";
import { buildEvent, buildMessage, type Change, placeOf, rowOf, type Written } from "./change.ts";

/** A column's value: its text as Postgres prints it, or what has only one. */
export type ColumnValue = string | number | bigint | boolean | null;

/** A row with such values; interfaces will do. */
export type Columns<R> = { readonly [Column in keyof R]: ColumnValue };

/** A value as a handler gets it: `7` and `7n` are `"7"`, `true` is `"t"`. */
export type TextOf<V> = V extends string | null ? V : V extends boolean ? "t" | "f" : string;

/** A row as a handler gets it. */
export type RowOf<R> = { -readonly [Column in keyof R]: TextOf<R[Column]> };

/** What may be said of any change of a row. */
export interface ChangeOptions {
  /** The columns of the primary key, in the key's order; `[]`: the table has none. Default: `"id"`. */
  key?: string | readonly string[];
}

/** What may be said of a row that is new. */
export interface InsertOptions extends ChangeOptions {
  /** True: it was there before the stream began, and a backfill reads it. Default: false. */
  backfill?: boolean;
}

/** What may be said of a row that changed. */
export interface UpdateOptions extends ChangeOptions {
  /**
   * What the server tells of the row before: the old key, where the update changed it, or all of it, as it
   * does under REPLICA IDENTITY FULL. Default: nothing.
   */
  oldRow?: Readonly<Record<string, ColumnValue>>;
  /** Columns that are stored out of line and were not touched: absent from the row. Default: none. */
  unchanged?: readonly string[];
}

/** What may be said of a message. */
export interface MessageOptions {
  /** False: it belongs to no transaction, and is given alone. Default: true. */
  transactional?: boolean;
}

const changes = new WeakMap<ChangeEvent, Change>();
const messages = new WeakMap<LogicalMessage, Written>();
let made = 0;

/**
 * A row was inserted.
 *
 * @param table as `watch()` has it, `table` or `schema.table`
 * @param row all of its columns
 * @throws {PgStreamError} of kind `invalid-change` for what no server tells; `table-name`.
 */
export function insert<N extends string, const R extends Columns<R>>(
  table: N,
  row: R,
  options: InsertOptions = {},
): InsertEvent<RowOf<R>, N> {
  const { name, primaryKey } = named(table, options);
  const values = textsOf(name, row, primaryKey);
  return make<InsertEvent<RowOf<R>, N>>({
    operation: "insert",
    table: name,
    primaryKey,
    columns: Object.keys(values),
    backfill: options.backfill ?? false,
    wireBytes: bytesOf(values),
    message: (relation) => ({
      type: "insert",
      xid: null,
      relation,
      row: rowOf(values, relation),
      unchanged: [],
    }),
  });
}

/**
 * A row was updated.
 *
 * @param row all of its columns as they are now, but for the `unchanged` ones
 * @throws {PgStreamError} of kind `invalid-change` for what no server tells; `table-name`.
 *
 * @example
 * ```ts
 * update("documents", { id: 1, title: "new" }, { unchanged: ["content"] });
 * update("documents", { id: 2, title: "as it was" }, { oldRow: { id: 1 } }).oldKey; // "1"
 * ```
 */
export function update<N extends string, const R extends Columns<R>>(
  table: N,
  row: R,
  options: UpdateOptions = {},
): UpdateEvent<RowOf<R>, N> {
  const { name, primaryKey } = named(table, options);
  const values = textsOf(name, row, primaryKey);
  const old = options.oldRow === undefined ? null : textsOf(name, options.oldRow, primaryKey);
  const columns = Object.keys(values);
  const unchanged: string[] = [];
  for (const column of options.unchanged ?? []) {
    if (columns.includes(column)) {
      throw invalid(name, `column "${column}" is unchanged and has a value`, "Leave out one.");
    }
    columns.push(column);
    // The server sends what did not change with the old row, where it sends all of that.
    if (old?.[column] === undefined) unchanged.push(column);
    else values[column] = old[column];
  }
  const oldColumns = Object.keys(old ?? {});
  const whole = oldColumns.length === columns.length;
  if (!oldColumns.every((column) => (whole ? columns : primaryKey).includes(column))) {
    throw invalid(
      name,
      "its old row is neither the key nor all of the row",
      `It is { ${primaryKey.join(", ")} }, or under REPLICA IDENTITY FULL { ${
        columns.join(", ")
      } }.`,
    );
  }
  return make<UpdateEvent<RowOf<R>, N>>({
    operation: "update",
    table: name,
    primaryKey,
    columns,
    backfill: false,
    wireBytes: bytesOf(values) + bytesOf(old ?? {}),
    message: (relation) => ({
      type: "update",
      xid: null,
      relation,
      row: rowOf(values, relation),
      unchanged: [...unchanged],
      oldRow: old && rowOf(old, relation),
      oldKind: old && kindOf(old, primaryKey),
    }),
  });
}

/**
 * A row was deleted: an event with the operation `"delete"`.
 *
 * @param row what the server tells of it: its key, or all of it, as it does under REPLICA IDENTITY FULL
 * @throws {PgStreamError} of kind `invalid-change` for what no server tells; `table-name`.
 */
export function remove<N extends string, const R extends Columns<R>>(
  table: N,
  row: R,
  options: ChangeOptions = {},
): DeleteEvent<RowOf<R>, N> {
  const { name, primaryKey } = named(table, options);
  const values = textsOf(name, row, primaryKey);
  return make<DeleteEvent<RowOf<R>, N>>({
    operation: "delete",
    table: name,
    primaryKey,
    columns: Object.keys(values),
    backfill: false,
    wireBytes: bytesOf(values),
    message: (relation) => ({
      type: "delete",
      xid: null,
      relation,
      oldRow: rowOf(values, relation),
      oldKind: kindOf(values, primaryKey),
    }),
  });
}

/**
 * A table was emptied.
 *
 * @param options.backfill true: what is known of its rows is void, and a backfill follows. Default: false.
 * @throws {PgStreamError} of kind `table-name`.
 */
export function truncate<N extends string>(
  table: N,
  options: { backfill?: boolean } = {},
): TruncateEvent<N> {
  const { name, primaryKey } = named(table, {});
  return make<TruncateEvent<N>>({
    operation: "truncate",
    table: name,
    primaryKey,
    columns: [],
    backfill: options.backfill ?? false,
    wireBytes: 10,
    message: (relation) => ({
      type: "truncate",
      xid: null,
      relations: [relation],
      cascade: false,
      restartIdentity: false,
    }),
  });
}

/**
 * A program wrote a message by `pg_logical_emit_message`, for a handler of `onMessage`.
 *
 * @param content text, or bytes
 *
 * @example
 * ```ts
 * message("outbox", JSON.stringify({ order: 7 }));
 * message("heartbeat", "", { transactional: false });
 * ```
 */
export function message(
  prefix: string,
  content: string | Uint8Array,
  { transactional = true }: MessageOptions = {},
): LogicalMessage {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content.slice();
  const written: Written = { prefix, content: bytes, transactional };
  const message = buildMessage(written, placeOf(++made));
  messages.set(message, written);
  return message;
}

/** What a message was made of. @throws {PgStreamError} of kind `invalid-change` for one of another making. */
export function writtenOf(message: LogicalMessage): Written {
  const written = messages.get(message);
  if (written !== undefined) return written;
  throw new PgStreamError("This is not a message of message()", {
    kind: "invalid-change",
    hint: "Pass what it returns as it is: it is given a place by the server.",
  });
}

/** What an event was made of. @throws {PgStreamError} of kind `invalid-change` for one of another making. */
export function changeOf(event: ChangeEvent): Change {
  const change = changes.get(event);
  if (change !== undefined) return change;
  throw new PgStreamError("This is not an event of insert(), update(), remove() or truncate()", {
    kind: "invalid-change",
    hint: "Pass what they return as it is: it is given a place in its transaction by the server.",
  });
}

/** The event's type is the caller's to know: what it is made of was checked against it. */
function make<E>(change: Change): E {
  const event = buildEvent(change, placeOf(++made));
  changes.set(event, change);
  return event as E;
}

function named(
  table: string,
  { key = "id" }: ChangeOptions,
): { name: TableName; primaryKey: readonly string[] } {
  return { name: parseWatchedName(table), primaryKey: typeof key === "string" ? [key] : [...key] };
}

/** All columns of the key have to have a value. */
function textsOf(
  table: TableName,
  row: object,
  primaryKey: readonly string[],
): Record<string, string | null> {
  const values: Record<string, string | null> = Object.create(null);
  for (const [column, value] of Object.entries(row)) values[column] = textOf(table, column, value);
  for (const column of primaryKey) {
    if (values[column] != null) continue;
    throw invalid(
      table,
      `a row has no value of "${column}", its primary key`,
      'Give it one, or say what the key is: { key: "…" }.',
    );
  }
  return values;
}

/** As Postgres prints it. */
function textOf(table: TableName, column: string, value: unknown): string | null {
  switch (typeof value) {
    case "string":
      return value;
    case "number":
    case "bigint":
      return `${value}`;
    case "boolean":
      return value ? "t" : "f";
  }
  if (value === null) return null;
  throw invalid(
    table,
    value === undefined
      ? `column "${column}" is undefined`
      : `column "${column}" has a value that Postgres may print in more than one way`,
    value === undefined
      ? "Write null, or leave it out: an update names such a column in `unchanged`."
      : "Write its text: JSON.stringify(value) for jsonb, '2026-01-01 12:00:00+00', '{a,b}', '[1,2]'.",
  );
}

function kindOf(old: object, primaryKey: readonly string[]): "key" | "full" {
  return Object.keys(old).every((column) => primaryKey.includes(column)) ? "key" : "full";
}

function bytesOf(values: Record<string, string | null>): number {
  return Object.values(values).reduce((sum, value) => sum + (value?.length ?? 0) + 5, 8);
}

function invalid(table: TableName, what: string, hint: string): PgStreamError {
  return new PgStreamError(`No server tells this of ${formatTableName(table)}: ${what}`, {
    kind: "invalid-change",
    hint,
  });
}
