/** Events of rows that were read beside the stream, alike to those of the stream. */
import type { ChangeEvent } from "../change.ts";
import { RowMaker } from "../pgoutput/row_maker.ts";
import { readCopyRow } from "../values/copy_text.ts";
import { type EventTable, keyText } from "./event_builder.ts";

const NOTHING_UNCHANGED: readonly string[] = Object.freeze([]);

/** Where and when rows were read. */
export interface ReadAt {
  /** All that was committed before it is in them. */
  lsn: string;
  time: Date;
}

/** Builds the events of one table as it is at the time. */
export class RowEvents {
  /** Where they belong. */
  readonly table: EventTable;
  /** The places of the columns. */
  readonly #columns: readonly number[];
  readonly #keyColumns: readonly string[];
  readonly #rows: RowMaker;
  readonly #values: (string | null)[] = [];

  /**
   * @param columns in the order of the values
   * @param identity what a row is known by where there is no primary key
   */
  constructor(table: EventTable, columns: readonly string[], identity: readonly string[]) {
    this.table = table;
    this.#columns = columns.map((_, place) => place);
    this.#rows = new RowMaker(columns);
    this.#keyColumns = table.primaryKey.length > 0 ? table.primaryKey : identity;
  }

  /**
   * A row that was there.
   *
   * @param bytes hold the row as COPY prints it, its columns in their order, from `start` to `end`
   * @throws {RangeError} where it is none; {DeliveryError} of kind `parser-failed` or `malformed-value`
   */
  insert(bytes: Uint8Array, start: number, end: number, at: ReadAt): ChangeEvent & { key: string } {
    readCopyRow(this.#values, this.#columns, bytes, start, end);
    const row = this.#rows.whole(this.#values);
    const { schema, table } = this.table.name;
    const key = keyText(this.#keyColumns, row);
    this.table.values?.read(row);
    return {
      operation: "insert",
      schema,
      table,
      lsn: at.lsn,
      ordinal: -1,
      commitTime: at.time,
      xid: 0,
      row,
      oldRow: null,
      key,
      oldKey: null,
      unchanged: NOTHING_UNCHANGED,
      backfill: true,
    };
  }

  /** What was known of the table is void: its rows follow. */
  truncate(at: ReadAt): ChangeEvent {
    return {
      operation: "truncate",
      ...this.table.name,
      lsn: at.lsn,
      ordinal: -1,
      commitTime: at.time,
      xid: 0,
      row: Object.create(null) as Record<string, never>,
      oldRow: null,
      key: null,
      oldKey: null,
      unchanged: NOTHING_UNCHANGED,
      backfill: true,
    };
  }
}
