/**
 * Whether a session on the server still lives, asked on another connection.
 * https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
 */
import { pause } from "../backoff.ts";
import type { Connector } from "../wire/connector.ts";
import { quoteLiteral } from "../wire/quote.ts";
import type { Backend } from "./backend.ts";
import { rowsOf } from "./server.ts";

/** How often a walsender has to be seen waiting before it counts as one that waits. */
const LOOKS = 3;
const BETWEEN_LOOKS_MS = 100;

/** A condition for rows of `pg_stat_activity` under the name `a`: that they are one of the backends. */
export function isOneOf(backends: readonly Backend[]): string {
  const each = backends.filter(({ startedAt }) => startedAt !== "").map((backend) =>
    `(a.pid = ${backend.processId} AND ${startedThen(backend)})`
  );
  return each.length === 0 ? "false" : `(${each.join(" OR ")})`;
}

function startedThen({ startedAt }: Backend): string {
  return `a.backend_start = ${quoteLiteral(startedAt)}::pg_catalog.timestamptz`;
}

/**
 * What a walsender does that did not answer.
 *
 * @returns
 * - `"gone"`: there is no such session any more;
 * - `"idle"`: it waits for its client, or for WAL, so it has answered all that it was asked: the
 *   connection to it is dead. Look once more whether something came in the meantime.
 * - `"busy"`: it does something else, as when it decodes a large transaction of unpublished rows, which is
 *   silent for seconds; or the role may not see what it does.
 * @throws {PgStreamError} where the server cannot be asked.
 */
export async function walsenderDoing(
  connector: Connector,
  backend: Backend,
  signal: AbortSignal,
): Promise<"gone" | "idle" | "busy"> {
  const same = backend.startedAt === "" ? "NULL::bool" : startedThen(backend);
  const sql = `SELECT a.wait_event_type AS waits_for, ${same} AS same
    FROM pg_catalog.pg_stat_activity a WHERE a.pid = ${backend.processId}`;
  const connection = await connector.connect({ signal });
  try {
    for (let look = 1;; look++) {
      const [row] = rowsOf(await connection.query(sql, { signal }));
      if (row === undefined || row.same === "f") return "gone";
      // A session of another role shows neither its start nor what it waits for.
      if (row.same === null) return "busy";
      // Logical walsenders wait in `Client`: for WAL, or for room in the socket. `Activity` is the
      // main loop's wait, between two of those.
      if (row.waits_for !== "Client" && row.waits_for !== "Activity") return "busy";
      if (look === LOOKS) return "idle";
      await pause(BETWEEN_LOOKS_MS, signal);
    }
  } finally {
    await connection.close();
  }
}
