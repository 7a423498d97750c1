/**
 * What pgoutput says, one interface a message, named and ordered as in
 * https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 *
 * What protocols 2 to 4 add is in `stream_messages.ts`.
 *
 * LSNs are `bigint`, byte positions in the write-ahead log, unsigned 64 bits; times are `bigint`,
 * microseconds since 2000-01-01 00:00 UTC; OIDs and transaction ids are unsigned 32 bits. Nothing
 * in a message refers to the bytes that it was decoded from.
 */

import type { StreamMessage } from "./stream_messages.ts";

/** A transaction begins. Its rows follow, up to its `Commit`. */
export interface Begin {
  /** `Byte1('B')` */
  type: "begin";
  /** LSN of the commit record: the `commitLsn` of the `Commit` that will end the transaction. */
  finalLsn: bigint;
  /** When it was committed: microseconds since 2000-01-01 UTC. */
  commitTimeUs: bigint;
  /** The transaction's id. */
  xid: number;
}

/** A transaction ends. */
export interface Commit {
  /** `Byte1('C')` */
  type: "commit";
  /** Unused by Postgres so far: 0. */
  flags: number;
  /** LSN of the commit record. */
  commitLsn: bigint;
  /** LSN just past the transaction: what to confirm once all of it has been handled. */
  endLsn: bigint;
  /** When it was committed: microseconds since 2000-01-01 UTC. */
  commitTimeUs: bigint;
}

/**
 * Where the transaction was made first, if it came to the server by replication. After `Begin`,
 * `BeginPrepare`, or the first `StreamStart` of a transaction.
 */
export interface Origin {
  /** `Byte1('O')` */
  type: "origin";
  /**
   * LSN of the commit on the server of its origin; 0 where it is not known: in a stream, and where
   * there is no name.
   */
  originLsn: bigint;
  /** Name of the replication origin; empty where PostgreSQL 13 or before sends an empty message for it. */
  name: string;
}

/** How a table's old rows are told: `ALTER TABLE … REPLICA IDENTITY`. */
export type ReplicaIdentity = "default" | "nothing" | "full" | "index";

/** A column of a `Relation`. */
export interface RelationColumn {
  /** The column's name, literally. */
  name: string;
  /** OID of its type. */
  typeOid: number;
  /** `atttypmod`; −1 for none. */
  typeModifier: number;
  /** True for a column of the replica identity; for every column under REPLICA IDENTITY FULL. */
  key: boolean;
}

/**
 * A table's shape, sent before its first row on a connection and again after its shape has changed,
 * also in the middle of a transaction. Rows refer to this very object, so that another object means
 * another shape.
 */
export interface Relation {
  /** `Byte1('R')` */
  type: "relation";
  /**
   * In a stream, the transaction's id, or that of the subtransaction that this belongs to; null
   * outside of streams.
   */
  xid: number | null;
  /** OID of the table. */
  oid: number;
  /** The table's schema, literally. */
  schema: string;
  /** The table's name, literally. */
  name: string;
  /** How old rows are told. */
  replicaIdentity: ReplicaIdentity;
  /** The published columns, in the order of the table. The order of a row's names is not told here. */
  columns: readonly RelationColumn[];
}

/** A type that Postgres does not ship, before the first `Relation` with a column of it. */
export interface Type {
  /** `Byte1('Y')` */
  type: "type";
  /**
   * In a stream, the transaction's id, or that of the subtransaction that this belongs to; null
   * outside of streams.
   */
  xid: number | null;
  /** OID of the type: the `typeOid` of columns. */
  oid: number;
  /** The type's schema, literally. */
  schema: string;
  /** The type's name, literally. */
  name: string;
}

/**
 * A value as the server sent it: text, NULL, or bytes in the type's binary format (option `binary`).
 * The bytes are a copy, the receiver's own.
 */
export type TupleValue = string | null | Uint8Array;

/**
 * Values by column name. It inherits nothing: a column called `constructor` or `__proto__` is a
 * property like any other. For the order of columns see `Relation`: a name that looks like a number
 * comes first in a JavaScript object.
 */
export type Row = Record<string, TupleValue>;

