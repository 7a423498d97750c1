/** Events for tests, made by the code that makes those of a stream. */
import type {
  ChangeEvent,
  DeleteEvent,
  InsertEvent,
  TruncateEvent,
  UpdateEvent,
} from "../change.ts";
import { PgStreamError } from "../errors.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import { parseWatchedName } from "../replication/watched_table.ts";
import { buildEvent, type Change, nextPlace, rowOf, shapeOf } from "./change.ts";
import { SQL_NAMES } from "../stream/options.ts";
import { defaultValues, textOfValue, typeOfValue } from "./column_types.ts";

/**
 * A column's value: its text as Postgres prints it, what has only one, or, for a stream with `values: "js"`,
 * what the handler is to get.
 */
export type ColumnValue = string | number | bigint | boolean | null | object;

/** A row with such values; interfaces will do. */
export type Columns<R> = { readonly [Column in keyof R]: ColumnValue };

/** A value as a handler gets it: `7` and `7n` are `"7"`, `true` is `"t"`. */
export type TextOf<V> = V extends string | null ? V : V extends boolean ? "t" | "f" : string;

/** A value as a handler gets it with `values: "js"`: what was given, and yours to change. */
export type JsOf<V> = V extends string | number | bigint | boolean | null ? V
  : V extends Date | Uint8Array | Float32Array ? V
  : { -readonly [Part in keyof V]: JsOf<V[Part]> };

/** A row as a handler gets it. @typeParam V of which kind its values are */
export type RowOf<R, V extends "text" | "js" = "text"> = V extends "js"
  ? { -readonly [Column in keyof R]: JsOf<R[Column]> }
  : { -readonly [Column in keyof R]: TextOf<R[Column]> };

/** What may be said of any change of a row. */
export interface ChangeOptions<V extends "text" | "js" = "text" | "js"> {
  /** The columns of the primary key, in the key's order; `[]`: the table has none. Default: `"id"`. */
  key?: string | readonly string[];
  /**
   * What the event that is returned has for values, to call a handler with it. A `TestServer` asks its
   * stream instead. Default: `"text"`.
   */
  values?: V;
  /**
   * Types of columns, as `pg_type.typname` has them, where the value does not tell: `{ at: "timestamptz" }`
   * for a text, `{ shape: "geometry" }` for a parser of the stream's own. Default: by what the value is:
   *
   * | value | type |
   * | --- | --- |
   * | string | text |
   * | boolean, number, bigint | bool, float8, int8 |
   * | `Date` | timestamptz |
   * | `Uint8Array`, `Float32Array` | bytea, pgvector's vector |
   * | an array of one of these | that type's array |
   * | any other array or object | jsonb |
   */
  types?: Readonly<Record<string, string>>;
}

/** What may be said of a row that is new. */
export interface InsertOptions<V extends "text" | "js" = "text" | "js"> extends ChangeOptions<V> {
  /** True: it was there before the stream began, and a backfill reads it. Default: false. */
  backfill?: boolean;
}

/** What may be said of a row that changed. */
export interface UpdateOptions<V extends "text" | "js" = "text" | "js"> extends ChangeOptions<V> {
  /**
   * What the server tells of the row before: the old key, where the update changed it, or all of it, as it
   * does under REPLICA IDENTITY FULL. Default: nothing.
   */
  oldRow?: Readonly<Record<string, ColumnValue>>;
  /** Columns that are stored out of line and were not touched: absent from the row. Default: none. */
  unchanged?: readonly string[];
}

const changes = new WeakMap<ChangeEvent, Change>();

/**
 * A row was inserted.
 *
 * @param table as `watch()` has it, `table` or `schema.table`
 * @param row all of its columns
 * @throws {PgStreamError} of kind `invalid-change` for what no server tells; `table-name`.
 */
export function insert<
  N extends string,
  const R extends Columns<R>,
  V extends "text" | "js" = "text",
