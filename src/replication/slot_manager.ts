/** Sets up, and takes down, what a stream needs on the server: a publication and a slot. */
import { formatTableName, type TableName } from "../table_name.ts";
import { Connector, type ConnectorOptions } from "../wire/connector.ts";
import { ReplicationError } from "./errors.ts";
import { checkPublicationName } from "./publication.ts";
import type { Setup, SetupReport } from "./setup.ts";
import { checkSlotName } from "./slot.ts";
import { parseWatchedName } from "./tables.ts";

export type { SetupReport } from "./setup.ts";

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
  readonly #tables: readonly string[];

  /**
   * Connects to nothing yet.
   *
   * @throws {SlotError} of kind `slot-name`; {PublicationError} of kind `publication-name`;
   * {ReplicationError} of kind `invalid-option`.
   */
  constructor(options: SlotManagerOptions = {}) {
    const { slotName = "pgstream", publicationName = slotName, createTimeoutMs = 60_000 } = options;
    const { failover = false, temporary = false } = options;
    checkSlotName(slotName);
    checkPublicationName(publicationName);
    const connector = options.connector ?? new Connector(options);
    if (!(createTimeoutMs > 0)) {
      throw new ReplicationError(`createTimeoutMs is no time: ${createTimeoutMs}`, {
        kind: "invalid-option",
        hint: "Milliseconds above 0, or Infinity.",
      });
    }
    if (failover && temporary) {
      throw new ReplicationError("A slot cannot be temporary and survive a failover", {
        kind: "invalid-option",
        hint: "Leave out one of temporary and failover.",
      });
    }
    this.#options = { connector, slotName, publicationName, createTimeoutMs, failover, temporary };
    this.#tables = options.tables ?? [];
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
    const tables = uniqueNames(this.#tables);
    const { setUp } = await import("./setup.ts");
    return await setUp({ ...this.#options, tables }, signal);
  }

  /**
   * Drops the slot, then the publication where this slot owns it. What is not there is no error. On a standby the
   * publication stays, and a warning says so.
   *
   * @throws {SlotError} of kind `slot-in-use` while a walsender holds the slot; `slot-plugin` or
   * `slot-database` where the slot is not one of ours.
   */
  async teardown(
    { dropSlot = true, dropPublication = true, signal }: {
      dropSlot?: boolean;
      dropPublication?: boolean;
      signal?: AbortSignal;
    } = {},
  ): Promise<void> {
    const { tearDown } = await import("./setup.ts");
    await tearDown({ ...this.#options, tables: [] }, { dropSlot, dropPublication }, signal);
  }
}

function uniqueNames(tables: readonly string[]): TableName[] {
  const names = tables.map(parseWatchedName);
  return [...new Map(names.map((name) => [formatTableName(name), name])).values()];
}
