/**
 * Makes messages of pgoutput, protocol versions 1 to 4, as a server does. It shares no code with the
 * decoder that it is there to test.
 * https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 */

import { concat } from "@std/bytes";

/** A column of a relation message. `typeOid` defaults to text, `typeModifier` to −1. */
export interface ColumnSpec {
  name: string;
  typeOid?: number;
  typeModifier?: number;
  key?: boolean;
}

/** A table to make messages of. `identity` is the letter of `pg_class.relreplident`. */
export interface TableSpec {
  oid: number;
  schema?: string;
  name: string;
  identity?: "d" | "n" | "f" | "i";
  columns: readonly ColumnSpec[];
}

/** A value of a tuple that was stored out of line and did not change: kind `u`. */
export const UNCHANGED: unique symbol = Symbol("unchanged");

/** Text, NULL, binary, or unchanged. */
export type Value = string | null | Uint8Array | typeof UNCHANGED;

/** A letter is Byte1, a number Int32, a bigint Int64, bytes are themselves. */
type Part = string | number | bigint | Uint8Array;

function join(...parts: Part[]): Uint8Array<ArrayBuffer> {
  return concat(parts.map((part) => {
    if (typeof part === "string") return Uint8Array.of(part.charCodeAt(0));
    if (typeof part === "number") return bigEndian(BigInt(part), 4);
    if (typeof part === "bigint") return bigEndian(part, 8);
    return part;
  }));
}

function bigEndian(value: bigint, length: number): Uint8Array {
  return Uint8Array.from(
    { length },
    (_, i) => Number((value >> BigInt(8 * (length - 1 - i))) & 0xffn),
  );
}

function int8(value: number): Uint8Array {
  return Uint8Array.of(value);
}

function int16(value: number): Uint8Array {
  return bigEndian(BigInt(value), 2);
}

function cString(text: string): Uint8Array {
  return concat([new TextEncoder().encode(text), Uint8Array.of(0)]);
}

function tuple(values: readonly Value[]): Uint8Array {
  return join(
    int16(values.length),
    ...values.flatMap((value): Part[] => {
      if (value === null) return ["n"];
      if (value === UNCHANGED) return ["u"];
      const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
      return [typeof value === "string" ? "t" : "b", bytes.length, bytes];
    }),
  );
}

export function begin(
  finalLsn: bigint,
  xid: number,
  commitTimeUs = 0n,
): Uint8Array<ArrayBuffer> {
  return join("B", finalLsn, commitTimeUs, xid);
}

export function commit(
  commitLsn: bigint,
  endLsn: bigint,
  commitTimeUs = 0n,
): Uint8Array<ArrayBuffer> {
  return join("C", int8(0), commitLsn, endLsn, commitTimeUs);
}

export function origin(originLsn: bigint, name: string): Uint8Array<ArrayBuffer> {
  return join("O", originLsn, cString(name));
}

export function relation(table: TableSpec): Uint8Array<ArrayBuffer> {
  return join(
    "R",
    table.oid,
    cString(table.schema ?? "public"),
    cString(table.name),
    table.identity ?? "d",
    int16(table.columns.length),
    ...table.columns.flatMap((column): Part[] => [
      int8(column.key ? 1 : 0),
      cString(column.name),
      column.typeOid ?? 25,
      column.typeModifier ?? -1,
    ]),
  );
}

export function type(oid: number, schema: string, name: string): Uint8Array<ArrayBuffer> {
  return join("Y", oid, cString(schema), cString(name));
}

export function insert(oid: number, values: readonly Value[]): Uint8Array<ArrayBuffer> {
  return join("I", oid, "N", tuple(values));
}

/** `old` is a key tuple (`K`) or a whole old row (`O`, REPLICA IDENTITY FULL). */
export function update(
  oid: number,
  values: readonly Value[],
  old?: { kind: "K" | "O"; values: readonly Value[] },
): Uint8Array<ArrayBuffer> {
  const oldParts: Part[] = old === undefined ? [] : [old.kind, tuple(old.values)];
  return join("U", oid, ...oldParts, "N", tuple(values));
}

