/**
 * What the server shows of a slot.
 * https://www.postgresql.org/docs/current/view-pg-replication-slots.html
 */
import type { Lsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import { quoteLiteral } from "../wire/quote.ts";
import { lsnOf, numberOf, rowsOf } from "./server.ts";

/** A logical slot as `pg_replication_slots` shows it. */
export interface Slot {
  /** Null for a physical slot. */
  plugin: string | null;
  database: string | null;
  /** The session that uses it now. */
  activePid: number | null;
  /** True where it goes with the session that made it, which is the one that holds it. */
  temporary: boolean;
  twoPhase: boolean;
  /** True where standbys keep a copy of it (17+). */
  failover: boolean;
  /** True for such a copy, while it is on a standby: it cannot be used before that is promoted. */
  copy: boolean;
  /** What the consumer confirmed: the next stream starts here. Null for a physical slot. */
  confirmedFlushLsn: Lsn | null;
  /** True while a session is in the middle of making it: it cannot be used yet, and may vanish again. */
  creating: boolean;
  /** Why the server will not stream from it any more; null while it will. */
  invalidated: string | null;
}

/** Looks a slot up; null where there is none. */
export async function readSlot(
  connection: Connection,
  slotName: string,
  signal?: AbortSignal,
): Promise<Slot | null> {
  const [row] = rowsOf(
    await connection.query(
      `SELECT *, pg_catalog.pg_is_in_recovery() AS on_standby
        FROM pg_catalog.pg_replication_slots WHERE slot_name = ${quoteLiteral(slotName)}`,
      { signal },
    ),
  );
  if (row === undefined) return null;
  const logical = row.database != null;
  return {
    plugin: row.plugin ?? null,
    database: row.database ?? null,
    activePid: row.active_pid == null ? null : numberOf(row, "active_pid"),
    temporary: row.temporary === "t",
    twoPhase: row.two_phase === "t",
    failover: row.failover === "t",
    // A standby that was promoted leaves `synced` as it was.
    copy: row.synced === "t" && row.on_standby === "t",
    confirmedFlushLsn: row.confirmed_flush_lsn == null ? null : lsnOf(row, "confirmed_flush_lsn"),
    creating: logical && row.confirmed_flush_lsn == null,
    // Which column tells depends on the version: 17+, 16, 13–15; before 13 nothing is invalidated.
    invalidated: row.invalidation_reason ??
      (row.conflicting === "t" ? "conflict" : row.wal_status === "lost" ? "wal_removed" : null),
  };
}
