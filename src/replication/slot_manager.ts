/** Sets up, and takes down, what a stream needs on the server: a publication and a slot. */
import { formatTableName } from "../table_name.ts";
import { Connector, type ConnectorOptions } from "../wire/connector.ts";
import { ReplicationError } from "./errors.ts";
import { checkPublicationName, checkSlotName } from "./names.ts";
import type { Setup, SetupReport, TeardownReport } from "./setup.ts";
import { parseWatched, type WatchedTable } from "./watched_table.ts";

export type { SetupReport, TeardownReport } from "./setup.ts";

/** A table of which some columns, or some rows, are to be published (PostgreSQL 15 and later). */
export interface TablePart {
  /** `table` or `schema.table`, literal. */
  table: string;
  /** Only these columns; those of the replica identity have to be among them. Default: all. */
  columns?: readonly string[];
  /**
   * Only rows for which this SQL condition holds, put into a statement as it is. It may use the columns of the
   * replica identity. Default: all.
   */
  where?: string;
}

/** How a `SlotManager` finds the server, and what it manages. */
export interface SlotManagerOptions extends ConnectorOptions {
  /** Default: `"pgstream"`. */
  slotName?: string;
  /** Default: the slot's name. */
  publicationName?: string;
  /** Tables to publish, `table` or `schema.table`, literal; or what of them is to be published (15+). */
  tables?: readonly (string | TablePart)[];
  /** True: a publication of no tables will do, for what `pg_logical_emit_message` writes (14+). Default: false. */
  messages?: boolean;
  /**
   * True: stored generated columns are published as well (18+); false: they are not. Default: as the publication
   * is; a new one publishes none.
   */
  publishGeneratedColumns?: boolean;
  /**
   * How long to wait for open writing transactions when the slot is created, and on a standby for its primary to
   * log them. Milliseconds, default 60,000; `Infinity`: as long as they take.
   */
  createTimeoutMs?: number;
  /**
   * How long the server may take for everything else that `setup()` or `teardown()` asks of it: a lock on a
   * table that somebody holds is waited for too. Milliseconds, default 60,000; `Infinity`: as long as it takes.
   */
  answerTimeoutMs?: number;
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
  readonly #options: Omit<Setup, "tables">;
  readonly #tables: readonly (string | TablePart)[];

  /**
   * Connects to nothing yet.
   *
   * @throws {SlotError} of kind `slot-name`; {PublicationError} of kind `publication-name`;
   * {ReplicationError} of kind `invalid-option`.
   */
  constructor(options: SlotManagerOptions = {}) {
    const { slotName = "pgstream", publicationName = slotName, createTimeoutMs = 60_000 } = options;
    const { answerTimeoutMs = 60_000, failover = false, temporary = false } = options;
    checkSlotName(slotName);
    checkPublicationName(publicationName);
    const connector = options.connector ?? new Connector(options);
    checkTime("createTimeoutMs", createTimeoutMs);
    checkTime("answerTimeoutMs", answerTimeoutMs);
    if (failover && temporary) {
      throw new ReplicationError("A slot cannot be temporary and survive a failover", {
        kind: "invalid-option",
        hint: "Leave out one of temporary and failover.",
      });
    }
    this.#options = {
      connector,
      slotName,
      publicationName,
      createTimeoutMs,
      answerTimeoutMs,
      failover,
      temporary,
      messages: options.messages ?? false,
      publishGeneratedColumns: options.publishGeneratedColumns,
    };
    this.#tables = options.tables ?? [];
  }

  /**
   * Brings publication and slot to what is wanted. Idempotent: a second run changes nothing, and
   * needs no right to create. On a standby (16+) only the slot is made, which waits for a word of the primary's:
   * see the log. What has to be made on the primary is an error that says how.
   *
   * @throws {ReplicationError} saying what is not as it must be and what to run; nothing was changed
   * by then, but where the slot alone could not be made. Of kind `connection-silent` where the server does not answer.
   */
  async setup({ signal }: { signal?: AbortSignal } = {}): Promise<SetupReport> {
    if (this.#tables.length === 0 && !this.#options.messages) {
      throw new ReplicationError("There is no table to publish", {
        kind: "nothing-watched",
        hint: 'Name at least one: stream.watch("documents").',
      });
    }
    const tables = uniqueTables(this.#tables);
    const { setUp } = await import("./setup.ts");
    return await setUp({ ...this.#options, tables }, signal);
  }

  /**
   * Drops the slot, then the publication where this slot owns it. What is not there is no error. On a standby the
   * publication stays, and a warning says so.
   *
   * @returns what was there, and was dropped
   * @throws {SlotError} of kind `slot-in-use` while a walsender holds the slot; `slot-plugin` or
   * `slot-database` where the slot is not one of ours.
   */
  async teardown(
    { dropSlot = true, dropPublication = true, signal }: {
      dropSlot?: boolean;
      dropPublication?: boolean;
      signal?: AbortSignal;
    } = {},
  ): Promise<TeardownReport> {
    const { tearDown } = await import("./setup.ts");
    return await tearDown({ ...this.#options, tables: [] }, { dropSlot, dropPublication }, signal);
  }
}

function checkTime(name: string, timeoutMs: number): void {
  if (timeoutMs > 0) return;
  throw new ReplicationError(`${name} is no time: ${timeoutMs}`, {
    kind: "invalid-option",
    hint: "Milliseconds above 0, or Infinity.",
  });
}

/** Of a table that is named twice, the later one counts. */
function uniqueTables(tables: readonly (string | TablePart)[]): WatchedTable[] {
  const watched = tables.map((wanted) => {
    if (typeof wanted === "string") return parseWatched(wanted);
    const { table, ...part } = wanted;
    return parseWatched(table, part);
  });
  return [...new Map(watched.map((table) => [formatTableName(table), table])).values()];
}
