/** A standby that is promoted while it is the source: its history goes on, under another timeline. */
import { pause } from "../backoff.ts";
import type { Lsn } from "../lsn.ts";
import type { SystemIdentity } from "../replication/server.ts";
import { onlyRow } from "../replication/server.ts";
import { readTimelineEnd } from "../replication/timeline.ts";
import type { Connection } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";
import type { KnownSystem } from "./continuation.ts";

/** How often to ask. A standby that is restarted within that time of its promotion may be taken for another server. */
const ASK_MS = 10_000;

/**
 * Up to where what is known of a standby holds on the server that is there now, which is on another timeline.
 *
 * @param known a standby
 * @param found.position what came from the standby
 * @returns null: all of it, for it is the same server, promoted; undefined: this is not what has become of it
 */
export async function commonHistory(
  connection: Connection,
  known: KnownSystem,
  found: { identity: SystemIdentity; startedAt: string; position: Lsn },
): Promise<Lsn | null | undefined> {
  const { identity, startedAt, position } = found;
  if (known.systemId !== identity.systemId || known.timeline > identity.timeline) return undefined;
  // To be promoted, a server is not restarted.
  if (known.standbyStartedAt === startedAt) return null;
  const end = await readTimelineEnd(connection, identity.timeline, known.timeline);
  return end !== null && position <= end ? end : undefined;
}

/**
 * Asks from time to time whether a standby was promoted, which its stream does not tell.
 *
 * @param signal ends it
 * @returns the new timeline; null where it was ended, or it is another server by now
 */
export async function promoted(
  connector: Connector,
  startedAt: string,
  signal: AbortSignal,
): Promise<number | null> {
  for (;;) {
    await pause(ASK_MS, signal);
    if (signal.aborted) return null;
    try {
      const connection = await connector.connect({ signal });
      try {
        const result = await connection.query(
          // The first eight digits of a segment's name.
          `SELECT pg_catalog.pg_postmaster_start_time(), CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) END`,
          { signal },
        );
        const [started, timeline] = onlyRow(result, 2);
        if (started !== startedAt) return null;
        if (timeline !== null && timeline !== undefined) return Number.parseInt(timeline, 16);
      } finally {
        await connection.close();
      }
    } catch (error) {
      // What is wrong with the server, the stream itself will meet.
      connector.logger.debug("Could not ask whether the standby was promoted", error);
    }
  }
}
