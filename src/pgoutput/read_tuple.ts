/** Reads the parts of messages: tuples, values, relations. */
import type { ByteReader } from "../bytes.ts";
import type { OldKind, Relation, RelationColumn, ReplicaIdentity, Row } from "./messages.ts";
import type { Table } from "./tables.ts";

/** Byte1 before a tuple. */
export const NEW_TUPLE = 0x4e; // N
export const KEY_TUPLE = 0x4b; // K
export const OLD_TUPLE = 0x4f; // O

/** Byte1 before a value. */
export const TEXT = 0x74; // t
export const BINARY = 0x62; // b
export const NULL = 0x6e; // n
export const UNCHANGED = 0x75; // u

/**
 * An old row. In a key tuple `n` stands for "not of the key", so that such columns are absent; a
 * column of the key always has a value.
 */
export function readOldRow(
  reader: ByteReader,
  { relation, EmptyRow }: Table,
  oldKind: OldKind,
): Row {
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

export function readBinary(reader: ByteReader, valueKind: number): Uint8Array {
  if (valueKind !== BINARY) throw new RangeError(`unknown kind of value ${byteText(valueKind)}`);
  return readCopy(reader);
}

/** Int32 and as many bytes, copied: a message may be kept for longer than the chunk it came in. */
export function readCopy(reader: ByteReader): Uint8Array {
  // Not `slice()`: where the chunk is a Node `Buffer`, that shares its memory.
  return new Uint8Array(reader.readBytes(reader.readInt32()));
}

export function readRelation(reader: ByteReader, xid: number | null): Relation {
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
  return { type: "relation", xid, oid, schema, name, replicaIdentity, columns };
}

/** Postgres sends its own schema, `pg_catalog`, as the empty string. */
export function readSchema(reader: ByteReader): string {
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

export function oldKindOf(tupleKind: number): OldKind {
  if (tupleKind === KEY_TUPLE) return "key";
  if (tupleKind === OLD_TUPLE) return "full";
  throw unknownTuple(tupleKind);
}

export function expectColumnCount(reader: ByteReader, relation: Relation): void {
  const count = reader.readInt16();
  if (count !== relation.columns.length) {
    throw new RangeError(`${count} columns in a row of a table of ${relation.columns.length}`);
  }
}

export function unknownTuple(tupleKind: number): RangeError {
  return new RangeError(`unexpected kind of tuple ${byteText(tupleKind)}`);
}

export function byteText(byte: number): string {
  return `0x${byte.toString(16).padStart(2, "0")}`;
}