/** What an old row is: the columns of the replica identity, or all (REPLICA IDENTITY FULL). */
export type OldKind = "key" | "full";

/** A row was inserted. */
export interface Insert {
  /** `Byte1('I')` */
  type: "insert";
  /**
   * In a stream, the transaction's id, or that of the subtransaction that this belongs to; null
   * outside of streams.
   */
  xid: number | null;
  /** The shape that the server sent last for the table; the same object until it sends another. */
  relation: Relation;
  /** The new row, without its `unchanged` columns. */
  row: Row;
  /**
   * Columns stored out of line whose value the server did not send. A plain INSERT has none; an
   * UPDATE that a publication's row filter turns into an insert can have some.
   */
  unchanged: readonly string[];
}

/** A row was updated. */
export interface Update {
  /** `Byte1('U')` */
  type: "update";
  /**
   * In a stream, the transaction's id, or that of the subtransaction that this belongs to; null
   * outside of streams.
   */
  xid: number | null;
  /** The shape that the server sent last for the table; the same object until it sends another. */
  relation: Relation;
  /** The new row, without its `unchanged` columns. */
  row: Row;
  /**
   * Columns stored out of line that this update did not touch and whose value is nowhere in the
   * message: absent from `row`, not null. One that the old row holds is filled in and not listed.
   */
  unchanged: readonly string[];
  /** The old row, as `oldKind` says; null where the replica identity was not touched. */
  oldRow: Row | null;
  /** What `oldRow` is; null where it is null. */
  oldKind: OldKind | null;
}

/** A row was deleted. */
export interface Delete {
  /** `Byte1('D')` */
  type: "delete";
  /**
   * In a stream, the transaction's id, or that of the subtransaction that this belongs to; null
   * outside of streams.
   */
  xid: number | null;
  /** The shape that the server sent last for the table; the same object until it sends another. */
  relation: Relation;
  /** The old row, as `oldKind` says. */
  oldRow: Row;
  /** What `oldRow` is. */
  oldKind: OldKind;
}

/** Tables were emptied by one statement. */
export interface Truncate {
  /** `Byte1('T')` */
  type: "truncate";
  /**
   * In a stream, the transaction's id, or that of the subtransaction that this belongs to; null
   * outside of streams.
   */
  xid: number | null;
  /** The published tables, also those that CASCADE reached. */
  relations: readonly Relation[];
  /** `TRUNCATE … CASCADE` */
  cascade: boolean;
  /** `TRUNCATE … RESTART IDENTITY` */
  restartIdentity: boolean;
}

/** Written by `pg_logical_emit_message` (option `messages`). */
export interface Message {
  /** `Byte1('M')` */
  type: "message";
  /**
   * In a stream, the transaction's id; null outside of streams. Never that of a subtransaction, which
   * the server does not tell: that it was rolled back says nothing of the messages that it wrote.
   */
  xid: number | null;
  /** False where it belongs to no transaction: it then comes without `Begin` and `Commit`. */
  transactional: boolean;
  /** LSN of the message itself: the end of its record, as `pg_logical_emit_message` returns it. */
  messageLsn: bigint;
  /** What the writer called it. */
  prefix: string;
  /** The writer's bytes; a copy, the receiver's own. */
  content: Uint8Array;
}

/** Any message of protocol versions 1 to 4. Branch on `type`. */
export type PgOutputMessage =
  | Begin
  | Commit
  | Origin
  | Relation
  | Type
  | Insert
  | Update
  | Delete
  | Truncate
  | Message
  | StreamMessage;

/** 2000-01-01 00:00 UTC in milliseconds since 1970: where Postgres begins to count. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

/**
 * A commit time as a `Date`, to the millisecond.
 *
 * @param commitTimeUs microseconds since 2000-01-01 UTC.
 *
 * @example
 * ```ts
 * import { commitTimeToDate } from "@pgstream/pgstream/pgoutput";
 *
 * commitTimeToDate(86_400_000_000n).toISOString(); // "2000-01-02T00:00:00.000Z"
 * ```
 */
export function commitTimeToDate(commitTimeUs: bigint): Date {
  return new Date(Number(commitTimeUs / 1000n) + POSTGRES_EPOCH_MS);
}
