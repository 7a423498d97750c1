/**
 * START_REPLICATION, and what it is refused for.
 * https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-START-REPLICATION-SLOT-LOGICAL
 */
import { formatLsn, INVALID_LSN, type Lsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import type { CopyBoth } from "../wire/copy_both.ts";
import { PostgresError, type ServerMessage } from "../wire/postgres_error.ts";
import { quoteIdentifier, quoteReplicationLiteral } from "../wire/quote.ts";
import { PublicationError } from "./errors.ts";
import type { SystemIdentity } from "./server.ts";
import type { ReachedPosition } from "./start_refused.ts";

/** What is to be streamed, from where. */
export interface ReplicationStart {
  slotName: string;
  publicationName: string;
  /** The server begins at the slot's confirmed position where this is below it. */
  lsn: Lsn;
  /** The version of the protocol and further options, as `pluginOptionsSql` makes them. Default: version 1. */
  pluginOptions?: string | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Starts the stream.
 *
 * @throws {SlotError} `slot-missing`, `slot-in-use`, `slot-lost`; {PostgresError} for the rest.
 */
export async function startReplication(
  connection: Connection,
  { slotName, publicationName, lsn, pluginOptions = "proto_version '1'", signal }: ReplicationStart,
): Promise<CopyBoth> {
  const publications = quoteReplicationLiteral(quoteIdentifier(publicationName));
  try {
    return await connection.copyBoth(
      `START_REPLICATION SLOT ${quoteIdentifier(slotName)} LOGICAL ${formatLsn(lsn)} ` +
        `(${pluginOptions}, publication_names ${publications})`,
      { signal },
    );
  } catch (error) {
    if (!(error instanceof PostgresError)) throw error;
    const { refused } = await import("./start_refused.ts");
    throw await refused(connection, { slotName, signal, error });
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
  at: ReachedPosition & { identity: SystemIdentity },
): Promise<void> {
  if (at.lsn <= at.identity.walLsn) return;
  const { waitUntilReached } = await import("./start_refused.ts");
  await waitUntilReached(connection, at);
}

/** What was confirmed of the slot; zero where there is none, or where it has no position. */
export async function readConfirmedLsn(
  connection: Connection,
  slotName: string,
  signal: AbortSignal | undefined,
): Promise<Lsn> {
  const { readSlot } = await import("./slot_state.ts");
  return (await readSlot(connection, slotName, signal))?.confirmedFlushLsn ?? INVALID_LSN;
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
