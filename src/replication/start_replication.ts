/**
 * START_REPLICATION, and what it is refused for.
 * https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-START-REPLICATION-SLOT-LOGICAL
 */
import { formatLsn, type Lsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import type { CopyBoth } from "../wire/copy_both.ts";
import { PostgresError, type ServerMessage } from "../wire/postgres_error.ts";
import { quoteIdentifier, quoteReplicationLiteral } from "../wire/quote.ts";
import { PublicationError, SlotError } from "./errors.ts";
import { checkNotLost } from "./slot_check.ts";
import { slotInUse, slotMissing } from "./slot.ts";
import { readSlot } from "./slot_state.ts";

/** What is to be streamed, from where. */
export interface ReplicationStart {
  slotName: string;
  publicationName: string;
  /** The server begins at the slot's confirmed position where this is below it. */
  lsn: Lsn;
  signal?: AbortSignal | undefined;
}

/**
 * Starts the stream.
 *
 * @throws {SlotError} `slot-missing`, `slot-in-use`, `slot-lost`; {PostgresError} for the rest.
 */
export async function startReplication(
  connection: Connection,
  { slotName, publicationName, lsn, signal }: ReplicationStart,
): Promise<CopyBoth> {
  const publications = quoteReplicationLiteral(quoteIdentifier(publicationName));
  try {
    return await connection.copyBoth(
      `START_REPLICATION SLOT ${quoteIdentifier(slotName)} LOGICAL ${formatLsn(lsn)} ` +
        `(proto_version '1', publication_names ${publications})`,
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

/** The server would believe it, and skip in silence what it writes until it gets there. */
export function beyondServer(slotName: string, lsn: Lsn, walLsn: Lsn): SlotError {
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
