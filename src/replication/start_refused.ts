/** Why a stream does not start at once: loaded where one does not. */
import { pause } from "../backoff.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import type { PostgresError } from "../wire/postgres_error.ts";
import { SlotError } from "./errors.ts";
import { identifySystem } from "./server.ts";
import { slotInUse, slotMissing } from "./slot.ts";
import { checkNotLost } from "./slot_check.ts";
import { readSlot } from "./slot_state.ts";
import { readReplayedLsn } from "./standby.ts";

/** How long a standby may be behind a position that the slot, or the consumer, has been at. */
const BEHIND_MS = 10_000;
const BEHIND_POLL_MS = 100;
const NEVER = new AbortController().signal;

/** A position that a server has to have come to. */
export interface ReachedPosition {
  slotName: string;
  lsn: Lsn;
  signal: AbortSignal | undefined;
}

/**
 * What the server's answer to START_REPLICATION means; the answer itself where it means nothing else.
 *
 * @throws {SlotError} `slot-lost`.
 */
export async function refused(
  connection: Connection,
  { slotName, signal, error }: {
    slotName: string;
    signal: AbortSignal | undefined;
    error: PostgresError;
  },
): Promise<SlotError | PostgresError> {
  if (error.code === "55006") return await slotInUse(connection, slotName, error);
  if (error.code === "42704") return slotMissing(slotName, error);
  // 55000 is said of many things, in words that differ from version to version: the slot's own
  // columns tell whether it was invalidated.
  if (error.code === "55000") {
    const slot = await readSlot(connection, slotName, signal);
    if (slot !== null) checkNotLost(slotName, slot, error);
  }
  return error;
}

/**
 * Waits until a standby has come to a position that it was found to be behind.
 *
 * @throws {SlotError} of kind `lsn-beyond-server`, or of a standby `standby-behind`.
 */
export async function waitUntilReached(
  connection: Connection,
  { slotName, lsn, signal }: ReachedPosition,
): Promise<void> {
  for (const until = performance.now() + BEHIND_MS;;) {
    // A slot that was made, or confirmed by another session, since it was found may be beyond that.
    const { walLsn } = await identifySystem(connection, signal);
    if (lsn <= walLsn) return;
    // A standby that was restarted replays again what it had before.
    if (await readReplayedLsn(connection, signal) === null) {
      throw beyondServer(slotName, lsn, walLsn);
    }
    if (performance.now() > until) throw standbyBehind(slotName, lsn, walLsn);
    await pause(BEHIND_POLL_MS, signal ?? NEVER);
    signal?.throwIfAborted();
  }
}

/** The server would believe it, and skip in silence what it writes until it gets there. */
function beyondServer(slotName: string, lsn: Lsn, walLsn: Lsn): SlotError {
  return new SlotError(
    `Slot "${slotName}" cannot go on at ${formatLsn(lsn)}: the server's WAL ends at ` +
      formatLsn(walLsn),
    {
      kind: "lsn-beyond-server",
      slotName,
      hint:
        "Is it another server, or one restored from a backup? Changes may be missing: drop the " +
        "slot, run setup() again, and rebuild what it kept in step.",
    },
  );
}

/** What is missing is no loss there, as long as the standby still follows its primary. */
function standbyBehind(slotName: string, lsn: Lsn, walLsn: Lsn): SlotError {
  return new SlotError(
    `Slot "${slotName}" cannot go on at ${formatLsn(lsn)} yet: this standby has come to ` +
      formatLsn(walLsn),
    {
      kind: "standby-behind",
      slotName,
      retryable: true,
      hint: "Wait until it has caught up with its primary. Does it follow? " +
        "SELECT status FROM pg_stat_wal_receiver;",
    },
  );
}
