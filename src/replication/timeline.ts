/**
 * Timelines: each promotion begins one, and the new one's history tells where it left the others.
 * https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-TIMELINE-HISTORY
 */
import { type Lsn, parseLsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import { onlyRow } from "./server.ts";

/**
 * Where the server's history left an earlier timeline: all before is common to both. Needs a connection for
 * replication.
 *
 * @param timeline the server's own
 * @returns null where the earlier one is no part of its history
 */
export async function readTimelineEnd(
  connection: Connection,
  timeline: number,
  earlier: number,
  signal?: AbortSignal,
): Promise<Lsn | null> {
  const [, history] = onlyRow(
    await connection.query(`TIMELINE_HISTORY ${timeline}`, { signal }),
    2,
  );
  return parseTimelineEnd(history ?? "", earlier);
}

/** @param history a line for each timeline that was left: its number, a tab, the LSN, a tab, why */
export function parseTimelineEnd(history: string, earlier: number): Lsn | null {
  for (const line of history.split("\n")) {
    const [timeline, lsn] = line.trim().split(/\s+/);
    if (timeline === String(earlier)) return parseLsn(lsn!);
  }
  return null;
}
