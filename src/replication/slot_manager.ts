/** Sets up, and takes down, what a stream needs on the server: a publication and a slot. */
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { Connector, type ConnectorOptions } from "../wire/connector.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import { connectForReplication } from "./connect.ts";
import { PublicationError, ReplicationError } from "./errors.ts";
import {
  checkPublicationName,
  ownershipComment,
  readPublication,
  reconcilePublication,
} from "./publication.ts";
import { checkServer, currentDatabase } from "./server.ts";
import { checkSlotName, dropSlot, ensureSlot } from "./slot.ts";
import { checkFailoverSupported, checkSlot, checkSlotKind, slotNameTaken } from "./slot_check.ts";
import { readSlot, type Slot } from "./slot_state.ts";
import { checkPublicationOnStandby, checkStandbyDecodes, readReplayedLsn } from "./standby.ts";
import { checkReplicaIdentity, parseWatchedName, readTables } from "./tables.ts";

/** How a `SlotManager` finds the server, and what it manages. */
export interface SlotManagerOptions extends ConnectorOptions {
  /** Default: `"pgstream"`. */
  slotName?: string;
  /** Default: the slot's name. */
  publicationName?: string;
  /** Tables to publish, `table` or `schema.table`, literal. */
  tables?: readonly string[];
  /**
   * How long to wait for open writing transactions when the slot is created, and on a standby for its primary to
   * log them. Milliseconds, default 60,000; `Infinity`: as long as they take.
   */
  createTimeoutMs?: number;
  /** Standbys keep a copy of the slot, so that it survives a failover. Needs 17 or later. Default: false. */
  failover?: boolean;
  /**
   * The slot is the stream's own, made when it starts and gone with its connection: `setup()` makes only the
   * publication, `teardown()` drops only that. Default: false.
   */
  temporary?: boolean;
  /**
   * Used instead of connecting by the other options.
   * @internal
   */
  connector?: Connector;
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
  /** What works, though not as one might think; each with the statement that mends it. */
  warnings: string[];
}

/**
 * Makes a publication and a slot, checking first what would make them useless or break the writers.
 *
 * @example
 * ```ts
 * import { SlotManager } from "@pgstream/pgstream";
 *
 * const slots = new SlotManager({ dsn: "postgresql://localhost/db", tables: ["documents"] });
 * const report = await slots.setup(); // { slot: "created", publication: "created", … }
 * ```
 */
export class SlotManager {
  readonly #connector: Connector;
  readonly #slotName: string;
  readonly #publicationName: string;
  readonly #tables: readonly string[];
  readonly #createTimeoutMs: number;
  readonly #failover: boolean;
  readonly #temporary: boolean;

