/**
 * Making a slot, which takes as long as the transactions of others that are writing at that moment.
 * https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
 */
import { type Logger, silentLogger } from "../logger.ts";
import type { Lsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteLiteral } from "../wire/quote.ts";
import { ReplicationError, SlotError } from "./errors.ts";
import { lsnOf, rowsOf } from "./server.ts";
import { OUTPUT_PLUGIN } from "./slot_check.ts";
import { readReplayedLsn } from "./standby.ts";

/** When to say what a slot on a standby waits for, and how often. */
const FIRST_WORD_MS = 1000;
const NEXT_WORD_MS = 10_000;
const LOG_SNAPSHOT = "SELECT pg_log_standby_snapshot();";

/** Which kind of slot is made, and how long that may take. */
export interface SlotCreation {
  /** `Infinity`: as long as it takes. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
  /** Goes with the session that made it. Default: false. */
  temporary?: boolean | undefined;
  /** Kept on standbys too; 17+. Default: false. */
  failover?: boolean | undefined;
  /** Is told what a slot on a standby waits for. Default: nobody. */
  logger?: Logger | undefined;
}

/**
 * Creates the slot. The server waits for every transaction that is writing at that moment, so this
 * gives up after `timeoutMs` and names them. A standby waits until its primary logs which transactions run there,
 * which an idle one does not do by itself.
 *
 * @returns its position; null where there is a slot of the name already, or one is being made
 * @throws {SlotError} of kind `slot-creation-blocked` or `slots-exhausted`; {ReplicationError} of kind `wal-level`
 * where that of a standby's primary is not enough.
 */
export async function createSlot(
  connection: Connection,
  slotName: string,
  { timeoutMs, signal, temporary = false, failover = false, logger = silentLogger }: SlotCreation,
): Promise<Lsn | null> {
  const standby = await readReplayedLsn(connection, signal) !== null;
  const stopSaying = standby ? saySlotWaits(slotName, logger) : () => {};
  // Each argument only where it is wanted: the oldest servers know of the first alone.
  const kind = `${temporary ? ", temporary => true" : ""}${failover ? ", failover => true" : ""}`;
  try {
    // The function instead of CREATE_REPLICATION_SLOT: it obeys statement_timeout.
    // 0 is no timeout; more than 31 bits is nothing that the server takes.
    const timeout = timeoutMs < 2 ** 31 ? Math.ceil(timeoutMs) : 0;
    await connection.query(`SET statement_timeout = ${timeout}`, { signal });
    const result = await connection.query(
      `SELECT lsn FROM pg_catalog.pg_create_logical_replication_slot(${quoteLiteral(slotName)}, ` +
        `${quoteLiteral(OUTPUT_PLUGIN)}${kind})`,
      { signal },
    );
    return lsnOf(rowsOf(result)[0], "lsn");
  } catch (error) {
    if (!(error instanceof PostgresError)) throw error;
    if (error.code === "42710") return null;
    if (error.code === "57014") {
      throw standby
        ? primarySilent(slotName, timeoutMs, error)
        : await creationBlocked(connection, slotName, timeoutMs, error);
    }
    if (error.code === "55000" && standby) {
      throw new ReplicationError(
        `Cannot create slot "${slotName}" on this standby: ${error.summary}`,
        {
          kind: "wal-level",
          hint: "Run on the primary: ALTER SYSTEM SET wal_level = 'logical'; and restart it.",
          cause: error,
        },
      );
    }
    if (error.code === "53400") {
      throw new SlotError(`Cannot create slot "${slotName}": all slots are in use`, {
        kind: "slots-exhausted",
        slotName,
        hint: "Raise max_replication_slots and restart, or drop slots that nobody uses: " +
          "SELECT slot_name FROM pg_replication_slots WHERE NOT active;",
        cause: error,
      });
    }
    throw error;
  } finally {
    stopSaying();
    if (!connection.closed) await connection.query("RESET statement_timeout");
  }
}

/** @returns what ends it */
function saySlotWaits(slotName: string, logger: Logger): () => void {
  const began = performance.now();
  let timer: ReturnType<typeof setTimeout>;
  const say = () => {
    const seconds = Math.round((performance.now() - began) / 1000);
    logger.warn(
      `Slot "${slotName}" is not made yet, after ${seconds} s: this standby waits until its primary logs ` +
        `which transactions run there. To make that quick, run on the primary: ${LOG_SNAPSHOT}`,
    );
    timer = setTimeout(say, NEXT_WORD_MS);
  };
  timer = setTimeout(say, FIRST_WORD_MS);
  return () => clearTimeout(timer);
}

function primarySilent(slotName: string, timeoutMs: number, cause: PostgresError): SlotError {
  return new SlotError(
    `Cannot create slot "${slotName}" within ${timeoutMs} ms: this standby waits until its primary logs ` +
      "which transactions run there, and until those that write are over",
    {
      kind: "slot-creation-blocked",
      slotName,
      retryable: true,
      hint: `Run setup() again, and meanwhile on the primary: ${LOG_SNAPSHOT}`,
      cause,
    },
  );
}

async function creationBlocked(
  connection: Connection,
  slotName: string,
  timeoutMs: number,
  cause: PostgresError,
): Promise<SlotError> {
  const writers = await connection.query(
    `SELECT pid, pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - xact_start)
      FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start LIMIT 10`,
  );
  const prepared = await connection.query("SELECT gid FROM pg_catalog.pg_prepared_xacts LIMIT 10");
  const blockers = [
    // Since when, the server tells only those who may see the session's statements too.
    ...writers.rows.map(([pid, age]) =>
      age === null ? `PID ${pid}` : `PID ${pid} (open for ${age})`
    ),
    ...prepared.rows.map(([gid]) => `prepared transaction "${gid}"`),
  ];
  return new SlotError(
    `Cannot create slot "${slotName}" within ${timeoutMs} ms: the server waits for ` +
      `writing transactions to end: ${blockers.join(", ") || "none any more"}`,
    {
      kind: "slot-creation-blocked",
      slotName,
      retryable: true,
      hint:
        "Run setup() again when they have ended, or end them: SELECT pg_terminate_backend(PID);",
      cause,
    },
  );
}
