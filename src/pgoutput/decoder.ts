import { ByteReader } from "../bytes.ts";
import { DecodeError } from "./errors.ts";
import type {
  Delete,
  Insert,
  OldKind,
  PgOutputMessage,
  Relation,
  Row,
  Truncate,
  TupleValue,
  Update,
} from "./messages.ts";
import { readStreamMessage, readStreamXid } from "./read_stream_message.ts";
import {
  expectColumnCount,
  NEW_TUPLE,
  oldKindOf,
  readOldRow,
  readRelation,
  readSchema,
  unknownTuple,
} from "./read_tuple.ts";
import { type Table, Tables } from "./tables.ts";
import { readCopy, TupleReader } from "./tuple_reader.ts";

/** Values of larger messages are not kept until the next one comes. */
const LARGE_BYTES = 16 * 1024;
const NOTHING_UNCHANGED: readonly string[] = Object.freeze([]);

/**
 * Decodes the messages of pgoutput, protocol versions 1 to 4, in the order of one connection: rows
 * are read by the shape that came before them, in a stream by the shape that came before them in
 * the streams of the same transaction. The messages tell which version it is.
 *
 * @example
 * ```ts
 * import { PgOutputDecoder } from "@pgstream/pgstream/pgoutput";
 *
 * const decoder = new PgOutputDecoder();
 * function onXLogData(data: Uint8Array): void {
 *   const message = decoder.decode(data);
 *   if (message.type === "insert") console.log(message.relation.name, message.row);
 * }
 * ```
 */
export class PgOutputDecoder {
  readonly #tables = new Tables();
  readonly #reader = new ByteReader();
  readonly #tuple = new TupleReader();
  /** True where the message before was a Begin. */
  #begun = false;
  /** Of the row that was read last. */
  #unchanged = NOTHING_UNCHANGED;

  /**
   * Decodes one message: Byte1, then what belongs to it.
   *
   * @param bytes one whole message, the data of one XLogData; borrowed for the time of the call.
   * @returns the message, which owns all that it holds.
   * @throws {DecodeError} for bytes that are not a message, for a row of an unknown table, and for a
   * message that does not belong inside, or outside, of a stream. The decoder is then as it was before.
   */
  decode(bytes: Uint8Array): PgOutputMessage {
    return this.decodeAt(bytes, 0, bytes.length);
  }

  /**
   * `decode` of a message where it lies, from `start` to `end`: no view is made for it.
   * @internal
   */
  decodeAt(bytes: Uint8Array, start: number, end: number): PgOutputMessage {
    const reader = this.#reader;
    try {
      reader.aim(bytes, start, end);
      const message = this.#readMessage(reader);
      reader.expectEnd();
      this.#follow(message, end - start);
      this.#begun = message.type === "begin";
      return message;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new DecodeError(error.message, {
        messageType: start === end ? null : String.fromCharCode(bytes[start]!),
        offset: reader.offset,
        hint: "Pass every message of a connection from its start, whole and once, as pgoutput " +
          "sends them; call reset() for a new connection",
        cause: error,
      });
    } finally {
      reader.release();
      if (end - start > LARGE_BYTES) this.#tuple.release();
    }
  }

  /** Forgets every table: a new connection sends each shape again. */
  reset(): void {
    this.#tables.clear();
    this.#begun = false;
  }

