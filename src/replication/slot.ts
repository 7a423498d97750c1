/**
 * The replication slot: what the server remembers of how far a consumer is.
 * https://www.postgresql.org/docs/current/view-pg-replication-slots.html
 */
import { type Lsn, parseLsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteLiteral } from "../wire/quote.ts";
import { SlotError } from "./errors.ts";
import { rowsOf } from "./server.ts";

const OUTPUT_PLUGIN = "pgoutput";
const CREATION_POLL_MS = 100;

/** A logical slot as `pg_replication_slots` shows it. */
export interface Slot {
  /** Null for a physical slot. */
  plugin: string | null;
  database: string | null;
  /** The walsender that uses it now. */
  activePid: number | null;
  twoPhase: boolean;
  /** What the consumer confirmed: the next stream starts here. Null for a physical slot. */
  confirmedFlushLsn: Lsn | null;
  /** True while a session is in the middle of making it: it cannot be used yet, and may vanish again. */
  creating: boolean;
  /** Why the server will not stream from it any more; null while it will. */
  invalidated: string | null;
}

/**
 * Checks a slot's name by the server's own rule, so that the error comes before any connection.
 *
 * @throws {SlotError} of kind `slot-name`.
 */
export function checkSlotName(slotName: string): void {
  if (/^[a-z0-9_]{1,63}$/.test(slotName)) return;
  throw new SlotError(`Not a slot name: ${JSON.stringify(slotName)}`, {
    kind: "slot-name",
    slotName,
    hint: "A slot's name has 1 to 63 characters: lower case letters, digits and underscores.",
  });
}

/** Looks a slot up; null where there is none. */
export async function readSlot(
  connection: Connection,
  slotName: string,
  signal?: AbortSignal,
): Promise<Slot | null> {
  const [row] = rowsOf(
    await connection.query(
      `SELECT * FROM pg_catalog.pg_replication_slots WHERE slot_name = ${quoteLiteral(slotName)}`,
      { signal },
    ),
  );
  if (row === undefined) return null;
  const logical = row.database != null;
  return {
    plugin: row.plugin ?? null,
    database: row.database ?? null,
    activePid: row.active_pid == null ? null : Number(row.active_pid),
    twoPhase: row.two_phase === "t",
    confirmedFlushLsn: row.confirmed_flush_lsn == null ? null : parseLsn(row.confirmed_flush_lsn),
    creating: logical && row.confirmed_flush_lsn == null,
    // Which column tells depends on the version: 17+, 16, 13–15; before 13 nothing is invalidated.
    invalidated: row.invalidation_reason ??
      (row.conflicting === "t" ? "conflict" : row.wal_status === "lost" ? "wal_removed" : null),
  };
}

/**
 * Checks that the slot can be one of ours, whatever has become of it.
 *
 * @throws {SlotError} of kind `slot-plugin` or `slot-database`.
 */
export function checkSlotKind(slotName: string, slot: Slot, database: string): void {
  const fail = (kind: string, message: string) => {
    throw new SlotError(message, { kind, slotName, hint: anotherSlot(slotName) });
  };
  if (slot.plugin !== OUTPUT_PLUGIN) {
    const what = slot.plugin === null ? "a physical slot" : `of the plugin "${slot.plugin}"`;
    fail("slot-plugin", `Slot "${slotName}" is ${what}, not of "${OUTPUT_PLUGIN}"`);
  }
  if (slot.database !== database) {
    fail(
      "slot-database",
      `Slot "${slotName}" belongs to database "${slot.database}", not to "${database}"`,
    );
  }
}

/**
 * Checks that a stream of ours can use the slot.
 *
 * @throws {SlotError} of kind `slot-in-use` while it is being created, `slot-plugin`, `slot-database`,
 * `slot-two-phase` or `slot-lost`.
 */
export function checkSlot(slotName: string, slot: Slot, database: string): void {
  if (slot.creating) {
    throw new SlotError(
      `Cannot use slot "${slotName}": PID ${slot.activePid} is still creating it`,
      {
        kind: "slot-in-use",
        slotName,
        activePid: slot.activePid ?? undefined,
        retryable: true,
        hint: "Try again when setup() has ended: the server waits for writing transactions to end.",
      },
    );
  }
  checkSlotKind(slotName, slot, database);
  const fail = (kind: string, message: string, hint: string) => {
    throw new SlotError(message, { kind, slotName, hint });
  };
  if (slot.twoPhase) {
    fail(
      "slot-two-phase",
      `Slot "${slotName}" decodes two-phase transactions`,
      anotherSlot(slotName),
    );
  }
  if (slot.invalidated !== null) {
    fail(
      "slot-lost",
      `Slot "${slotName}" was invalidated by the server (${slot.invalidated}): ` +
        "changes after its position are gone",
      "Drop it, run setup() again, and rebuild what it kept in step: " +
        `SELECT pg_drop_replication_slot(${quoteLiteral(slotName)}); ` +
        "Look at max_slot_wal_keep_size and idle_replication_slot_timeout.",
    );
  }
}

function anotherSlot(slotName: string): string {
  return "Choose another slotName, or drop it if nobody needs it: " +
    `SELECT pg_drop_replication_slot(${quoteLiteral(slotName)});`;
}

/**
 * Creates the slot, or waits while another session is creating it.
 *
 * @returns false where another session made it
 * @throws {SlotError} as `createSlot`, and `checkSlot` for what the other session made.
 */
export async function ensureSlot(
  connection: Connection,
  slotName: string,
  database: string,
  { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const slot = await readSlot(connection, slotName, signal);
    if (slot === null) {
      if (await createSlot(connection, slotName, { timeoutMs, signal })) return true;
    } else if (slot.creating && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, CREATION_POLL_MS));
    } else {
      checkSlot(slotName, slot, database);
      return false;
    }
  }
}

/**
 * Creates the slot. The server waits for every transaction that is writing at that moment, so this
 * gives up after `timeoutMs` and names them.
 *
 * @returns false where another session is making it, or has made it
 * @throws {SlotError} of kind `slot-creation-blocked`, `slots-exhausted` or `replication-privilege`.
 */
async function createSlot(
  connection: Connection,
  slotName: string,
  { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<boolean> {
  try {
    // The function instead of CREATE_REPLICATION_SLOT: it obeys statement_timeout.
    // 0 is no timeout; more than 31 bits is nothing that the server takes.
    const timeout = timeoutMs < 2 ** 31 ? Math.ceil(timeoutMs) : 0;
    await connection.query(`SET statement_timeout = ${timeout}`, { signal });
    await connection.query(
      `SELECT pg_catalog.pg_create_logical_replication_slot(${quoteLiteral(slotName)}, ` +
        `${quoteLiteral(OUTPUT_PLUGIN)})`,
      { signal },
    );
    return true;
  } catch (error) {
    if (!(error instanceof PostgresError)) throw error;
    if (error.code === "42710") return false;
    if (error.code === "57014") throw await creationBlocked(connection, slotName, timeoutMs, error);
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
    if (!connection.closed) await connection.query("RESET statement_timeout");
  }
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

/** The error for a slot that another session holds; names its PID. */
export async function slotInUse(
  connection: Connection,
  slotName: string,
  cause: PostgresError,
): Promise<SlotError> {
  const pid = (await readSlot(connection, slotName))?.activePid ?? undefined;
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