/** Named with an underscore, for `delete` is a word of the language. */
export function delete_(
  oid: number,
  kind: "K" | "O",
  values: readonly Value[],
): Uint8Array<ArrayBuffer> {
  return join("D", oid, kind, tuple(values));
}

export function truncate(
  oids: readonly number[],
  options: { cascade?: boolean; restartIdentity?: boolean } = {},
): Uint8Array<ArrayBuffer> {
  const flags = (options.cascade ? 1 : 0) | (options.restartIdentity ? 2 : 0);
  return join("T", oids.length, int8(flags), ...oids);
}

export function message(
  messageLsn: bigint,
  prefix: string,
  content: string | Uint8Array,
  options: { transactional?: boolean } = {},
): Uint8Array<ArrayBuffer> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const flags = options.transactional ? 1 : 0;
  return join("M", int8(flags), messageLsn, cString(prefix), bytes.length, bytes);
}

/** A message as it is inside of a stream: with the id of its (sub)transaction behind Byte1. */
export function streamed(xid: number, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return join(bytes.subarray(0, 1), xid, bytes.subarray(1));
}

export function streamStart(xid: number, firstSegment: boolean): Uint8Array<ArrayBuffer> {
  return join("S", xid, int8(firstSegment ? 1 : 0));
}

export function streamStop(): Uint8Array<ArrayBuffer> {
  return join("E");
}

export function streamCommit(
  xid: number,
  commitLsn: bigint,
  endLsn: bigint,
  commitTimeUs = 0n,
): Uint8Array<ArrayBuffer> {
  return join("c", xid, int8(0), commitLsn, endLsn, commitTimeUs);
}

/** `at` is there in protocol 4 alone. */
export function streamAbort(
  xid: number,
  subXid: number,
  at?: { abortLsn: bigint; abortTimeUs: bigint },
): Uint8Array<ArrayBuffer> {
  return join("A", xid, subXid, ...(at === undefined ? [] : [at.abortLsn, at.abortTimeUs]));
}

/** What the messages of a prepared transaction have in common. */
export interface Prepared {
  xid: number;
  gid: string;
  prepareLsn: bigint;
  endLsn: bigint;
  prepareTimeUs: bigint;
}

function prepared({ prepareLsn, endLsn, prepareTimeUs, xid, gid }: Prepared): Uint8Array {
  return join(prepareLsn, endLsn, prepareTimeUs, xid, cString(gid));
}

export function beginPrepare(transaction: Prepared): Uint8Array<ArrayBuffer> {
  return join("b", prepared(transaction));
}

export function prepare(transaction: Prepared): Uint8Array<ArrayBuffer> {
  return join("P", int8(0), prepared(transaction));
}

export function streamPrepare(transaction: Prepared): Uint8Array<ArrayBuffer> {
  return join("p", int8(0), prepared(transaction));
}

export function commitPrepared(
  xid: number,
  gid: string,
  commitLsn: bigint,
  endLsn: bigint,
  commitTimeUs = 0n,
): Uint8Array<ArrayBuffer> {
  return join("K", int8(0), commitLsn, endLsn, commitTimeUs, xid, cString(gid));
}

export function rollbackPrepared(
  xid: number,
  gid: string,
  at: {
    prepareEndLsn: bigint;
    rollbackEndLsn: bigint;
    prepareTimeUs: bigint;
    rollbackTimeUs: bigint;
  },
): Uint8Array<ArrayBuffer> {
  const { prepareEndLsn, rollbackEndLsn, prepareTimeUs, rollbackTimeUs } = at;
  return join(
    "r",
    int8(0),
    prepareEndLsn,
    rollbackEndLsn,
    prepareTimeUs,
    rollbackTimeUs,
    xid,
    cString(gid),
  );
}
