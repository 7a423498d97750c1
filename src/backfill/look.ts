/** What the server tells of the snapshot that a transaction reads by, in one answer. */
import type { ReadAt } from "../delivery/row_events.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { type CatalogRow, lsnOf, rowsOf } from "../replication/server.ts";
import type { Connection } from "../wire/connection.ts";
import { planSignature } from "./plan_facts.ts";
import {
  firstRecordAt,
  firstRecordBehind,
  type ListedSnapshot,
  parseSnapshot,
} from "./snapshot.ts";

/** A snapshot, its place in the stream, and whose it is. */
export interface Look {
  /** Of a primary; a standby's lists nothing. */
  listed: ListedSnapshot;
  /** True where a standby took it. */
  standby: boolean;
  /** All that the snapshot shows commits before it. */
  lsn: Lsn;
  at: ReadAt;
  /** When the server was started, as it prints it. */
  startedAt: string;
  /** `ReadPlan.signature` by this snapshot; null where the table is gone. */
  signature: string | null;
}

/** A query of one row, for one table; to be prepared as `look` where it is asked for often. */
export function lookSql(oid: number, publicationName: string, serverVersion: number): string {
  const current = serverVersion >= 130000 ? "pg_current_snapshot" : "txid_current_snapshot";
  // The position is told when the statement runs, which is after its snapshot was taken.
  return `SELECT pg_catalog.${current}()::text AS snapshot,
    pg_catalog.pg_is_in_recovery() AS standby,
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
      ELSE pg_catalog.pg_current_wal_insert_lsn() END AS lsn,
    pg_catalog.pg_last_wal_receive_lsn() AS received,
    pg_catalog.current_setting('wal_block_size') AS page_bytes,
    pg_catalog.pg_postmaster_start_time() AS started_at,
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000 AS now_ms,
    ${planSignature(oid, publicationName, serverVersion)} AS signature`;
}

/** @param connection where `lookSql` is prepared, in the transaction that is to read */
export async function look(connection: Connection, signal: AbortSignal): Promise<Look> {
  const [row] = rowsOf(await connection.query("EXECUTE look", { signal }));
  return readLook(row);
}

/** What `lookSql` was answered. */
export function readLook(row: CatalogRow | undefined): Look {
  const told = lsnOf(row, "lsn");
  const received = row!.received == null ? null : lsnOf(row, "received");
  const pageBytes = BigInt(row!.page_bytes!);
  const standby = row!.standby === "t";
  const lsn = standby
    ? firstRecordBehind(told, received, pageBytes)
    : firstRecordAt(told, pageBytes);
  return {
    listed: parseSnapshot(row!.snapshot!),
    standby,
    lsn,
    at: { lsn: formatLsn(lsn), time: new Date(Math.round(Number(row!.now_ms))) },
    startedAt: row!.started_at!,
    signature: row!.signature ?? null,
  };
}