  /** What a message changes for those that follow it. */
  #follow(message: PgOutputMessage, bytes: number): void {
    switch (message.type) {
      case "relation":
        return this.#tables.learn(message, bytes);
      case "stream-start":
        return this.#tables.startStream(message.xid, message.firstSegment);
      case "stream-stop":
        return this.#tables.stopStream();
      case "stream-commit":
      case "stream-prepare":
        return this.#tables.commitStream(message.xid);
      case "stream-abort":
        // Rows that come after those of a subtransaction may be of a table that was told of in it.
        if (message.subXid === message.xid) this.#tables.endStream(message.xid, false);
    }
  }

  #readMessage(reader: ByteReader): PgOutputMessage {
    // Up to 13, of an origin that was made in this very transaction: PostgreSQL begins a message, finds
    // no name, and sends what it has.
    if (this.#begun && reader.remaining === 0) return { type: "origin", originLsn: 0n, name: "" };
    const messageType = reader.readUint8();
    const xid = this.#tables.inStream ? readStreamXid(reader, messageType) : null;
    switch (messageType) {
      case 0x49: // I
        return this.#readInsert(reader, xid);
      case 0x55: // U
        return this.#readUpdate(reader, xid);
      case 0x44: // D
        return this.#readDelete(reader, xid);
      case 0x42: // B
        return {
          type: "begin",
          finalLsn: reader.readUint64(),
          commitTimeUs: reader.readInt64(),
          xid: reader.readUint32(),
        };
      case 0x43: // C
        return {
          type: "commit",
          flags: reader.readUint8(),
          commitLsn: reader.readUint64(),
          endLsn: reader.readUint64(),
          commitTimeUs: reader.readInt64(),
        };
      case 0x52: // R
        return readRelation(reader, xid);
      case 0x54: // T
        return this.#readTruncate(reader, xid);
      case 0x59: // Y
        return {
          type: "type",
          xid,
          oid: reader.readUint32(),
          schema: readSchema(reader),
          name: reader.readCString(),
        };
      case 0x4f: // O
        return { type: "origin", originLsn: reader.readUint64(), name: reader.readCString() };
      case 0x4d: // M
        return {
          type: "message",
          xid,
          transactional: (reader.readUint8() & 1) !== 0,
          messageLsn: reader.readUint64(),
          prefix: reader.readCString(),
          content: readCopy(reader),
        };
      default:
        return readStreamMessage(reader, messageType);
    }
  }

  #readInsert(reader: ByteReader, xid: number | null): Insert {
    const table = this.#tables.get(reader.readUint32());
    const tupleKind = reader.readUint8();
    if (tupleKind !== NEW_TUPLE) throw unknownTuple(tupleKind);
    const row = this.#readNewRow(reader, table, null);
    return { type: "insert", xid, relation: table.relation, row, unchanged: this.#unchanged };
  }

  #readUpdate(reader: ByteReader, xid: number | null): Update {
    const table = this.#tables.get(reader.readUint32());
    let oldRow: Row | null = null;
    let oldKind: OldKind | null = null;
    let tupleKind = reader.readUint8();
    if (tupleKind !== NEW_TUPLE) {
      oldKind = oldKindOf(tupleKind);
      oldRow = readOldRow(reader, this.#tuple, table, oldKind);
      tupleKind = reader.readUint8();
      if (tupleKind !== NEW_TUPLE) throw unknownTuple(tupleKind);
    }
    const row = this.#readNewRow(reader, table, oldRow);
    return {
      type: "update",
      xid,
      relation: table.relation,
      row,
      unchanged: this.#unchanged,
      oldRow,
      oldKind,
    };
  }

  #readDelete(reader: ByteReader, xid: number | null): Delete {
    const table = this.#tables.get(reader.readUint32());
    const oldKind = oldKindOf(reader.readUint8());
    const oldRow = readOldRow(reader, this.#tuple, table, oldKind);
    return { type: "delete", xid, relation: table.relation, oldRow, oldKind };
  }

  #readTruncate(reader: ByteReader, xid: number | null): Truncate {
    const count = reader.readInt32();
    const flags = reader.readUint8();
    if (count * 4 !== reader.remaining) {
      throw new RangeError(`${reader.remaining} bytes are not the OIDs of ${count} tables`);
    }
    // Each once, whatever the server sends: a message must not become a million events.
    const relations = new Set<Relation>();
    for (let i = 0; i < count; i++) relations.add(this.#tables.get(reader.readUint32()).relation);
    return {
      type: "truncate",
      xid,
      relations: [...relations],
      cascade: (flags & 1) !== 0,
      restartIdentity: (flags & 2) !== 0,
    };
  }

  /** Leaves in `#unchanged` the columns that neither the tuple nor `oldRow` has a value of. */
  #readNewRow(reader: ByteReader, { relation, rows }: Table, oldRow: Row | null): Row {
    const { columns } = relation;
    expectColumnCount(reader, relation);
    const tuple = this.#tuple;
    tuple.read(reader, columns.length);
    this.#unchanged = NOTHING_UNCHANGED;
    if (tuple.unchanged === 0) return rows.whole(tuple.values as TupleValue[]);
    const row = new rows.Empty();
    const unchanged: string[] = [];
    for (let column = 0; column < columns.length; column++) {
      const { name } = columns[column]!;
      const value = tuple.values[column];
      const known = value === undefined ? oldRow?.[name] : value;
      if (known !== undefined) row[name] = known;
      else unchanged.push(name);
    }
    if (unchanged.length > 0) this.#unchanged = unchanged;
    return row;
  }
}
