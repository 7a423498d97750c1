/**
 * Transactions that write to a table now. What one wrote before the table was added to a publication
 * is never published, so whoever reads the rows has to wait until it is over.
 * https://www.postgresql.org/docs/current/view-pg-locks.html
 */
import { pause } from "../backoff.ts";
import { onlyRow } from "../replication/server.ts";
import { readReplayedLsn } from "../replication/standby.ts";
import type { Connection } from "../wire/connection.ts";
import { partitionTreeSql } from "./partitions.ts";
import { widen } from "./snapshot.ts";

/** A transaction that holds a lock with which rows can be changed. */
export interface Writer {
  /** Its session; null where it is prepared, and belongs to none. */
  readonly pid: number | null;
  /** `virtualtransaction` of `pg_locks`: no later transaction has the same one. */
  readonly virtualTransaction: string;
  /** What a prepared transaction is called in COMMIT PREPARED; null of any other. */
  readonly gid: string | null;
}

/** How to wait. */
export interface WaitForWritersOptions {
  /** Gives up: rejects with its reason. */
  signal: AbortSignal;
  /** Told who is left, after `warnAfterMs` and then once a minute; null: a standby does not tell. */
  onWaiting: (writers: readonly Writer[] | null) => void;
  /** Default: 10 000. */
  warnAfterMs?: number;
  /** How long to wait at most. Default: until they are over. */
  limitMs?: number;
}

// What INSERT, UPDATE and DELETE take, and all that is stronger, but for SHARE UPDATE EXCLUSIVE and
// SHARE: VACUUM and CREATE INDEX take these, and change no row.
const WRITING = "('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', " +
  "'AccessExclusiveLock')";
// The oldest id that is in use, and the low 32 bits of the next one: nothing but an age tells that of a standby.
const XIDS = `SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()),
  (3 + pg_catalog.age('3'::pg_catalog.xid)::pg_catalog.int8 + 4294967296) % 4294967296`;
const FIRST_POLL_MS = 5;
const LAST_POLL_MS = 250;
const WARN_EVERY_MS = 60_000;

/**
 * Who may have written to the table, or to one of its partitions, in a transaction that is still open.
 *
 * @param connection may itself write: it is not among them
 */
export async function openWriters(
  connection: Connection,
  oid: number,
  signal?: AbortSignal,
): Promise<Writer[]> {
  // One look at pg_locks for both uses of it. A transaction has a row for its xid, and for that of
  // each savepoint.
  const { rows } = await connection.query(
    `${partitionTreeSql(oid)}, locks AS (SELECT * FROM pg_catalog.pg_locks WHERE granted),
      writers AS (
        SELECT DISTINCT l.pid, l.virtualtransaction FROM locks l
        WHERE l.locktype = 'relation' AND l.relation IN (SELECT oid FROM tree)
          AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
            WHERE d.datname = pg_catalog.current_database())
          AND l.mode IN ${WRITING}
          AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
      )
    SELECT w.pid, w.virtualtransaction,
      (SELECT p.gid FROM locks x JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
        WHERE w.pid IS NULL AND x.locktype = 'transactionid' AND x.pid IS NULL
          AND x.virtualtransaction = w.virtualtransaction
        LIMIT 1)
    FROM writers w ORDER BY 1, 2`,
    { signal },
  );
  return rows.map(([pid, virtualTransaction, gid]) => ({
    pid: pid === null || pid === undefined ? null : Number(pid),
    virtualTransaction: virtualTransaction!,
    gid: gid ?? null,
  }));
}

/** Who is left of those that are waited for; null: somebody, whom the server does not tell. */
type Left = readonly Writer[] | null;

/**
 * Waits until those that write to the table now are over; who begins meanwhile is not waited for. A standby knows
 * its primary's transactions, and not where they write: there all that have written anything are waited for.
 *
 * @returns false where the limit came first
 * @throws `signal.reason`; {PgStreamError} as queries do.
 */
export async function waitForWriters(
  connection: Connection,
  oid: number,
  { signal, onWaiting, warnAfterMs = 10_000, limitMs = Infinity }: WaitForWritersOptions,
): Promise<boolean> {
  const onStandby = await readReplayedLsn(connection, signal) !== null;
  const look = onStandby
    ? await writersOfPrimary(connection, signal)
    : await writersOfTable(connection, oid, signal);
  let left = await look();
  const began = performance.now();
  let warnAt = began + warnAfterMs;
  for (let pollMs = FIRST_POLL_MS; !isOver(left); pollMs = Math.min(pollMs * 2, LAST_POLL_MS)) {
    if (performance.now() - began >= limitMs) return false;
    await pause(pollMs, signal);
    signal.throwIfAborted();
    left = await look();
    if (!isOver(left) && performance.now() >= warnAt) {
      warnAt = performance.now() + WARN_EVERY_MS;
      onWaiting(left);
    }
  }
  return true;
}

function isOver(left: Left): boolean {
  return left?.length === 0;
}

async function writersOfTable(
  connection: Connection,
  oid: number,
  signal: AbortSignal,
): Promise<() => Promise<Left>> {
  const now = await openWriters(connection, oid, signal);
  const awaited = new Set(now.map((writer) => writer.virtualTransaction));
  return async () => {
    if (awaited.size === 0) return [];
    const open = await openWriters(connection, oid, signal);
    return open.filter((writer) => awaited.has(writer.virtualTransaction));
  };
}

async function writersOfPrimary(
  connection: Connection,
  signal: AbortSignal,
): Promise<() => Promise<Left>> {
  const ask = async () => {
    const [oldestText, next] = onlyRow(await connection.query(XIDS, { signal }), 2);
    const oldest = BigInt(oldestText!);
    return { oldest, next: widen(Number(next), oldest) };
  };
  // Each that has written is in the WAL under an id below this one.
  const { next } = await ask();
  return async () => (await ask()).oldest >= next ? [] : null;
}
