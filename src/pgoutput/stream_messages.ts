/**
 * What protocol versions 2 to 4 of pgoutput add: transactions that come in parts while they are under
 * way, and those of `PREPARE TRANSACTION`. For units see `messages.ts`.
 * https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 */

/**
 * Protocol 2, option `streaming`: changes of a transaction follow that is still under way, up to the
 * `StreamStop`. There may be many such parts, and parts of other transactions in between.
 */
export interface StreamStart {
  /** `Byte1('S')` */
  type: "stream-start";
  /** The transaction's id, not that of a subtransaction. */
  xid: number;
  /** True for the transaction's first part. */
  firstSegment: boolean;
}

/** Protocol 2: a part of a transaction ends. */
export interface StreamStop {
  /** `Byte1('E')` */
  type: "stream-stop";
}

/** Protocol 2: a transaction that came in parts was committed. */
export interface StreamCommit {
  /** `Byte1('c')` */
  type: "stream-commit";
  /** The transaction's id. */
  xid: number;
  /** Unused by Postgres so far: 0. */
  flags: number;
  /** LSN of the commit record. */
  commitLsn: bigint;
  /** LSN just past the transaction: what to confirm once all of it has been handled. */
  endLsn: bigint;
  /** When it was committed: microseconds since 2000-01-01 UTC. */
  commitTimeUs: bigint;
}

/** Protocol 2: a transaction that came in parts, or a subtransaction of it, was rolled back. */
export interface StreamAbort {
  /** `Byte1('A')` */
  type: "stream-abort";
  /** The transaction's id. */
  xid: number;
  /** What was rolled back: a subtransaction's id, or `xid` again for all of the transaction. */
  subXid: number;
  /** LSN of the abort record; 0 where a crash has left none. Null without `streaming` `"parallel"` (protocol 4). */
  abortLsn: bigint | null;
  /** When it was rolled back: microseconds since 2000-01-01 UTC. Null where `abortLsn` is. */
  abortTimeUs: bigint | null;
}

/**
 * Protocol 3, option `two_phase`: a transaction that was prepared begins. Its rows follow, up to its
 * `Prepare`.
 */
export interface BeginPrepare {
  /** `Byte1('b')` */
  type: "begin-prepare";
  /** LSN of the prepare record. */
  prepareLsn: bigint;
  /** LSN just past it. */
  endLsn: bigint;
  /** When it was prepared: microseconds since 2000-01-01 UTC. */
  prepareTimeUs: bigint;
  /** The transaction's id. */
  xid: number;
  /** What `PREPARE TRANSACTION` called it. */
  gid: string;
}

/** Protocol 3: a transaction is prepared: `PREPARE TRANSACTION`. */
export interface Prepare {
  /** `Byte1('P')` */
  type: "prepare";
  /** Unused by Postgres so far: 0. */
  flags: number;
  /** LSN of the prepare record. */
  prepareLsn: bigint;
  /** LSN just past the transaction: what to confirm once all of it has been handled. */
  endLsn: bigint;
  /** When it was prepared: microseconds since 2000-01-01 UTC. */
  prepareTimeUs: bigint;
  /** The transaction's id. */
  xid: number;
  /** What `PREPARE TRANSACTION` called it. */
  gid: string;
}

/** Protocol 3: `COMMIT PREPARED`. Its rows have come before its `Prepare`, or `StreamPrepare`. */
export interface CommitPrepared {
  /** `Byte1('K')` */
  type: "commit-prepared";
  /** Unused by Postgres so far: 0. */
  flags: number;
  /** LSN of the commit record. */
  commitLsn: bigint;
  /** LSN just past it: what to confirm once it has been handled. */
  endLsn: bigint;
  /** When it was committed: microseconds since 2000-01-01 UTC. */
  commitTimeUs: bigint;
  /** The transaction's id. */
  xid: number;
  /** What `PREPARE TRANSACTION` called it. */
  gid: string;
}

/** Protocol 3: `ROLLBACK PREPARED`. */
export interface RollbackPrepared {
  /** `Byte1('r')` */
  type: "rollback-prepared";
  /** Unused by Postgres so far: 0. */
  flags: number;
  /** LSN just past the transaction where it was prepared: the `endLsn` of its `Prepare`. */
  prepareEndLsn: bigint;
  /** LSN just past the rollback: what to confirm once it has been handled. */
  rollbackEndLsn: bigint;
  /** When it was prepared: microseconds since 2000-01-01 UTC. */
  prepareTimeUs: bigint;
  /** When it was rolled back: microseconds since 2000-01-01 UTC. */
  rollbackTimeUs: bigint;
  /** The transaction's id. */
  xid: number;
  /** What `PREPARE TRANSACTION` called it. */
  gid: string;
}

/** Protocol 3: a transaction that came in parts was prepared. */
export interface StreamPrepare {
  /** `Byte1('p')` */
  type: "stream-prepare";
  /** Unused by Postgres so far: 0. */
  flags: number;
  /** LSN of the prepare record. */
  prepareLsn: bigint;
  /** LSN just past the transaction: what to confirm once all of it has been handled. */
  endLsn: bigint;
  /** When it was prepared: microseconds since 2000-01-01 UTC. */
  prepareTimeUs: bigint;
  /** The transaction's id. */
  xid: number;
  /** What `PREPARE TRANSACTION` called it. */
  gid: string;
}

/** Any message that protocols 2 to 4 add. */
export type StreamMessage =
  | StreamStart
  | StreamStop
  | StreamCommit
  | StreamAbort
  | BeginPrepare
  | Prepare
  | CommitPrepared
  | RollbackPrepared
  | StreamPrepare;
