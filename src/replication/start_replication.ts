/**
 * START_REPLICATION, and what it is refused for.
 * https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-START-REPLICATION-SLOT-LOGICAL
 */
import { pause } from "../backoff.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import type { CopyBoth } from "../wire/copy_both.ts";
import { PostgresError, type ServerMessage } from "../wire/postgres_error.ts";
import { quoteIdentifier, quoteReplicationLiteral } from "../wire/quote.ts";
import { PublicationError, SlotError } from "./errors.ts";
import { checkNotLost } from "./slot_check.ts";
import { slotInUse, slotMissing } from "./slot.ts";
import { identifySystem, type SystemIdentity } from "./server.ts";
import { readSlot } from "./slot_state.ts";
import { readReplayedLsn } from "./standby.ts";

/** How long a standby may be behind a position that the slot, or the consumer, has been at. */
const BEHIND_MS = 10_000;
const BEHIND_POLL_MS = 100;
const NEVER = new AbortController().signal;

/** What is to be streamed, from where. */
export interface ReplicationStart {
  slotName: string;
  publicationName: string;
  /** The server begins at the slot's confirmed position where this is below it. */
  lsn: Lsn;
  /** What `pg_logical_emit_message` wrote, too. */
  messages?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Starts the stream.
 *
 * @throws {SlotError} `slot-missing`, `slot-in-use`, `slot-lost`; {PostgresError} for the rest.
 */
export async function startReplication(
  connection: Connection,
  { slotName, publicationName, lsn, messages = false, signal }: ReplicationStart,
): Promise<CopyBoth> {
  const publications = quoteReplicationLiteral(quoteIdentifier(publicationName));
  try {
    return await connection.copyBoth(
      `START_REPLICATION SLOT ${quoteIdentifier(slotName)} LOGICAL ${formatLsn(lsn)} ` +
        `(proto_version '1', publication_names ${publications}` +
        `${messages ? ", messages 'true'" : ""})`,
      { signal },
    );
  } catch (error) {
    if (!(error instanceof PostgresError)) throw error;
    if (error.code === "55006") throw await slotInUse(connection, slotName, error);
    if (error.code === "42704") throw slotMissing(slotName, error);
    // 55000 is said of many things, in words that differ from version to version: the slot's own
    // columns tell whether it was invalidated.
    if (error.code === "55000") {
      const slot = await readSlot(connection, slotName, signal);
      if (slot !== null) checkNotLost(slotName, slot, error);
    }
    throw error;
  }
}

/**
 * Checks that the server has come to a position; a standby may take a while.
 *
 * @param at.identity what the server has said of itself
 * @throws {SlotError} of kind `lsn-beyond-server`, or of a standby `standby-behind`.
 */
export async function checkReached(
  connection: Connection,
  { slotName, lsn, identity, signal }: {
    slotName: string;
    lsn: Lsn;
    identity: SystemIdentity;
    signal: AbortSignal | undefined;
  },
): Promise<void> {
  let { walLsn } = identity;
  for (const until = performance.now() + BEHIND_MS; lsn > walLsn;) {
    // A slot that was made, or confirmed by another session, since that answer may be beyond it.
    ({ walLsn } = await identifySystem(connection, signal));
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

/** The error for a publication that is not there where the WAL is decoded. */
export function publicationMissing(publicationName: string, cause?: unknown): PublicationError {
  return new PublicationError(
    `Publication "${publicationName}" does not exist where the stream reads the WAL`,
    {
      kind: "publication-missing",
      publicationName,
      hint: "It was dropped, or made after the slot. Create it, drop the slot and run setup() " +
        "again: a slot cannot read WAL from before its publication.",
      cause,
    },
  );
}

/**
 * PostgreSQL 18 goes on without a publication and skips its rows, with only a WARNING to tell. Known by
 * the server's routine, since texts are translated.
 */
export function refuseSkippedPublication(notice: ServerMessage, publicationName: string): void {
  if (notice.routine === "LoadPublications") throw publicationMissing(publicationName);
}
