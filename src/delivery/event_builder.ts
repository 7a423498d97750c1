/** Turns the messages of a transaction into events. */
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import { formatLsn } from "../lsn.ts";
import {
  type Begin,
  commitTimeToDate,
  type Delete,
  type Insert,
  type Message,
  type Relation,
  type Row,
  type Truncate,
  type TupleValue,
  type Update,
} from "../pgoutput/mod.ts";
import { formatTableName, quoteTableName, type TableName } from "../table_name.ts";
import { DeliveryError } from "./errors.ts";
import type { RowValues } from "./row_values.ts";

/** A change of rows: what may come between Begin and Commit and becomes events. */
export type ChangeMessage = Insert | Update | Delete | Truncate;

const NOTHING_UNCHANGED: readonly string[] = Object.freeze([]);

/** What events say of a relation's table. */
export interface EventTable {
  /** The name that events carry. */
  name: TableName;
  /** Columns of the primary key in the key's order; none where it has none. */
  primaryKey: readonly string[];
  /** True where every change tells the primary key, so that changes of different keys can be told apart. */
  keyed: boolean;
  /** Makes JS values of its rows. Default: null, they stay text. */
  values?: RowValues | null;
}

/** Takes an event. @param table where it belongs */
export type Emit = (event: ChangeEvent, table: EventTable) => void;

/**
 * Builds the events of one stream. Relations are declared as they come; those that are not watched
 * give no event, yet count in the ordinals, so that `(lsn, ordinal)` means the same to every consumer.
 */
export class EventBuilder {
  /** By relation OID; null: not watched. */
  readonly #tables = new Map<number, EventTable | null>();
  #lsn = "";
  #commitTime = new Date(0);
  #xid = 0;
  #ordinal = 0;

  /** The ordinal of the next change of this transaction. */
  get ordinal(): number {
    return this.#ordinal;
  }

  /** A relation as it is from here on. @param table null where it is not watched. */
  declare(relation: Relation, table: EventTable | null): void {
    this.#tables.set(relation.oid, table);
  }

  /** A transaction begins. Its Begin already tells the LSN of its commit record. @returns when it was committed */
  begin(message: Begin): Date {
    this.#lsn = formatLsn(message.finalLsn);
    this.#commitTime = commitTimeToDate(message.commitTimeUs);
    this.#xid = message.xid;
    this.#ordinal = 0;
    return this.#commitTime;
  }

  /**
   * Emits the events of a change: one, or one for each watched table of a TRUNCATE; none if not watched.
   *
   * @param from the first ordinal that is wanted: those before it were emitted already
   */
  build(message: ChangeMessage, emit: Emit, from = 0): void {
    if (message.type === "truncate") {
      for (const relation of message.relations) {
        const ordinal = this.#ordinal++;
        const table = this.#tables.get(relation.oid) ?? null;
        if (table !== null && ordinal >= from) emit(this.#truncate(table, ordinal), table);
      }
      return;
    }
    const ordinal = this.#ordinal++;
    const table = this.#tables.get(message.relation.oid) ?? null;
    if (table !== null && ordinal >= from) emit(this.#rowChange(message, table, ordinal), table);
  }

  /** A message of this transaction. It counts in the ordinals, whether anybody asked for its prefix or not. */
  message({ prefix, content }: Message): LogicalMessage {
    return {
      operation: "message",
      prefix,
      content,
      transactional: true,
      lsn: this.#lsn,
      ordinal: this.#ordinal++,
      commitTime: this.#commitTime,
      xid: this.#xid,
    };
  }

  /**
   * All fields in one literal each: copied from a common base they would cost twice the memory. Keys are
   * text, so they are made before values are.
   */
  #rowChange(
    message: Insert | Update | Delete,
    { name, primaryKey, values }: EventTable,
    ordinal: number,
  ): ChangeEvent {
    const { relation } = message;
    switch (message.type) {
      case "insert": {
        const key = keyOf(relation, primaryKey, message.row);
        values?.read(message.row);
        return {
          operation: "insert",
          schema: name.schema,
          table: name.table,
          lsn: this.#lsn,
          ordinal,
          commitTime: this.#commitTime,
          xid: this.#xid,
          row: message.row,
          oldRow: null,
          key,
          oldKey: null,
          unchanged: message.unchanged,
          backfill: false,
        };
      }
      case "update": {
        const key = keyOf(relation, primaryKey, message.row);
        const oldKey = message.oldRow && oldKeyOf(relation, primaryKey, message.oldRow);
        values?.read(message.row);
        if (message.oldRow !== null) values?.read(message.oldRow);
        return {
          operation: "update",
          schema: name.schema,
          table: name.table,
          lsn: this.#lsn,
          ordinal,
          commitTime: this.#commitTime,
          xid: this.#xid,
          row: message.row,
          oldRow: message.oldRow,
          key,
          oldKey: oldKey === key ? null : oldKey,
          unchanged: message.unchanged,
          backfill: false,
        };
      }
      case "delete": {
        const key = keyOf(relation, primaryKey, message.oldRow);
        values?.read(message.oldRow);
        return {
          operation: "delete",
          schema: name.schema,
          table: name.table,
          lsn: this.#lsn,
          ordinal,
          commitTime: this.#commitTime,
          xid: this.#xid,
          row: message.oldRow,
          oldRow: message.oldRow,
          key,
          oldKey: null,
          unchanged: NOTHING_UNCHANGED,
          backfill: false,
        };
      }
    }
  }

  #truncate({ name }: EventTable, ordinal: number): ChangeEvent {
    return {
      operation: "truncate",
      schema: name.schema,
      table: name.table,
      lsn: this.#lsn,
      ordinal,
      commitTime: this.#commitTime,
      xid: this.#xid,
      row: Object.create(null) as Record<string, never>,
      oldRow: null,
      key: null,
      oldKey: null,
      unchanged: NOTHING_UNCHANGED,
      backfill: false,
    };
  }
}

