/** How far slots are behind, and what they keep back. */

import { withDeadline } from "../replication/deadline.ts";
import { rowsOf, textOf } from "../replication/server.ts";
import type { Connection } from "../wire/connection.ts";
import { Connector, type ConnectorOptions } from "../wire/connector.ts";
import { quoteLiteral } from "../wire/quote.ts";

/** The server has this long to answer. */
const TIMEOUT_MS = 30_000;

/** A logical slot of the database. */
export interface SlotStatus {
  /** Its name. */
  slotName: string;
  /** `pgoutput`, for one that is of a stream's kind. */
  plugin: string;
  /** The walsender that reads it; null: nobody does. */
  activePid: number | null;
  /** What its consumer calls itself; null: nobody reads it, or it does not say. */
  application: string | null;
  /** True where it ends with its connection. */
  temporary: boolean;
  /** True where standbys keep it (17+). */
  failover: boolean;
  /** What its consumer has confirmed; null while it is being made. */
  confirmedLsn: string | null;
  /** WAL between the end and what is confirmed, in bytes; null while it is being made. */
  lagBytes: number | null;
  /** How long ago what is not confirmed was sent, as the server measures it; null where it cannot tell. */
  lagSeconds: number | null;
  /** WAL that the server keeps for it, in bytes; null while it is being made, or where it is lost. */
  retainedWalBytes: number | null;
  /** `reserved`, `extended`, `unreserved`, `lost`; null before PostgreSQL 13. */
  walStatus: string | null;
  /** WAL that may be written until it is lost; null: without limit, or before PostgreSQL 13. */
  safeWalBytes: number | null;
  /** Why the server does not stream from it any more; null: it does. */
  invalidated: string | null;
}

/** Which slots. */
export interface ReadSlotsOptions extends ConnectorOptions {
  /** Only this one. Default: all logical slots of the database. */
  slotName?: string;
  /** Gives up: rejects with its reason. */
  signal?: AbortSignal | undefined;
}

/**
 * Reads what the server shows of slots, over a connection of its own.
 *
 * @throws {PgStreamError} what connecting meets.
 *
 * @example
 * ```ts
 * import { readSlots } from "@pgstream/pgstream/inspect";
 *
 * for (const { slotName, lagBytes } of await readSlots({ dsn: "postgresql://localhost/db" })) {
 *   console.log(slotName, lagBytes);
 * }
 * ```
 */
export async function readSlots(options: ReadSlotsOptions = {}): Promise<SlotStatus[]> {
  const connector = new Connector(options);
  const signal = options.signal ?? new AbortController().signal;
  return await withDeadline("Reading slots", TIMEOUT_MS, signal, async (signal) => {
    const connection = await connector.connect({ signal });
    try {
      return await selectSlots(connection, options.slotName, signal);
    } finally {
      await connection.close();
    }
  });
}

/** The same, over a connection that is there. */
export async function selectSlots(
  connection: Connection,
  slotName: string | undefined,
  signal?: AbortSignal,
): Promise<SlotStatus[]> {
  const end = `CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
    ELSE pg_catalog.pg_current_wal_lsn() END`;
  const result = await connection.query(
    `SELECT s.*, r.application_name, r.pid AS sender,
      pg_catalog.pg_wal_lsn_diff(${end}, s.confirmed_flush_lsn)::bigint AS lag_bytes,
      pg_catalog.pg_wal_lsn_diff(${end}, s.restart_lsn)::bigint AS retained,
      EXTRACT(epoch FROM r.flush_lag) AS lag_seconds
    FROM pg_catalog.pg_replication_slots s
      LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
    WHERE s.database = pg_catalog.current_database()
      ${slotName === undefined ? "" : `AND s.slot_name = ${quoteLiteral(slotName)}`}
    ORDER BY s.slot_name`,
    { signal },
  );
  const number = (text: string | null | undefined) => text == null ? null : Number(text);
  const bytes = (text: string | null | undefined) =>
    text == null ? null : Math.max(0, Number(text));
  return rowsOf(result).map((row) => ({
    slotName: textOf(row, "slot_name"),
    plugin: textOf(row, "plugin"),
    activePid: number(row.active_pid),
    application: row.application_name || null,
    temporary: row.temporary === "t",
    failover: row.failover === "t",
    confirmedLsn: row.confirmed_flush_lsn ?? null,
    lagBytes: bytes(row.lag_bytes),
    lagSeconds: number(row.lag_seconds),
    retainedWalBytes: bytes(row.retained),
    walStatus: row.wal_status ?? null,
    safeWalBytes: bytes(row.safe_wal_size),
    // Which column tells depends on the version: 17+, 16, 13–15; before 13 nothing is invalidated.
    invalidated: row.invalidation_reason ??
      (row.conflicting === "t" ? "conflict" : row.wal_status === "lost" ? "wal_removed" : null),
  }));
}
