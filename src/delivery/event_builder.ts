/** Turns the messages of a transaction into events. */
import type { ChangeEvent } from "../change.ts";
import { formatLsn } from "../lsn.ts";
import {
  type Begin,
  commitTimeToDate,
  type Delete,
  type Insert,
  type Relation,
  type Row,
  type Truncate,
  type TupleValue,
  type Update,
} from "../pgoutput/mod.ts";
import { formatTableName } from "../table_name.ts";
import { DeliveryError } from "./errors.ts";

/** A change of rows: what may come between Begin and Commit and becomes events. */
export type ChangeMessage = Insert | Update | Delete | Truncate;

const NOTHING_UNCHANGED: readonly string[] = Object.freeze([]);

/**
 * Builds the events of one stream. Relations are declared as they come; those that are not watched
 * give no event, yet count in the ordinals, so that `(lsn, ordinal)` means the same to every consumer.
 */
export class EventBuilder {
  /** Primary key columns by relation OID; null: not watched. */
  readonly #primaryKeys = new Map<number, readonly string[] | null>();
  #lsn = "";
  #commitTime = new Date(0);
  #xid = 0;
  #ordinal = 0;

  /**
   * A relation as it is from here on.
   *
   * @param primaryKey its columns in the key's order, none where it has none; null: not watched
   */
  declare(relation: Relation, primaryKey: readonly string[] | null): void {
    this.#primaryKeys.set(relation.oid, primaryKey);
  }

  /** A transaction begins. Its Begin already tells the LSN of its commit record. */
  begin(message: Begin): void {
    this.#lsn = formatLsn(message.finalLsn);
    this.#commitTime = commitTimeToDate(message.commitTimeUs);
    this.#xid = message.xid;
    this.#ordinal = 0;
  }

  /** The events of a change: one, or one for each watched table of a TRUNCATE; none if not watched. */
  build(message: ChangeMessage): ChangeEvent[] {
    if (message.type === "truncate") {
      return message.relations.flatMap((relation) => {
        const ordinal = this.#ordinal++;
        return this.#watched(relation) ? [this.#truncate(relation, ordinal)] : [];
      });
    }
    const ordinal = this.#ordinal++;
    return this.#watched(message.relation) ? [this.#rowChange(message, ordinal)] : [];
  }

  #watched(relation: Relation): boolean {
    return (this.#primaryKeys.get(relation.oid) ?? null) !== null;
  }

  #rowChange(message: Insert | Update | Delete, ordinal: number): ChangeEvent {
    const { relation } = message;
    const base = this.#base(relation, ordinal);
    switch (message.type) {
      case "insert":
        return {
          operation: "insert",
          ...base,
          row: message.row,
          oldRow: null,
          key: this.#key(relation, message.row, null),
          oldKey: null,
          unchanged: message.unchanged,
          backfill: false,
        };
      case "update": {
        const key = this.#key(relation, message.row, message.oldRow);
        const oldKey = message.oldRow === null ? null : this.#oldKey(relation, message.oldRow);
        return {
          operation: "update",
          ...base,
          row: message.row,
          oldRow: message.oldRow,
          key,
          oldKey: oldKey === key ? null : oldKey,
          unchanged: message.unchanged,
          backfill: false,
        };
      }
      case "delete":
        return {
          operation: "delete",
          ...base,
          row: message.oldRow,
          oldRow: message.oldRow,
          key: this.#key(relation, message.oldRow, null),
          oldKey: null,
          unchanged: NOTHING_UNCHANGED,
          backfill: false,
        };
    }
  }

  #truncate(relation: Relation, ordinal: number): ChangeEvent {
    return {
      operation: "truncate",
      ...this.#base(relation, ordinal),
      row: Object.create(null) as Record<string, never>,
      oldRow: null,
      key: null,
      oldKey: null,
      unchanged: NOTHING_UNCHANGED,
      backfill: false,
    };
  }

  #base(relation: Relation, ordinal: number) {
    return {
      schema: relation.schema,
      table: relation.name,
      lsn: this.#lsn,
      ordinal,
      commitTime: this.#commitTime,
      xid: this.#xid,
    };
  }

  /**
   * The primary key's text, else that of the replica identity: under USING INDEX a DELETE carries
   * the index's columns only. A key column stored out of line is found in the old row.
   */
  #key(relation: Relation, row: Row, oldRow: Row | null): string {
    const value = (column: string) => row[column] ?? oldRow?.[column];
    const columns = this.#keyColumns(relation, (column) => value(column) !== undefined);
    if (columns === null) {
      const table = formatTableName({ schema: relation.schema, table: relation.name });
      throw new DeliveryError(`The server sent a row of ${table} without its key`, {
        kind: "key-missing",
        hint: `Give the table a primary key, or run: ALTER TABLE … REPLICA IDENTITY FULL;`,
      });
    }
    return keyText(columns.map((column) => value(column)));
  }

  /** The key of a row before its update, where the server sent the columns that tell. */
  #oldKey(relation: Relation, oldRow: Row): string | null {
    const columns = this.#primaryKeys.get(relation.oid) ?? [];
    if (columns.length === 0) return this.#key(relation, oldRow, null);
    if (columns.some((column) => oldRow[column] === undefined)) return null;
    return keyText(columns.map((column) => oldRow[column]));
  }

  #keyColumns(relation: Relation, has: (column: string) => boolean): readonly string[] | null {
    const primaryKey = this.#primaryKeys.get(relation.oid) ?? [];
    if (primaryKey.length > 0 && primaryKey.every(has)) return primaryKey;
    const identity = relation.columns.filter((column) => column.key).map((column) => column.name);
    return identity.length > 0 && identity.every(has) ? identity : null;
  }
}

/** One value as its text; several as a JSON array of texts, which no other row's key equals. */
function keyText(values: readonly (TupleValue | undefined)[]): string {
  const texts = values.map((value) => value === null || value === undefined ? null : `${value}`);
  return texts.length === 1 ? texts[0] ?? "" : JSON.stringify(texts);
}