  /**
   * Connects to nothing yet.
   *
   * @throws {SlotError} of kind `slot-name`; {PublicationError} of kind `publication-name`;
   * {ReplicationError} of kind `invalid-option`.
   */
  constructor(options: SlotManagerOptions = {}) {
    this.#slotName = options.slotName ?? "pgstream";
    this.#publicationName = options.publicationName ?? this.#slotName;
    checkSlotName(this.#slotName);
    checkPublicationName(this.#publicationName);
    this.#connector = options.connector ?? new Connector(options);
    this.#tables = options.tables ?? [];
    this.#createTimeoutMs = options.createTimeoutMs ?? 60_000;
    if (!(this.#createTimeoutMs > 0)) {
      throw new ReplicationError(`createTimeoutMs is no time: ${this.#createTimeoutMs}`, {
        kind: "invalid-option",
        hint: "Milliseconds above 0, or Infinity.",
      });
    }
    this.#failover = options.failover ?? false;
    this.#temporary = options.temporary ?? false;
    if (this.#failover && this.#temporary) {
      throw new ReplicationError("A slot cannot be temporary and survive a failover", {
        kind: "invalid-option",
        hint: "Leave out one of temporary and failover.",
      });
    }
  }

  /**
   * Brings publication and slot to what is wanted. Idempotent: a second run changes nothing, and
   * needs no right to create. On a standby (16+) only the slot is made, which waits for a word of the primary's:
   * see the log. What has to be made on the primary is an error that says how.
   *
   * @throws {ReplicationError} saying what is not as it must be and what to run; nothing was changed
   * by then, but where the slot alone could not be made.
   */
  async setup({ signal }: { signal?: AbortSignal } = {}): Promise<SetupReport> {
    if (this.#tables.length === 0) {
      throw new ReplicationError("There is no table to publish", {
        kind: "nothing-watched",
        hint: 'Name at least one: stream.watch("documents").',
      });
    }
    const names = uniqueNames(this.#tables);
    const connection = await this.#connect(signal);
    try {
      await checkServer(connection, signal);
      const standby = await readReplayedLsn(connection, signal) !== null;
      if (standby) checkStandbyDecodes(connection);
      if (this.#failover) await checkFailoverSupported(connection, this.#slotName, signal);
      const tables = await readTables(connection, names, signal);
      const publication = await readPublication(connection, this.#publicationName, signal);
      const publishesGenerated = connection.serverVersion < 180000 ||
        publication?.generatedColumns === true;
      const warnings = checkReplicaIdentity(tables, { publishesGenerated, standby });
      const database = await currentDatabase(connection, signal);
      const check = this.#temporary ? checkNameFree : checkSlot;
      const slot = await this.#checkedSlot(connection, database, check, signal);
      // The publication first: up to PostgreSQL 17 a slot that decodes WAL from before its
      // publication fails for good, and 18 skips those rows.
      const use = {
        publicationName: this.#publicationName,
        slotName: this.#slotName,
        slotActivePid: slot?.activePid ?? null,
      };
      const change = standby
        ? checkPublicationOnStandby(connection, use, publication, tables)
        : await reconcilePublication(connection, use, tables, signal);
      const created = !this.#temporary && await ensureSlot(connection, this.#slotName, database, {
        timeoutMs: this.#createTimeoutMs,
        signal,
        failover: this.#failover,
        logger: this.#connector.logger,
      });
      if (slot !== null && !this.#temporary && change.publication === "created") {
        warnings.push(
          `Slot "${this.#slotName}" was there before publication "${this.#publicationName}", and ` +
            "cannot read WAL from before it: where the stream fails for that, drop the slot and run " +
            "setup() again; changes that were missed are gone.",
        );
      }
      const fixed = change.publication === "altered" && fixedMinor(connection.serverVersion);
      if (fixed && change.added.length > 0) {
        warnings.push(
          `PostgreSQL ${
            connection.parameters.get("server_version")
          } loses later changes of a table ` +
            "that is added beside an open transaction that has written to it: where there was one, " +
            `compare ${change.added.join(", ")} with what it is kept in step with. ` +
            `It is fixed in PostgreSQL ${fixed}.`,
        );
      }
      return {
        slot: created ? "created" : "found",
        ...(this.#temporary ? { temporary: true } : {}),
        publication: change.publication,
        added: change.added,
        removed: change.removed,
        warnings: [...warnings, ...change.warnings],
      };
    } finally {
      await connection.close();
    }
  }

  /**
   * Drops the slot, then the publication where this slot owns it. What is not there is no error. On a standby the
   * publication stays, and a warning says so.
   *
   * @throws {SlotError} of kind `slot-in-use` while a walsender holds the slot; `slot-plugin` or
   * `slot-database` where the slot is not one of ours.
   */
  async teardown(
    { dropSlot: slot = true, dropPublication: publication = true, signal }: {
      dropSlot?: boolean;
      dropPublication?: boolean;
      signal?: AbortSignal;
    } = {},
  ): Promise<void> {
    const connection = await this.#connect(signal);
    try {
      const database = await currentDatabase(connection, signal);
      if (
        slot && !this.#temporary &&
        await this.#checkedSlot(connection, database, checkSlotKind, signal)
      ) {
        await dropSlot(connection, this.#slotName, signal);
      }
      if (publication) await this.#dropPublication(connection, signal);
    } finally {
      await connection.close();
    }
  }

  /** The slot, or null where there is none. Unless it is just being made, it has passed `check`. */
  async #checkedSlot(
    connection: Connection,
    database: string,
    check: typeof checkSlot,
    signal?: AbortSignal,
  ): Promise<Slot | null> {
    const slot = await readSlot(connection, this.#slotName, signal);
    if (slot !== null && !slot.creating) check(this.#slotName, slot, database);
    return slot;
  }

  async #dropPublication(connection: Connection, signal?: AbortSignal): Promise<void> {
    const publication = await readPublication(connection, this.#publicationName, signal);
    if (publication === null) return;
    if (publication.comment !== ownershipComment(this.#slotName)) {
      this.#connector.logger.warn(
        `Publication "${this.#publicationName}" stays: its COMMENT does not say that slot ` +
          `"${this.#slotName}" owns it`,
      );
      return;
    }
    const name = quoteIdentifier(this.#publicationName);
    if (await readReplayedLsn(connection, signal) !== null) {
      this.#connector.logger.warn(
        `Publication "${this.#publicationName}" stays: this server is a standby. ` +
          `Run on the primary: DROP PUBLICATION ${name};`,
      );
      return;
    }
    try {
      await connection.query(`DROP PUBLICATION IF EXISTS ${name}`, { signal });
    } catch (error) {
      if (!(error instanceof PostgresError) || error.code !== "42501") throw error;
      throw new PublicationError(
        `Cannot drop publication "${this.#publicationName}": ${error.summary}`,
        {
          kind: "publication-privilege",
          publicationName: this.#publicationName,
          hint: `Let its owner run: DROP PUBLICATION ${name};`,
          cause: error,
        },
      );
    }
  }

  /** Whether the role may replicate is the server's answer to this, never `rolreplication`. */
  async #connect(signal?: AbortSignal): Promise<Connection> {
    return await connectForReplication(this.#connector, { signal });
  }
}

/** A stream's own temporary slot may be there, while it runs; no other may. */
function checkNameFree(slotName: string, slot: Slot): void {
  if (!slot.temporary) throw slotNameTaken(slotName, slot);
}

function uniqueNames(tables: readonly string[]): TableName[] {
  const names = tables.map(parseWatchedName);
  return [...new Map(names.map((name) => [formatTableName(name), name])).values()];
}

/**
 * The first release in which ALTER PUBLICATION reaches transactions that are open, where the server is
 * older; the release notes of 17.5 tell of it. Null where it does.
 */
function fixedMinor(serverVersion: number): string | null {
  const fixes: Record<number, number> = { 13: 21, 14: 18, 15: 13, 16: 9, 17: 5 };
  const major = Math.floor(serverVersion / 10_000);
  if (major > 17) return null;
  const minor = fixes[major];
  if (minor === undefined) return "13.21";
  return serverVersion % 10_000 < minor ? `${major}.${minor}` : null;
}
