/** Reads the parts of messages: old rows, relations. */
import type { ByteReader } from "../bytes.ts";
import type {
  OldKind,
  Relation,
  RelationColumn,
  ReplicaIdentity,
  Row,
  TupleValue,
} from "./messages.ts";
import type { Table } from "./tables.ts";
import { byteText, type TupleReader } from "./tuple_reader.ts";

/** Byte1 before a tuple. */
export const NEW_TUPLE = 0x4e; // N
export const KEY_TUPLE = 0x4b; // K
export const OLD_TUPLE = 0x4f; // O

/**
 * An old row. In a key tuple `n` stands for "not of the key", so that such columns are absent; a
 * column of the key always has a value.
 */
export function readOldRow(
  reader: ByteReader,
  tuple: TupleReader,
  { relation, rows }: Table,
  oldKind: OldKind,
): Row {
  const { columns } = relation;
  expectColumnCount(reader, relation);
  tuple.read(reader, columns.length);
  const { values } = tuple;
  if (oldKind === "full" && tuple.unchanged === 0) return rows.whole(values as TupleValue[]);
  const row = new rows.Empty();
  for (let column = 0; column < columns.length; column++) {
    const { name, key } = columns[column]!;
    const value = values[column];
    if (value != null || (value === null && oldKind === "full")) row[name] = value;
    else if (oldKind === "key" && key) {
      throw new RangeError(`column ${JSON.stringify(name)} of the key has no value`);
    }
  }
  return row;
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
