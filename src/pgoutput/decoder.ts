import { ByteReader } from "../bytes.ts";
import { DecodeError } from "./errors.ts";
import type {
  Delete,
  Insert,
  OldKind,
  PgOutputMessage,
  Relation,
  RelationColumn,
  ReplicaIdentity,
  Row,
  Truncate,
  Update,
} from "./messages.ts";

/** Byte1 before a tuple. */
const NEW_TUPLE = 0x4e; // N
const KEY_TUPLE = 0x4b; // K
const OLD_TUPLE = 0x4f; // O

/** Byte1 before a value. */
const TEXT = 0x74; // t
const BINARY = 0x62; // b
const NULL = 0x6e; // n
const UNCHANGED = 0x75; // u

/**
 * Of the Relation messages of all tables that are known: some 300,000 columns, which no database comes
 * near. A server that never ceases to tell of tables must not fill the memory.
 */
const MAX_RELATION_BYTES = 8 * 1024 * 1024;

const NOTHING_UNCHANGED: readonly string[] = Object.freeze([]);

/** A table as the decoder knows it. */
interface Table {
  relation: Relation;
  /** Of its message. */
  bytes: number;
  EmptyRow: new () => Row;
}

const NOTHING_INHERITED = Object.freeze(Object.create(null));

/**
 * Makes what makes rows that inherit nothing. A constructor for each table keeps the shapes of its
 * rows stable and lets the engine learn their size; `Object.create(null)` would be a hash table,
 * three times slower on V8.
 */
export function newEmptyRow(): new () => Row {
  const EmptyRow = function () {} as unknown as new () => Row;
  EmptyRow.prototype = NOTHING_INHERITED;
  return EmptyRow;
}

/**
 * Decodes the messages of pgoutput, protocol version 1, in the order of one connection: rows are
 * read by the shape that came before them.
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
  readonly #tables = new Map<number, Table>();
  readonly #reader = new ByteReader();
  /** See `MAX_RELATION_BYTES`. */
  #relationBytes = 0;
  /** Of the row that was read last. */
  #unchanged = NOTHING_UNCHANGED;

  /**
   * Decodes one message: Byte1, then what belongs to it.
   *
   * @param bytes one whole message, the data of one XLogData; borrowed for the time of the call.
   * @returns the message, which owns all that it holds.
   * @throws {DecodeError} for bytes that are not a message, and for a row of an unknown table. The
   * decoder is then as it was before.
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
      if (message.type === "relation") this.#learn(message, end - start);
      return message;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new DecodeError(error.message, {
        messageType: start === end ? null : String.fromCharCode(bytes[start]!),
        offset: reader.offset,
        hint: "Pass every message of a connection from its start, whole and once, as pgoutput " +
          "sends them with proto_version 1; call reset() for a new connection",
        cause: error,
      });
    } finally {
      reader.release();
    }
  }

  /** Forgets every table: a new connection sends each shape again. */
  reset(): void {
    this.#tables.clear();
    this.#relationBytes = 0;
  }

  #learn(relation: Relation, bytes: number): void {
    const all = this.#relationBytes - (this.#tables.get(relation.oid)?.bytes ?? 0) + bytes;
    if (all > MAX_RELATION_BYTES) {
      throw new RangeError(`${this.#tables.size} tables are known, more than can be kept in mind`);
    }
    this.#relationBytes = all;
    this.#tables.set(relation.oid, { relation, bytes, EmptyRow: newEmptyRow() });
  }

  #readMessage(reader: ByteReader): PgOutputMessage {
    const messageType = reader.readUint8();
    switch (messageType) {
      case 0x49: // I
        return this.#readInsert(reader);
      case 0x55: // U
        return this.#readUpdate(reader);
      case 0x44: // D
        return this.#readDelete(reader);
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
        return readRelation(reader);
      case 0x54: // T
        return this.#readTruncate(reader);
      case 0x59: // Y
        return {
          type: "type",
          oid: reader.readUint32(),
          schema: readSchema(reader),
          name: reader.readCString(),
        };
      case 0x4f: // O
        return { type: "origin", originLsn: reader.readUint64(), name: reader.readCString() };
      case 0x4d: // M
        return {
          type: "message",
          transactional: (reader.readUint8() & 1) !== 0,
          messageLsn: reader.readUint64(),
          prefix: reader.readCString(),
          content: readCopy(reader),
        };
      default:
        throw new RangeError(
          `no message of protocol version 1 begins with ${byteText(messageType)}`,
        );
    }
  }

  #readInsert(reader: ByteReader): Insert {
    const table = this.#readTable(reader);
    const tupleKind = reader.readUint8();
    if (tupleKind !== NEW_TUPLE) throw unknownTuple(tupleKind);
    const row = this.#readNewRow(reader, table, null);
    return { type: "insert", relation: table.relation, row, unchanged: this.#unchanged };
  }

  #readUpdate(reader: ByteReader): Update {
    const table = this.#readTable(reader);
    let oldRow: Row | null = null;
    let oldKind: OldKind | null = null;
    let tupleKind = reader.readUint8();
    if (tupleKind !== NEW_TUPLE) {
      oldKind = oldKindOf(tupleKind);
      oldRow = readOldRow(reader, table, oldKind);
      tupleKind = reader.readUint8();
      if (tupleKind !== NEW_TUPLE) throw unknownTuple(tupleKind);
    }
    const row = this.#readNewRow(reader, table, oldRow);
    return {
      type: "update",
      relation: table.relation,
      row,
      unchanged: this.#unchanged,
      oldRow,
      oldKind,
    };
  }

  #readDelete(reader: ByteReader): Delete {
    const table = this.#readTable(reader);
    const oldKind = oldKindOf(reader.readUint8());
    const oldRow = readOldRow(reader, table, oldKind);
    return { type: "delete", relation: table.relation, oldRow, oldKind };
  }

  #readTruncate(reader: ByteReader): Truncate {
    const count = reader.readInt32();
    const flags = reader.readUint8();
    if (count * 4 !== reader.remaining) {
      throw new RangeError(`${reader.remaining} bytes are not the OIDs of ${count} tables`);
    }
    // Each once, whatever the server sends: a message must not become a million events.
    const relations = new Set<Relation>();
    for (let i = 0; i < count; i++) relations.add(this.#readTable(reader).relation);
    return {
      type: "truncate",
      relations: [...relations],
      cascade: (flags & 1) !== 0,
      restartIdentity: (flags & 2) !== 0,
    };
  }

  #readTable(reader: ByteReader): Table {
    const oid = reader.readUint32();
    const table = this.#tables.get(oid);
    if (table === undefined) throw new RangeError(`no Relation message came for OID ${oid}`);
    return table;
  }

  /** Leaves in `#unchanged` the columns that neither the tuple nor `oldRow` has a value of. */
  #readNewRow(reader: ByteReader, { relation, EmptyRow }: Table, oldRow: Row | null): Row {
    expectColumnCount(reader, relation);
    const row = new EmptyRow();
    let unchanged: string[] | null = null;
    for (const { name } of relation.columns) {
      const valueKind = reader.readUint8();
      if (valueKind === TEXT) {
        row[name] = reader.readText(reader.readInt32());
      } else if (valueKind === NULL) {
        row[name] = null;
      } else if (valueKind === UNCHANGED) {
        const oldValue = oldRow?.[name];
        if (oldValue !== undefined) row[name] = oldValue;
        else (unchanged ??= []).push(name);
      } else {
        row[name] = readBinary(reader, valueKind);
      }
    }
    this.#unchanged = unchanged ?? NOTHING_UNCHANGED;
    return row;
  }
}

