/**
 * Snapshots as the server prints them, and what they show.
 * https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
 */
import type { Lsn } from "../lsn.ts";

/** Which transactions a statement sees. */
export type Snapshot = ListedSnapshot | ReplayedSnapshot;

/** A primary's. Ids have 64 bits here: the epoch and the 32 of the WAL. */
export interface ListedSnapshot {
  /** The lowest id that was in progress: all below are over. */
  xmin: bigint;
  /** The first id that was not over: from here on nothing is seen, in progress or not. */
  xmax: bigint;
  /** Ids from `xmin` to `xmax` that were in progress. Of subtransactions only the top is listed. */
  inProgress: ReadonlySet<bigint>;
}

/** A standby's, which does not list what runs on its primary. */
export interface ReplayedSnapshot {
  /**
   * How far the standby had replayed just before the snapshot was taken: what commits before that is shown, and
   * of the rest it is not known.
   */
  replayed: Lsn;
}

const FORMAT = /^(\d+):(\d+):(\d+(?:,\d+)*)?$/;
const XIDS = 1n << 32n;
const HALF = 1n << 31n;

/**
 * Reads `xmin:xmax:xip,…`, which `pg_current_snapshot()` gives, and `txid_current_snapshot()` up to 12.
 *
 * @throws {RangeError} where the text is anything else.
 */
export function parseSnapshot(text: string): ListedSnapshot {
  const match = FORMAT.exec(text);
  if (match === null) throw new RangeError(`Not a snapshot: ${JSON.stringify(text)}`);
  return {
    xmin: BigInt(match[1]!),
    xmax: BigInt(match[2]!),
    inProgress: new Set(match[3]?.split(",").map(BigInt)),
  };
}

/**
 * True where the snapshot is known to show what a committed transaction did.
 *
 * @param xid as the WAL has it
 * @param commitLsn where its commit record begins
 */
export function shows(snapshot: Snapshot, xid: number, commitLsn: Lsn): boolean {
  return "replayed" in snapshot ? commitLsn < snapshot.replayed : isVisible(snapshot, xid);
}

/**
 * True where the snapshot shows what a committed transaction did. One that is committed in the WAL, and
 * decoded, may still be in progress for snapshots: it leaves the list of those a moment later, or when
 * a synchronous standby has answered.
 *
 * @param xid 32 bits, as the WAL has it: of all ids with these the one next to the snapshot is meant
 */
export function isVisible({ xmax, inProgress }: ListedSnapshot, xid: number): boolean {
  const wide = widen(xid, xmax);
  return wide < xmax && !inProgress.has(wide);
}

/** Of all ids of 64 bits that end in these 32, the one next to `near`. */
export function widen(xid: number, near: bigint): bigint {
  const wide = near - near % XIDS + BigInt(xid);
  if (wide - near > HALF) return wide - XIDS;
  return near - wide > HALF ? wide + XIDS : wide;
}

/** The headers of a page of WAL: the longer one stands at the start of a segment. */
const LONGEST_PAGE_HEADER = 40n;

/**
 * The first position at which a record can begin that was written after `insertLsn` was told. Behind a
 * page's header it is the page's start: no record begins in between, and what a walsender says of its
 * own position stops before the header until somebody writes more.
 *
 * @param pageBytes the server's `wal_block_size`
 */
export function firstRecordAt(insertLsn: Lsn, pageBytes: bigint): Lsn {
  const place = insertLsn % pageBytes;
  return place <= LONGEST_PAGE_HEADER ? insertLsn - place : insertLsn;
}

/**
 * The first position at which no record can begin that a snapshot of a standby shows, taken before these were told.
 * The record that is being replayed is shown before the standby says that it has come behind it.
 *
 * @param receivedLsn null where the standby has received nothing since it was started
 * @param pageBytes the server's `wal_block_size`
 */
export function firstRecordBehind(
  replayedLsn: Lsn,
  receivedLsn: Lsn | null,
  pageBytes: bigint,
): Lsn {
  // Then there is none: a quiet server does not keep a chunk waiting.
  if (receivedLsn === replayedLsn) return replayedLsn;
  return replayedLsn + 1n + (replayedLsn % pageBytes === 0n ? LONGEST_PAGE_HEADER : 0n);
}
