/**
 * Snapshots as the server prints them, and what they show.
 * https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
 */
import type { Lsn } from "../lsn.ts";

/** Which transactions a statement sees. Ids have 64 bits here: the epoch and the 32 of the WAL. */
export interface Snapshot {
  /** The lowest id that was in progress: all below are over. */
  xmin: bigint;
  /** The first id that was not over: from here on nothing is seen, in progress or not. */
  xmax: bigint;
  /** Ids from `xmin` to `xmax` that were in progress. Of subtransactions only the top is listed. */
  inProgress: ReadonlySet<bigint>;
}

const FORMAT = /^(\d+):(\d+):(\d+(?:,\d+)*)?$/;
const XIDS = 1n << 32n;
const HALF = 1n << 31n;

/**
 * Reads `xmin:xmax:xip,…`, which `pg_current_snapshot()` gives, and `txid_current_snapshot()` up to 12.
 *
 * @throws {RangeError} where the text is anything else.
 */
export function parseSnapshot(text: string): Snapshot {
  const match = FORMAT.exec(text);
  if (match === null) throw new RangeError(`Not a snapshot: ${JSON.stringify(text)}`);
  return {
    xmin: BigInt(match[1]!),
    xmax: BigInt(match[2]!),
    inProgress: new Set(match[3]?.split(",").map(BigInt)),
  };
}

/**
 * True where the snapshot shows what a committed transaction did. One that is committed in the WAL, and
 * decoded, may still be in progress for snapshots: it leaves the list of those a moment later, or when
 * a synchronous standby has answered.
 *
 * @param xid 32 bits, as the WAL has it: of all ids with these the one next to the snapshot is meant
 */
export function isVisible({ xmax, inProgress }: Snapshot, xid: number): boolean {
  const wide = widen(xid, xmax);
  return wide < xmax && !inProgress.has(wide);
}

function widen(xid: number, near: bigint): bigint {
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