/**
 * An old row. In a key tuple `n` stands for "not of the key", so that such columns are absent; a
 * column of the key always has a value.
 */
function readOldRow(reader: ByteReader, { relation, EmptyRow }: Table, oldKind: OldKind): Row {
  expectColumnCount(reader, relation);
  const row = new EmptyRow();
  for (const { name, key } of relation.columns) {
    const valueKind = reader.readUint8();
    if (valueKind === TEXT) {
      row[name] = reader.readText(reader.readInt32());
    } else if (valueKind !== NULL && valueKind !== UNCHANGED) {
      row[name] = readBinary(reader, valueKind);
    } else if (oldKind === "full") {
      if (valueKind === NULL) row[name] = null;
    } else if (key) {
      throw new RangeError(`column ${JSON.stringify(name)} of the key has no value`);
    }
  }
  return row;
}

function readBinary(reader: ByteReader, valueKind: number): Uint8Array {
  if (valueKind !== BINARY) throw new RangeError(`unknown kind of value ${byteText(valueKind)}`);
  return readCopy(reader);
}

/** Int32 and as many bytes, copied: a message may be kept for longer than the chunk it came in. */
function readCopy(reader: ByteReader): Uint8Array {
  // Not `slice()`: where the chunk is a Node `Buffer`, that shares its memory.
  return new Uint8Array(reader.readBytes(reader.readInt32()));
}

function readRelation(reader: ByteReader): Relation {
  const oid = reader.readUint32();
  const schema = readSchema(reader);
  const name = reader.readCString();
  const replicaIdentity = replicaIdentityOf(reader.readUint8());
  const columns: RelationColumn[] = [];
  const count = reader.readInt16();
  if (count < 0) throw new RangeError(`${count} columns`);
  for (let i = 0; i < count; i++) {
    const flags = reader.readUint8();
    columns.push({
      name: reader.readCString(),
      typeOid: reader.readUint32(),
      typeModifier: reader.readInt32(),
      key: (flags & 1) !== 0,
    });
  }
  return { type: "relation", oid, schema, name, replicaIdentity, columns };
}

/** Postgres sends its own schema, `pg_catalog`, as the empty string. */
function readSchema(reader: ByteReader): string {
  return reader.readCString() || "pg_catalog";
}

function replicaIdentityOf(setting: number): ReplicaIdentity {
  switch (setting) {
    case 0x64: // d
      return "default";
    case 0x6e: // n
      return "nothing";
    case 0x66: // f
      return "full";
    case 0x69: // i
      return "index";
    default:
      throw new RangeError(`unknown replica identity ${byteText(setting)}`);
  }
}

function oldKindOf(tupleKind: number): OldKind {
  if (tupleKind === KEY_TUPLE) return "key";
  if (tupleKind === OLD_TUPLE) return "full";
  throw unknownTuple(tupleKind);
}

function expectColumnCount(reader: ByteReader, relation: Relation): void {
  const count = reader.readInt16();
  if (count !== relation.columns.length) {
    throw new RangeError(`${count} columns in a row of a table of ${relation.columns.length}`);
  }
}

function unknownTuple(tupleKind: number): RangeError {
  return new RangeError(`unexpected kind of tuple ${byteText(tupleKind)}`);
}

function byteText(byte: number): string {
  return `0x${byte.toString(16).padStart(2, "0")}`;
}
