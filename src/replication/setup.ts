/** What `SlotManager` does on the server. Loaded when it is called: a stream that runs needs none of it. */
import type { Connection } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import { connectForReplication } from "./connect.ts";
import { withDeadline } from "./deadline.ts";
import { PublicationError } from "./errors.ts";
import { checkListsCoverIdentity } from "./identity_cover.ts";
import { type Publication, readPublication } from "./publication.ts";
import { ownershipComment } from "./publication_sql.ts";
import {
  carriesIdentity,
  maySet,
  type PublicationChange,
  type PublicationUse,
  reconcilePublication,
} from "./reconcile.ts";
import { fixedMinor } from "./old_minors.ts";
import { checkSupported as checkAsked } from "./plugin_options.ts";
import { checkReplicaIdentity } from "./replica_identity.ts";
import { currentDatabase } from "./server.ts";
import { checkServer } from "./server_check.ts";
import { dropSlot, ensureSlot } from "./slot.ts";
import { checkFailoverSupported, checkSlot, checkSlotKind, slotNameTaken } from "./slot_check.ts";
import { readSlot, type Slot } from "./slot_state.ts";
import { checkStandbyDecodes, readReplayedLsn } from "./standby.ts";
import { checkPublicationOnStandby } from "./standby_publication.ts";
import { readTables } from "./tables.ts";
import { checkColumns, checkConditions, checkSupported, wantedTables } from "./wanted_tables.ts";
import type { WatchedTable } from "./watched_table.ts";

export { checkPublished } from "./published_check.ts";

const NEVER = new AbortController().signal;

/** What is set up, or taken down. */
export interface Setup {
  connector: Connector;
  slotName: string;
  publicationName: string;
  tables: readonly WatchedTable[];
  createTimeoutMs: number;
  answerTimeoutMs: number;
  failover: boolean;
  temporary: boolean;
  /** True where messages are to be streamed (14+). */
  messages: boolean;
  /** Undefined: as the publication is. */
  publishGeneratedColumns: boolean | undefined;
}

/** What `setup()` did. */
export interface SetupReport {
  /** Whether the slot had to be made; "found" for a temporary one too, which setup() never makes. */
  slot: "created" | "found";
  /** True for a temporary slot; absent for any other. */
  temporary?: true;
  /** What had to be done about the publication. */
  publication: "created" | "altered" | "found";
  /** Tables that were added to the publication, `schema.table`. */
  added: string[];
  /** Tables that were removed from it. */
  removed: string[];
  /** Tables that it had already, of which it publishes other columns or rows than before. */
  changed: string[];
  /** What works, though not as one might think; each with the statement that mends it. */
  warnings: string[];
}

/** `SlotManager.setup()`, of at least one table. @throws as it does */
export async function setUp(options: Setup, signal?: AbortSignal): Promise<SetupReport> {
  const limitMs = options.createTimeoutMs + options.answerTimeoutMs;
  return await withDeadline("setup()", limitMs, signal ?? NEVER, (signal) => make(options, signal));
}

/** What `teardown()` did. */
export interface TeardownReport {
  /** `"missing"`: there was none; `"kept"`: it was not to be dropped. */
  slot: "dropped" | "missing" | "kept";
  /** The same; `"kept"` also where this slot does not own it, or the server is a standby: the log says why. */
  publication: "dropped" | "missing" | "kept";
}

async function make(options: Setup, signal: AbortSignal): Promise<SetupReport> {
  const { slotName, publicationName, temporary, failover } = options;
  const connection = await connectForReplication(options.connector, { signal });
  try {
    await checkServer(connection, signal);
    const standby = await readReplayedLsn(connection, signal) !== null;
    if (standby) checkStandbyDecodes(connection);
    if (failover) await checkFailoverSupported(connection, slotName, signal);
    checkSupported(connection, options);
    // Else nobody could read the slot, which holds back WAL.
    checkAsked({ messages: options.messages }, connection);
    checkConditions(publicationName, options.tables);
    const tables = wantedTables(
      await readTables(connection, options.tables, signal),
      options.tables,
    );
    await checkColumns(connection, tables, signal);
    const publication = await readPublication(connection, publicationName, signal);
    const database = await currentDatabase(connection, signal);
    const check = temporary ? checkNameFree : checkSlot;
    const slot = await checkedSlot(connection, slotName, database, check, signal);
    const use: PublicationUse = {
      publicationName,
      slotName,
      slotActivePid: slot?.activePid ?? null,
      generatedColumns: options.publishGeneratedColumns,
    };
    const publishesGenerated = willPublishGenerated(connection, use, publication);
    const warnings = checkReplicaIdentity(tables, { publishesGenerated, standby });
    if (publication === null || carriesIdentity(publication)) {
      warnings.push(...checkListsCoverIdentity(tables));
    }
    // The publication first: up to PostgreSQL 17 a slot that decodes WAL from before its
    // publication fails for good, and 18 skips those rows.
    const change = standby
      ? await checkPublicationOnStandby(connection, use, publication, tables, signal)
      : await reconcilePublication(connection, use, tables, signal);
    const created = !temporary && await ensureSlot(connection, slotName, database, {
      timeoutMs: options.createTimeoutMs,
      signal,
      failover,
      logger: options.connector.logger,
    });
    if (slot !== null && !temporary && change.publication === "created") {
      warnings.push(
        `Slot "${slotName}" was there before publication "${publicationName}", and ` +
          "cannot read WAL from before it: where the stream fails for that, drop the slot and run " +
          "setup() again; changes that were missed are gone.",
      );
    }
    return {
      slot: created ? "created" : "found",
      ...(temporary ? { temporary: true } : {}),
      publication: change.publication,
      added: change.added,
      removed: change.removed,
      changed: change.changed,
      warnings: [...warnings, ...lostByOldMinor(connection, change), ...change.warnings],
    };
  } finally {
    await connection.close();
  }
}

