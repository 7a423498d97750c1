/** The tables that a connection has told of, and which of them a row is read by. */
import type { Relation } from "./messages.ts";
import { RowMaker } from "./row_maker.ts";

/**
 * Of the Relation messages of all tables that are known, those of all streams included: some 300,000
 * columns, which no database comes near. A server that never ceases to tell of tables must not fill
 * the memory.
 */
const MAX_RELATION_BYTES = 8 * 1024 * 1024;
/** What a stream counts as, even one that tells of no table. */
const STREAM_BYTES = 100;

/** A table as the decoder knows it. */
export interface Table {
  relation: Relation;
  /** Of its message. */
  bytes: number;
  /** When it came, among all of them. */
  told: number;
  rows: RowMaker;
}

/**
 * The relation cache. What is told in a stream is known to that transaction alone until it is
 * committed, as the server sees it too: `streamed_txns` in `pgoutput.c`. What throws changes nothing.
 */
export class Tables {
  readonly #everybodys = new Map<number, Table>();
  /** By the transaction's id. */
  readonly #streams = new Map<number, Map<number, Table>>();
  /** Those that rows are read by now. */
  #known = this.#everybodys;
  /** See `MAX_RELATION_BYTES`. */
  #bytes = 0;
  #told = 0;
  /** By the names of columns: what an engine learns of one table's rows holds for all that are alike. */
  readonly #makers = new Map<string, RowMaker>();

  /** True between a Stream Start and its Stream Stop. */
  get inStream(): boolean {
    return this.#known !== this.#everybodys;
  }

  /** @throws {RangeError} where nothing was told of it. */
  get(oid: number): Table {
    const table = this.#known.get(oid);
    if (table === undefined) throw new RangeError(`no Relation message came for OID ${oid}`);
    return table;
  }

  /** @param bytes of its message @throws {RangeError} where it is too much. */
  learn(relation: Relation, bytes: number): void {
    this.#take(bytes - (this.#known.get(relation.oid)?.bytes ?? 0));
    const told = this.#told++;
    this.#known.set(relation.oid, { relation, bytes, told, rows: this.#maker(relation) });
  }

  /** @throws {RangeError} where a part is missing before it. */
  startStream(xid: number, firstSegment: boolean): void {
    if (firstSegment) {
      // Of a transaction that a crash cut off, or that comes again, nothing more is heard.
      this.endStream(xid, false);
      this.#take(STREAM_BYTES);
      this.#streams.set(xid, new Map());
    }
    this.#known = this.#streamOf(xid);
  }

  /** @throws {RangeError} where there is none to stop. */
  stopStream(): void {
    if (!this.inStream) throw new RangeError("no stream has started");
    this.#known = this.#everybodys;
  }

  /**
   * The transaction's tables become everybody's. One that was told to everybody meanwhile is newer, and
   * the server does not repeat it.
   *
   * @throws {RangeError} where no part of the transaction came.
   */
  commitStream(xid: number): void {
    this.#streamOf(xid);
    this.endStream(xid, true);
  }

  /** Of a transaction that is not known there is nothing to end. */
  endStream(xid: number, committed: boolean): void {
    const tables = this.#streams.get(xid);
    if (tables === undefined) return;
    this.#streams.delete(xid);
    this.#bytes -= STREAM_BYTES;
    for (const [oid, table] of tables) {
      const other = this.#everybodys.get(oid);
      const dropped = !committed || (other !== undefined && other.told > table.told)
        ? table
        : other;
      this.#bytes -= dropped?.bytes ?? 0;
      if (dropped !== table) this.#everybodys.set(oid, table);
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#everybodys.clear();
    this.#streams.clear();
    this.#known = this.#everybodys;
    this.#bytes = 0;
  }

  #maker({ columns }: Relation): RowMaker {
    const names = columns.map(({ name }) => name);
    const key = JSON.stringify(names);
    let maker = this.#makers.get(key);
    if (maker === undefined) {
      // Tables keep theirs. Of shapes that are past, none is kept for long.
      if (this.#makers.size * key.length > MAX_RELATION_BYTES) this.#makers.clear();
      this.#makers.set(key, maker = new RowMaker(names));
    }
    return maker;
  }

  #streamOf(xid: number): Map<number, Table> {
    const tables = this.#streams.get(xid);
    if (tables === undefined) throw new RangeError(`transaction ${xid} has no first part`);
    return tables;
  }

  #take(bytes: number): void {
    if (this.#bytes + bytes > MAX_RELATION_BYTES) {
      let count = this.#everybodys.size;
      for (const tables of this.#streams.values()) count += tables.size;
      throw new RangeError(`${count} tables are known, more than can be kept in mind`);
    }
    this.#bytes += bytes;
  }
}
