/**
 * The replication slot, which is what the server remembers of how far a consumer is: making it, waiting
 * for it, dropping it.
 * https://www.postgresql.org/docs/current/logicaldecoding-explanation.html#LOGICALDECODING-REPLICATION-SLOTS
 */
import { pause } from "../backoff.ts";
import type { Lsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteIdentifier, quoteLiteral } from "../wire/quote.ts";
import type { Backend } from "./backend.ts";
import { withDeadline } from "./deadline.ts";
import { SlotError } from "./errors.ts";
import { isOneOf } from "./liveness.ts";
import { rowsOf } from "./server.ts";
import { checkFailoverSupported, checkSlot, checkSlotKind } from "./slot_check.ts";
import { createSlot, type SlotCreation } from "./slot_creation.ts";
import { readSlot, type Slot } from "./slot_state.ts";

const CREATION_POLL_MS = 100;
/** How long the server may take to say who holds a slot. */
const ANSWER_MS = 15_000;
const SHORTEST_POLL_MS = 100;
const LONGEST_POLL_MS = 500;
/** How long a slot that was just seen free may keep ALTER_REPLICATION_SLOT waiting. */
const ALTER_TIMEOUT_MS = 5000;
const NEVER = new AbortController().signal;

/**
 * Creates the slot, or waits while another session is creating it. One that is there gets `failover`
 * where that is wanted, for which the connection has to be one for replication.
 *
 * @returns false where there was one, or another session made it
 * @throws {SlotError} as `createSlot`, and `checkSlot` for what is there; `failover-unsupported`;
 * `slot-in-use` where somebody streams from a slot that has yet to get `failover`.
 */
export async function ensureSlot(
  connection: Connection,
  slotName: string,
  database: string,
  { timeoutMs, signal, failover = false, logger }: Omit<SlotCreation, "temporary">,
): Promise<boolean> {
  if (failover) await checkFailoverSupported(connection, slotName, signal);
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const slot = await readSlot(connection, slotName, signal);
    if (slot === null) {
      const created = await createSlot(connection, slotName, {
        timeoutMs,
        signal,
        failover,
        logger,
      });
      if (created !== null) return true;
      // Another session makes it, or has just dropped it.
      if (performance.now() >= deadline) throw slotMissing(slotName);
      await pause(CREATION_POLL_MS, signal ?? NEVER);
    } else if (slot.creating && performance.now() < deadline) {
      await pause(CREATION_POLL_MS, signal ?? NEVER);
    } else {
      checkSlot(slotName, slot, database);
      if (failover && !slot.failover) await addFailover(connection, slotName, slot, signal);
      return false;
    }
  }
}

