/** The tables that are synced, and who does it: most streams sync none, so it is loaded with the first that does. */
import type { ChangeEvent } from "../change.ts";
import type { HandlerContext } from "../delivery/handler.ts";
import type { EventsInHand, SyncedTable, SyncEngine, SyncRun } from "../sync/engine.ts";
import type { SyncOptions } from "../sync/options.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import type { Stores } from "./session.ts";

/** What is loaded then, of this stream. */
export type LoadEngine = (tables: readonly SyncedTable[]) => Promise<SyncEngine>;

/**
 * What a batch is gathered to: texts of many rows in few calls, few writes of many points. As many events as fill ten
 * calls of an embedder that says nothing of its own: what is left over would wait for more.
 */
export const SYNC_BATCH = { maxEvents: 960, maxBytes: 4 * 1024 * 1024, maxDelayMs: 50 };

/** One for each stream. */
export class Synced {
  readonly #tables = new Map<string, SyncedTable>();
  readonly #load: LoadEngine;
  #loading: Promise<SyncEngine> | null = null;
  #engine: SyncEngine | null = null;

  /** Loads nothing yet. */
  constructor(load: LoadEngine) {
    this.#load = load;
  }

  /** True where no table is synced. */
  get none(): boolean {
    return this.#tables.size === 0;
  }

  /** Those whose rows are handed out, too, that were there before, by name. */
  get filled(): ReadonlySet<string> {
    const filled = [...this.#tables].filter(([, { options }]) => options.backfill !== "never");
    return new Set(filled.map(([table]) => table));
  }

  /** Takes a table, in place of what was said of it before. */
  add(name: TableName, options: SyncOptions): void {
    this.#tables.set(formatTableName(name), { name, options });
    this.changed();
  }

  /** What it would be loaded with has changed. */
  changed(): void {
    this.#loading = null;
    this.#engine = null;
  }

  /** True where the table is synced. */
  has(table: TableName): boolean {
    return !this.none && this.#tables.has(formatTableName(table));
  }

  /** @throws {PgStreamError} `sync-options` where they cannot be. */
  async engine(): Promise<SyncEngine> {
    this.#loading ??= this.#load([...this.#tables.values()]);
    try {
      return this.#engine = await this.#loading;
    } catch (error) {
      // Whoever asks again is told again.
      this.#loading = null;
      throw error;
    }
  }

  /** The stream has its slot. */
  async arrived(run: SyncRun): Promise<void> {
    if (!this.none) await (await this.engine()).arrived(run);
  }

  /** All rows of a table were handed out that were there. */
  tableFilled(table: TableName): void {
    if (this.has(table)) void this.engine().then((engine) => engine.filled(formatTableName(table)));
  }

  /** Brings what they did to rows into the stores. */
  async handle(
    events: ChangeEvent[],
    context: HandlerContext,
    inHand: EventsInHand,
  ): Promise<void> {
    await (await this.engine()).handle(events, context, inHand);
  }

  /** No more is confirmed than the stores have that keep it. */
  readonly stores: Stores = {
    confirmable: (frontier) => this.#engine?.confirmable(frontier) ?? frontier,
    flush: async () => await this.#engine?.flush(),
  };

  /** There is no connection. */
  lost(): void {
    this.#engine?.lost();
  }

  /** The run is over. */
  end(): void {
    this.#engine?.end();
  }
}
