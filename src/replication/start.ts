/** What a stream finds on the server before it starts. */
import type { Logger } from "../logger.ts";
import type { Lsn } from "../lsn.ts";
import { formatTableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { PublicationError } from "./errors.ts";
import {
  checkPartitionRoots,
  type Publication,
  publishedAs,
  readPublication,
  unpublishedTables,
} from "./publication.ts";
import { currentDatabase, serverStartedAt } from "./server.ts";
import { slotMissing } from "./slot.ts";
import { checkSlot, slotNameTaken } from "./slot_check.ts";
import { createSlot } from "./slot_creation.ts";
import { readSlot, type Slot } from "./slot_state.ts";
import { checkStandbyDecodes, readReplayedLsn } from "./standby.ts";
import { type CatalogTable, readTables } from "./tables.ts";
import type { WatchedTable } from "./watched_table.ts";

/** How long a temporary slot may wait for open writing transactions. */
const CREATE_TIMEOUT_MS = 60_000;
/** Watch lists that somebody was warned of: a lost connection is no reason to repeat it. */
const told = new WeakSet<readonly WatchedTable[]>();

/** What a stream is to start with. */
export interface StartOptions {
  slotName: string;
  publicationName: string;
  /** The watched tables. */
  tables: readonly WatchedTable[];
  /** Makes the slot, on this connection and for as long as it lives, instead of looking for it. */
  temporary?: boolean | undefined;
  /** How long a temporary slot may wait for open writing transactions. Default: 60,000. */
  createTimeoutMs?: number | undefined;
  /**
   * Is told what a temporary slot waits for on a standby, and once for the same `tables` which of them are not
   * published as they are watched. Default: nobody.
   */
  logger?: Logger | undefined;
}

/** Where a stream goes on, and what it watches. */
export interface StreamStart {
  /** The watched tables, as the catalogue shows them. */
  tables: readonly CatalogTable[];
  /** The slot's position. */
  confirmedLsn: Lsn;
  /** True where standbys keep a copy of the slot. */
  failover: boolean;
  /** When the server was started, as it prints it: what other connections know it by. */
  startedAt: string;
  /** How far a standby has come, which can be streamed from it; null on a server that is none. */
  replayedLsn: Lsn | null;
}

/**
 * Checks that slot, publication and tables are there and fit each other: what is missing would else be
 * noticed at some later change, or never. A temporary slot is made, when all else is right.
 *
 * @param connection the one that is to stream; it is left open
 * @throws {SlotError} `slot-missing` and those of `checkSlot`; of a temporary slot `slot-exists`, `slot-in-use` and
 * those of `createSlot`; {PublicationError} `publication-missing`, `table-not-published`,
 * `publication-partition-root`, `key-not-published`; {ReplicationError} `table-missing`, `standby`.
 */
export async function readStart(
  connection: Connection,
  options: StartOptions,
  signal: AbortSignal,
): Promise<StreamStart> {
  const { slotName, temporary = false, logger } = options;
  const replayedLsn = await readReplayedLsn(connection, signal);
  if (replayedLsn !== null) checkStandbyDecodes(connection);
  const slot = temporary ? null : await checkedSlot(connection, slotName, signal);
  const tables = await publishedTables(connection, options, replayedLsn !== null, signal);
  const startedAt = await serverStartedAt(connection, signal);
  if (slot !== null) {
    const { confirmedFlushLsn, failover } = slot;
    return { tables, confirmedLsn: confirmedFlushLsn!, failover, startedAt, replayedLsn };
  }
  const { createTimeoutMs: timeoutMs = CREATE_TIMEOUT_MS } = options;
  const creation = { timeoutMs, signal, temporary, logger };
  const confirmedLsn = await createSlot(connection, slotName, creation);
  if (confirmedLsn === null) {
    throw slotNameTaken(slotName, await readSlot(connection, slotName, signal));
  }
  return { tables, confirmedLsn, failover: false, startedAt, replayedLsn };
}

async function checkedSlot(
  connection: Connection,
  slotName: string,
  signal: AbortSignal,
): Promise<Slot> {
  const slot = await readSlot(connection, slotName, signal);
  if (slot === null) throw slotMissing(slotName);
  checkSlot(slotName, slot, await currentDatabase(connection, signal));
  return slot;
}

async function publishedTables(
  connection: Connection,
  { publicationName, tables: watched, logger }: StartOptions,
  standby: boolean,
  signal: AbortSignal,
): Promise<CatalogTable[]> {
  const hint = "Run setup() first: it creates what is missing.";
  const publication = await readPublication(connection, publicationName, signal);
  if (publication === null) {
    throw new PublicationError(`Publication "${publicationName}" does not exist`, {
      kind: "publication-missing",
      publicationName,
      hint,
    });
  }
  const tables = await readTables(connection, watched, signal);
  const unpublished = unpublishedTables(publication, tables).map(formatTableName);
  if (unpublished.length > 0) {
    throw new PublicationError(
      `Publication "${publicationName}" does not publish ${unpublished.join(", ")}`,
      {
        kind: "table-not-published",
        publicationName,
        hint: `${hint} If it was published before, changes since then were missed.`,
      },
    );
  }
  checkPartitionRoots(publicationName, publication, tables);
  if (inParts(publication, tables, watched)) {
    const { checkPublished } = await import("./setup.ts");
    const options = { publicationName, tables: watched, standby };
    const warnings = await checkPublished(connection, publication, tables, options, signal);
    if (!told.has(watched)) warnings.forEach((warning) => logger?.warn(warning));
    told.add(watched);
  }
  return tables;
}

/** True where some columns or rows of a table are published, or watched, and others are not. */
function inParts(
  publication: Publication,
  tables: readonly CatalogTable[],
  watched: readonly WatchedTable[],
): boolean {
  return watched.some(({ columns, where }) => columns !== null || where !== null) ||
    tables.some((table) => {
      const published = publishedAs(publication, table);
      return published !== null && (published.columns !== null || published.filter !== null);
    });
}