>(
  table: N,
  row: R,
  options: InsertOptions<V> = {},
): InsertEvent<RowOf<R, V>, N> {
  const { name, primaryKey } = named(table, options);
  const { values, types, unclear } = textsOf(name, row, primaryKey, options);
  return make<InsertEvent<RowOf<R, V>, N>>({
    operation: "insert",
    table: name,
    primaryKey,
    types,
    unclear,
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
  }, options);
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
export function update<
  N extends string,
  const R extends Columns<R>,
  V extends "text" | "js" = "text",
>(
  table: N,
  row: R,
  options: UpdateOptions<V> = {},
): UpdateEvent<RowOf<R, V>, N> {
  const { name, primaryKey } = named(table, options);
  const { values, types, unclear } = textsOf(name, row, primaryKey, options);
  const before = options.oldRow === undefined
    ? null
    : textsOf(name, options.oldRow, primaryKey, options, types);
  const old = before?.values ?? null;
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
  return make<UpdateEvent<RowOf<R, V>, N>>({
    operation: "update",
    table: name,
    primaryKey,
    types,
    unclear: unclear ?? before?.unclear ?? null,
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
  }, options);
}

/**
 * A row was deleted: an event with the operation `"delete"`.
 *
 * @param row what the server tells of it: its key, or all of it, as it does under REPLICA IDENTITY FULL
 * @throws {PgStreamError} of kind `invalid-change` for what no server tells; `table-name`.
 */
export function remove<
  N extends string,
  const R extends Columns<R>,
  V extends "text" | "js" = "text",
>(
  table: N,
  row: R,
  options: ChangeOptions<V> = {},
): DeleteEvent<RowOf<R, V>, N> {
  const { name, primaryKey } = named(table, options);
  const { values, types, unclear } = textsOf(name, row, primaryKey, options);
  return make<DeleteEvent<RowOf<R, V>, N>>({
    operation: "delete",
    table: name,
    primaryKey,
    types,
    unclear,
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
  }, options);
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
    types: new Map(),
    unclear: null,
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
function make<E>(change: Change, { values = "text" }: ChangeOptions = {}): E {
  const read = values === "js" ? defaultValues(change.table, change.types) : null;
  const event = buildEvent(change, nextPlace(), shapeOf(change), read);
  changes.set(event, change);
  return event as E;
}

function named(
  table: string,
  { key = "id" }: ChangeOptions,
): { name: TableName; primaryKey: readonly string[] } {
  return { name: parseWatchedName(table), primaryKey: typeof key === "string" ? [key] : [...key] };
}

/** The texts of a row, and what types they are of. */
interface Texts {
  values: Record<string, string | null>;
  types: Map<string, string>;
  /** A column whose type is a guess. */
  unclear: string | null;
}

/**
 * All columns of the key have to have a value.
 *
 * @param types of columns that are known already; others are added
 */
function textsOf(
  table: TableName,
  row: object,
  primaryKey: readonly string[],
  options: ChangeOptions,
  types: Map<string, string> = new Map(),
): Texts {
  const values: Record<string, string | null> = Object.create(null);
  let unclear: string | null = null;
  for (const [column, value] of Object.entries(row)) {
    values[column] = null;
    if (value === null) continue;
    const given = options.types?.[column];
    if (given !== undefined && SQL_NAMES.test(given)) {
      throw invalid(
        table,
        `"${column}" is of type ${given}`,
        "Name it as pg_type.typname does: int4.",
      );
    }
    const type = given ?? types.get(column) ?? typeOfValue(value);
    const text = type === null ? null : printed(value, type);
    if (type === null || text === null) throw invalid(table, ...whyNot(column, value));
    if (given === undefined && typeof value === "object") unclear = column;
    values[column] = text;
    types.set(column, type);
  }
  for (const column of primaryKey) {
    if (values[column] != null) continue;
    throw invalid(
      table,
      `a row has no value of "${column}", its primary key`,
      'Give it one, or say what the key is: { key: "…" }.',
    );
  }
  return { values, types, unclear };
}

/** Null for what cannot be, such as an Invalid Date. */
function printed(value: unknown, type: string): string | null {
  try {
    return textOfValue(value, type);
  } catch {
    return null;
  }
}

/** What is wrong with a value, and what to do about it. */
function whyNot(column: string, value: unknown): [string, string] {
  if (value === undefined) {
    return [
      `column "${column}" is undefined`,
      "Write null, or leave it out: an update names such a column in `unchanged`.",
    ];
  }
  return [`column "${column}" has a value that no type of Postgres has`, "Write its text."];
}

/** For a stream of texts: what an object would be printed as is a guess. */
export function unclearText({ table, unclear }: Change): PgStreamError {
  return invalid(
    table,
    `column "${unclear}" has a value that Postgres may print in more than one way`,
    "Write its text: JSON.stringify(value) for jsonb, '2026-01-01 12:00:00+00', '{a,b}', '[1,2]'; " +
      'or name its type: { types: { … } }. A stream with values: "js" takes it as it is.',
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