async function addFailover(
  connection: Connection,
  slotName: string,
  slot: Slot,
  signal?: AbortSignal,
): Promise<void> {
  if (slot.activePid !== null) throw slotHeld(slotName, slot.activePid);
  // The server would wait for whoever took the slot in this moment, and obeys no timeout there.
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), ALTER_TIMEOUT_MS);
  try {
    await connection.query(
      `ALTER_REPLICATION_SLOT ${quoteIdentifier(slotName)} (FAILOVER true)`,
      { signal: signal === undefined ? late.signal : AbortSignal.any([signal, late.signal]) },
    );
  } catch (error) {
    if (late.signal.aborted && signal?.aborted !== true) {
      throw await slotInUse(connection, slotName);
    }
    if (!(error instanceof PostgresError) || error.code !== "55006") throw error;
    throw await slotInUse(connection, slotName, error);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Drops the slot, if there is one, and makes it anew: what was written in between is not in it.
 *
 * @returns its position
 * @throws {SlotError} of kind `slot-in-use` while a session holds it, `slot-plugin` or `slot-database`
 * where it is not one of ours; as `createSlot`; `failover-unsupported`. Nothing was dropped then, but where the
 * slot could not be made.
 */
export async function recreateSlot(
  connection: Connection,
  slotName: string,
  database: string,
  options: Omit<SlotCreation, "temporary">,
): Promise<Lsn> {
  const { signal, failover } = options;
  if (failover) await checkFailoverSupported(connection, slotName, signal);
  const old = await readSlot(connection, slotName, signal);
  if (old !== null && !old.creating) {
    checkSlotKind(slotName, old, database);
    await dropSlot(connection, slotName, signal);
  }
  await ensureSlot(connection, slotName, database, options);
  const slot = await readSlot(connection, slotName, signal);
  if (slot?.confirmedFlushLsn == null) throw slotMissing(slotName);
  return slot.confirmedFlushLsn;
}

/**
 * Drops the slot; a slot that is not there is no error.
 *
 * @throws {SlotError} of kind `slot-in-use` while a walsender holds it.
 */
export async function dropSlot(
  connection: Connection,
  slotName: string,
  signal?: AbortSignal,
): Promise<void> {
  try {
    await connection.query(
      "SELECT pg_catalog.pg_drop_replication_slot(slot_name) " +
        `FROM pg_catalog.pg_replication_slots WHERE slot_name = ${quoteLiteral(slotName)}`,
      { signal },
    );
  } catch (error) {
    if (!(error instanceof PostgresError) || error.code !== "55006") throw error;
    throw await slotInUse(connection, slotName, error);
  }
}

/** How long to wait for a slot, and whom not to wait for. */
export interface SlotWait {
  /** `Infinity`: as long as it takes. */
  timeoutMs: number;
  /** Ends the waiting with its reason. */
  signal: AbortSignal;
  /** Sessions of this very process that are of no use any more: where one holds the slot, it is ended. */
  own: readonly Backend[];
}

/**
 * Waits until no session holds the slot. Sessions of others are waited for, never ended.
 *
 * @throws {SlotError} of kind `slot-in-use`, naming the PID, when the time is over.
 */
export async function waitForSlot(
  connector: Connector,
  slotName: string,
  { timeoutMs, signal, own }: SlotWait,
): Promise<"free" | "missing"> {
  const deadline = performance.now() + timeoutMs;
  // Who is who is decided and acted on in one statement: in between, a PID may change hands.
  const sql = `SELECT s.active_pid,
      (SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a
        WHERE a.pid = s.active_pid AND ${isOneOf(own)}) AS ended
    FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = ${quoteLiteral(slotName)}`;
  const ended = new Set<string>();
  const connection = await connector.connect({ signal });
  try {
    for (let waitMs = SHORTEST_POLL_MS;; waitMs = Math.min(LONGEST_POLL_MS, waitMs * 1.5)) {
      const result = await withDeadline(
        "who holds the slot",
        ANSWER_MS,
        signal,
        (signal) => connection.query(sql, { signal }),
      );
      const [row] = rowsOf(result);
      if (row === undefined) return "missing";
      if (row.active_pid === null) return "free";
      const pid = row.active_pid!;
      if (row.ended === "t" && !ended.has(pid)) {
        ended.add(pid);
        connector.logger.info(
          `Ended PID ${pid}, a session of this process's that still held slot "${slotName}"`,
        );
      }
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) throw slotHeld(slotName, Number(pid));
      await pause(Math.min(waitMs, leftMs), signal);
    }
  } finally {
    await connection.close();
  }
}

/** The error for a slot that is not there. */
export function slotMissing(slotName: string, cause?: unknown): SlotError {
  return new SlotError(`Slot "${slotName}" does not exist`, {
    kind: "slot-missing",
    slotName,
    hint: "Run setup() first: it creates what is missing. If the slot was there before, changes " +
      "since then were missed.",
    cause,
  });
}

/** The error for a slot that another session holds; looks up its PID. */
export async function slotInUse(
  connection: Connection,
  slotName: string,
  cause?: PostgresError,
): Promise<SlotError> {
  const slot = await readSlot(connection, slotName);
  return slotHeld(slotName, slot?.activePid ?? undefined, cause);
}

function slotHeld(slotName: string, pid: number | undefined, cause?: PostgresError): SlotError {
  return new SlotError(
    `Cannot use slot "${slotName}": it is held by ${
      pid === undefined ? "another session" : `PID ${pid}`
    }`,
    {
      kind: "slot-in-use",
      slotName,
      activePid: pid,
      retryable: true,
      hint: "Stop the other consumer, or choose another slotName. " +
        "What it is: SELECT * FROM pg_stat_replication;",
      cause,
    },
  );
}