/** A message that belongs to no transaction. */
export function loneMessage({ prefix, content, messageLsn }: Message): LogicalMessage {
  return {
    operation: "message",
    prefix,
    content,
    transactional: false,
    lsn: formatLsn(messageLsn),
    ordinal: 0,
    commitTime: null,
    xid: null,
  };
}

/** What the rows of a change take in memory beside its text, roughly: names, strings, slots. */
const VALUE_BYTES = 64;

/** What a row holds while it is queued. @param wireBytes the length of its text on the wire. */
export function heldRowBytes(wireBytes: number, columns: number): number {
  return wireBytes + columns * VALUE_BYTES;
}

/** What a change holds while it is queued. @param wireBytes the length of its message. */
export function heldBytes(message: ChangeMessage, wireBytes: number): number {
  switch (message.type) {
    case "truncate":
      return wireBytes;
    case "insert":
    case "delete":
      return heldRowBytes(wireBytes, message.relation.columns.length);
    case "update": {
      const rows = message.oldRow === null ? 1 : 2;
      return heldRowBytes(wireBytes, message.relation.columns.length * rows);
    }
  }
}

/**
 * The primary key's text; of a table that has none, that of its replica identity. Where the server sent
 * only the columns of an index that lacks the primary key (a DELETE under USING INDEX), these by name,
 * so that the text is never another row's key.
 */
function keyOf(relation: Relation, primaryKey: readonly string[], row: Row): string {
  const plain = plainKey(primaryKey, row);
  if (plain !== null) return plain;
  const has = (column: string) => row[column] !== undefined;
  if (primaryKey.length > 0 && primaryKey.every(has)) return keyText(primaryKey, row);
  const identity = identityColumns(relation);
  // Under FULL a table without any column has rows all the same, and each is like the other.
  const none = identity.length === 0 && relation.replicaIdentity !== "full";
  if (none || !identity.every(has)) throw keyMissing(relation);
  if (primaryKey.length === 0) return keyText(identity, row);
  return JSON.stringify(Object.fromEntries(identity.map((column) => [column, row[column]])));
}

/** By which the server tells rows. */
export function identityColumns({ columns }: Relation): string[] {
  return columns.filter(({ key }) => key).map(({ name }) => name);
}

/** The key of a row before its update, where the server sent the columns that tell. */
function oldKeyOf(relation: Relation, primaryKey: readonly string[], oldRow: Row): string | null {
  if (primaryKey.some((column) => oldRow[column] === undefined)) return null;
  return keyOf(relation, primaryKey, oldRow);
}

/** One value as its text; several, or a NULL, as a JSON array, which no other row's key equals. */
export function keyText(columns: readonly string[], row: Row): string {
  const plain = plainKey(columns, row);
  if (plain !== null) return plain;
  const texts = columns.map((column) => textOf(row[column]));
  const [first] = texts;
  return texts.length === 1 && typeof first === "string" ? first : JSON.stringify(texts);
}

/** Nearly all keys: the text of the only column, with nothing made on the way; null where it is none. */
function plainKey(columns: readonly string[], row: Row): string | null {
  if (columns.length !== 1) return null;
  const value = row[columns[0]!];
  return typeof value === "string" ? value : null;
}

function textOf(value: TupleValue | undefined): string | null {
  return value === null || value === undefined ? null : `${value}`;
}

function keyMissing(relation: Relation): DeliveryError {
  const name = { schema: relation.schema, table: relation.name };
  return new DeliveryError(`The server sent a row of ${formatTableName(name)} without its key`, {
    kind: "key-missing",
    hint: "Give the table a primary key, or run: " +
      `ALTER TABLE ${quoteTableName(name)} REPLICA IDENTITY FULL; ` +
      "Changes that are written already stay without: to get past them, teardown() and setup().",
  });
}