/** `SlotManager.teardown()`. @throws as it does */
export async function tearDown(
  options: Setup,
  what: { dropSlot: boolean; dropPublication: boolean },
  signal?: AbortSignal,
): Promise<TeardownReport> {
  const drop = (signal: AbortSignal) => unmake(options, what, signal);
  return await withDeadline("teardown()", options.answerTimeoutMs, signal ?? NEVER, drop);
}

async function unmake(
  { connector, slotName, publicationName, temporary }: Setup,
  { dropSlot: slot, dropPublication: publication }: {
    dropSlot: boolean;
    dropPublication: boolean;
  },
  signal: AbortSignal,
): Promise<TeardownReport> {
  const connection = await connectForReplication(connector, { signal });
  const report: TeardownReport = { slot: "kept", publication: "kept" };
  try {
    const database = await currentDatabase(connection, signal);
    if (slot && !temporary) {
      report.slot = "missing";
      if (await checkedSlot(connection, slotName, database, checkSlotKind, signal)) {
        await dropSlot(connection, slotName, signal);
        report.slot = "dropped";
      }
    }
    if (publication) {
      report.publication = await dropPublication(
        connection,
        slotName,
        publicationName,
        connector,
        signal,
      );
    }
    return report;
  } finally {
    await connection.close();
  }
}

function willPublishGenerated(
  { serverVersion }: Connection,
  use: PublicationUse,
  publication: Publication | null,
): boolean {
  if (serverVersion < 180000) return true;
  const { generatedColumns } = use;
  if (publication === null) return generatedColumns === true;
  const now = publication.generatedColumns;
  return maySet(use, publication) ? generatedColumns ?? now : now;
}

/** The slot, or null where there is none. Unless it is just being made, it has passed `check`. */
async function checkedSlot(
  connection: Connection,
  slotName: string,
  database: string,
  check: typeof checkSlot,
  signal?: AbortSignal,
): Promise<Slot | null> {
  const slot = await readSlot(connection, slotName, signal);
  if (slot !== null && !slot.creating) check(slotName, slot, database);
  return slot;
}

/** A stream's own temporary slot may be there, while it runs; no other may. */
function checkNameFree(slotName: string, slot: Slot): void {
  if (!slot.temporary) throw slotNameTaken(slotName, slot);
}

async function dropPublication(
  connection: Connection,
  slotName: string,
  publicationName: string,
  { logger }: Connector,
  signal?: AbortSignal,
): Promise<TeardownReport["publication"]> {
  const publication = await readPublication(connection, publicationName, signal);
  if (publication === null) return "missing";
  if (publication.comment !== ownershipComment(slotName)) {
    logger.warn(
      `Publication "${publicationName}" stays: its COMMENT does not say that slot ` +
        `"${slotName}" owns it`,
    );
    return "kept";
  }
  const name = quoteIdentifier(publicationName);
  if (await readReplayedLsn(connection, signal) !== null) {
    logger.warn(
      `Publication "${publicationName}" stays: this server is a standby. ` +
        `Run on the primary: DROP PUBLICATION ${name};`,
    );
    return "kept";
  }
  try {
    await connection.query(`DROP PUBLICATION IF EXISTS ${name}`, { signal });
    return "dropped";
  } catch (error) {
    if (!(error instanceof PostgresError) || error.code !== "42501") throw error;
    throw new PublicationError(`Cannot drop publication "${publicationName}": ${error.summary}`, {
      kind: "publication-privilege",
      publicationName,
      hint: `Let its owner run: DROP PUBLICATION ${name};`,
      cause: error,
    });
  }
}

function lostByOldMinor(connection: Connection, change: PublicationChange): string[] {
  const fixed = fixedMinor(connection.serverVersion);
  if (fixed === null || change.publication !== "altered" || change.added.length === 0) return [];
  return [
    `PostgreSQL ${connection.parameters.get("server_version")} loses later changes of a table ` +
    "that is added beside an open transaction that has written to it: where there was one, " +
    `compare ${change.added.join(", ")} with what it is kept in step with. ` +
    `It is fixed in PostgreSQL ${fixed}.`,
  ];
}
