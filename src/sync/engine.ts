/** What a stream's `sync` does: its tables, their stores, and what is to be known of a run. */

import { pause, type RetryLimits } from "../backoff.ts";
import { TableReader } from "../backfill/table_reader.ts";
import type { ChangeEvent } from "../change.ts";
import type { HandlerContext } from "../delivery/handler.ts";
import type { LoadTypes } from "../delivery/row_values.ts";
import { PgStreamError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { INVALID_LSN, type Lsn } from "../lsn.ts";
import type { Observe } from "../observer.ts";
import type { SearchOptions } from "../sinks/rows.ts";
import type { SearchHit, SinkLike } from "../sinks/sink.ts";
import type { TableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";
import type { BatchEmbedder } from "./batched_embedder.ts";
import type { Embedder } from "./embedder.ts";
import type { LiveStream } from "./live_stream.ts";
import type { SyncOptions } from "./options.ts";
import { Positions } from "./positions.ts";
import { publishedStores } from "./published_stores.ts";
import { resolveSync, type TableSync } from "./resolve_options.ts";
import { checkRowKeys } from "./row_key.ts";
import { retried } from "./retried.ts";
import { RowSync } from "./row_sync.ts";
import { systemTimers } from "./timers.ts";
import { Verification, type VerifyOptions, type VerifyReport } from "./verify.ts";

/** How often to look whether a backfill is done, while somebody waits for it. */
const BETWEEN_LOOKS_MS = 100;

/** A table as `sync()` was told of it. */
export interface SyncedTable {
  name: TableName;
  options: SyncOptions;
}

/** What an engine works with. */
export interface SyncEngineOptions {
  tables: readonly SyncedTable[];
  /** Of the stream; null where it has none. */
  sink: SinkLike | null;
  connector: Connector;
  slotName: string;
  publicationName: string;
  /** Makes JS values of any table's rows. */
  loadTypes: LoadTypes;
  /** For what fails and may pass; null: what fails once fails. */
  retry: RetryLimits | null;
  logger: Logger;
  /** Does calls of embedders and writes of stores, where somebody is to be told of them. */
  observe?: Observe | undefined;
  /** How many events may be handled side by side. */
  lanes: number;
}

/** The run of the stream, once it has its slot. */
export interface SyncRun {
  /** The server, as IDENTIFY_SYSTEM has it. */
  system: { readonly systemId: string; readonly timeline: number };
  /** `pg_postmaster_start_time()` as text. */
  startedAt: string;
  /** What the server holds for handled. */
  confirmedLsn: Lsn;
  /** False where changes were missed, or the slot begins anew. */
  continues: boolean;
  /** Aborted when the stream is told to stop. */
  signal: AbortSignal;
  /** How many events may be handled side by side. */
  lanes: number;
  /** All before it is handled. */
  frontier: () => Lsn;
  /** Confirms what may be confirmed. */
  confirm: () => void;
  /** Hands out all rows of a table once more, and goes on with that in the next process. */
  again: (table: TableName) => Promise<void>;
  /** Hands out rows of a table once more. @param keys only these */
  backfill: (table: TableName, keys?: readonly string[], signal?: AbortSignal) => Promise<void>;
  /** True while an initial backfill of the table is under way. */
  isFilling: (table: TableName) => boolean;
  /** Resolves when all is handled that was committed before. @throws what ended the run; `signal.reason` */
  handledTo: (lsn: Lsn, signal: AbortSignal) => Promise<void>;
  /** Calls when all that is queued is handled, before anything else is begun. @throws as `handledTo` */
  atBarrier: (call: () => Promise<void>, signal: AbortSignal) => Promise<void>;
}

/** What the queue tells while events of it are in hand. */
export interface EventsInHand {
  /** What the frontier comes to once they are handled. */
  frontierAfter(): Lsn;
  /** Those that come next; none where it does not know. */
  upcoming(): readonly ChangeEvent[];
}

/** One for each stream. */
export class SyncEngine {
  readonly #options: SyncEngineOptions;
  readonly #syncs = new Map<string, { name: TableName; sync: TableSync }>();
  readonly #sinks: readonly SinkLike[];
  readonly #rows: RowSync;
  readonly #positions: Positions;
  /** Tables whose rows were all handed out, at some time. */
  readonly #filled = new Set<string>();
  /** Tables that are in a store with vectors of another model. */
  readonly #rebuild = new Set<string>();
  #prepared: Promise<void> | null = null;
  #run: SyncRun | null = null;
  /** False while it has no connection. */
  #connected = false;
  #arrivals = 0;

  /** @throws {PgStreamError} `sync-options`, `unsupported`. */
  constructor(options: SyncEngineOptions) {
    this.#options = options;
    const { sink, slotName, logger, observe, lanes } = options;
    const stores = new Set(options.tables.map(({ options }) => options.sink ?? sink));
    const defaults = {
      sink,
      embedders: new WeakMap<Embedder, BatchEmbedder>(),
      observe,
      // Who asks alone asks for all texts of a batch at once: nothing more is to be waited for.
      alone: lanes * stores.size === 1,
    };
    for (const { name, options: given } of options.tables) {
      const sync = resolveSync(name, given, defaults);
      this.#syncs.set(sync.table, { name, sync });
    }
    const syncs = [...this.#syncs.values()].map(({ sync }) => sync);
    this.#sinks = [...new Set(syncs.map(({ sink }) => sink))];
    this.#rows = new RowSync(syncs, observe);
    this.#positions = new Positions({ slotName, sinks: this.#sinks, logger, timers: systemTimers });
  }

  /**
   * Makes the stores ready.
   *
   * @returns what is to be warned of
   * @throws {SinkError} what is missing in a store; {PgStreamError} `model-changed`, `sync-key`.
   */
  async prepare(signal?: AbortSignal): Promise<string[]> {
    const { connector, publicationName } = this.#options;
    await checkRowKeys([...this.#syncs.values()].map(({ name }) => name), connector, signal);
    await (this.#prepared ??= this.#prepareStores());
    return await publishedStores(this.#sinks, connector, publicationName, signal);
  }

  /** The stream has its slot, and nothing of it was read yet. @throws as `prepare()`; `sync-behind`. */
  async arrived(run: SyncRun): Promise<void> {
    await (this.#prepared ??= this.#prepareStores());
    await this.#positionsAsOf(run).arrived({
      ...run,
      isFilled: (sink) =>
        [...this.#filled].some((table) => this.#syncs.get(table)?.sync.sink === sink),
      oneLane: run.lanes === 1,
    });
    this.#rows.forget();
    this.#run = run;
    this.#connected = true;
    if (this.#arrivals++ > 0) return;
    for (const { name, sync } of this.#syncs.values()) await this.#fillAnew(name, sync, run);
  }

  /** A store that does not answer while a connection is remade is asked again; at first, it is an error. */
  #positionsAsOf({ signal }: SyncRun): Pick<Positions, "arrived"> {
    const { retry, logger } = this.#options;
    if (this.#arrivals === 0) return this.#positions;
    return retried(this.#positions, ["arrived"], {
      retry,
      signal,
      pause: (ms, signal) => {
        logger.warn(`A store does not say how far it is: asking again in ${Math.round(ms)} ms`);
        return pause(ms, signal);
      },
    });
  }

  /** All rows of a table were handed out that were there when its backfill began. */
  async filled(table: string): Promise<void> {
    this.#filled.add(table);
    const { sink } = this.#synced(table).sync;
    try {
      await sink.filled?.(table);
    } catch (error) {
      this.#options.logger.warn(
        `Indexes for ${table} were not made; the next start tries again`,
        error,
      );
    }
  }

  /** Brings what they did to rows into the stores. */
  async handle(
    events: ChangeEvent[],
    { signal }: HandlerContext,
    { frontierAfter, upcoming }: EventsInHand,
  ): Promise<void> {
    const run = this.#run!;
    const positions = this.#positions;
    const endLsn = run.lanes === 1 ? frontierAfter() : INVALID_LSN;
    await positions.alone(() =>
      this.#rows.handle(events, {
        signal,
        system: run.system,
        isStored: (sink, event) => positions.isStored(sink, event),
        position: (sink) => positions.with(sink, events, endLsn),
        upcoming,
        stored: (sink, position) => positions.stored(sink, position),
      })
    );
    positions.handled(events);
  }

  /** What of it may be confirmed to the server. */
  confirmable(frontier: Lsn): Lsn {
    return this.#positions.confirmable(frontier);
  }

  /** Stores learn how far the stream is. */
  flush(): Promise<void> {
    return this.#positions.flush();
  }

  /** There is no connection. */
  lost(): void {
    this.#connected = false;
  }

  /** The run is over. */
  end(): void {
    this.#connected = false;
    this.#positions.end();
    this.#run = null;
    this.#arrivals = 0;
    this.#prepared = null;
    // The slot may be another one by the next.
    this.#filled.clear();
  }

  /** Compares a table with its store. @throws as `PgStream.verify()` does */
  async verify(table: string, options: VerifyOptions): Promise<VerifyReport> {
    const { sync: { sink, maker }, name } = this.#synced(table);
    const { connector, publicationName, loadTypes, retry } = this.#options;
    const source = new TableReader({ connector, publicationName, name, loadTypes });
    const live = this.#run === null ? null : this.#liveStream(name, this.#run);
    return await new Verification({ sink, maker, source, live, retry }, options).run();
  }

  #liveStream(name: TableName, run: SyncRun): LiveStream {
    const server = () =>
      this.#connected ? { ...this.#run!.system, startedAt: this.#run!.startedAt } : null;
    return {
      get server() {
        return server();
      },
      caughtUp: async (lsn, signal) => {
        await run.handledTo(lsn, signal);
        while (run.isFilling(name)) {
          await pause(BETWEEN_LOOKS_MS, signal);
          await run.handledTo(lsn, signal);
        }
      },
      rewrite: (keys, signal) => run.backfill(name, keys, signal),
      atBarrier: (call, signal) => run.atBarrier(call, signal),
    };
  }

  /** The points that are nearest to a text. @throws {PgStreamError} `not-synced`, `unsupported`. */
  async search(
    table: string,
    text: string,
    options: SearchOptions,
    signal?: AbortSignal,
  ): Promise<SearchHit[]> {
    const { sink, embed } = this.#synced(table).sync;
    if (sink.search === undefined) throw unsupported("search()", "search");
    const [vector] = await embed([text], signal === undefined ? {} : { signal });
    return await sink.search(vector!, { ...options, table });
  }

  #synced(table: string): { name: TableName; sync: TableSync } {
    const found = this.#syncs.get(table);
    if (found !== undefined) return found;
    throw new PgStreamError(`Table ${table} is not synced by this stream`, {
      kind: "not-synced",
      hint: `Call stream.sync(${JSON.stringify(table)}, { … }) before.`,
    });
  }

  async #prepareStores(): Promise<void> {
    try {
      for (const sink of this.#sinks) await sink.prepareRows?.();
      for (const [table, { sync: { sink, maker, onModelChange } }] of this.#syncs) {
        const other = await sink.otherModel?.(table, maker.model) ?? null;
        if (other === null) continue;
        if (onModelChange === "error") throw modelChanged(table, other, maker.model);
        this.#rebuild.add(table);
      }
    } catch (error) {
      this.#prepared = null;
      throw error;
    }
  }

  /** Where a store has not what it should have: it is new, or its vectors are of another model. */
  async #fillAnew(name: TableName, { table, sink, maker }: TableSync, run: SyncRun): Promise<void> {
    const { logger } = this.#options;
    if (this.#filled.has(table) && sink.scan !== undefined) {
      const { points } = await sink.scan(table, { after: null, limit: 1 });
      if (points.length === 0) {
        logger.info(`The store has nothing of ${table}: its rows are read again`);
        return await run.again(name);
      }
    }
    if (!this.#rebuild.delete(table)) return;
    logger.info(`${table} is embedded anew, by ${maker.model}`);
    run.backfill(name).then(
      () => logger.info(`${table} is embedded anew`),
      (error) => {
        if (this.#run === run) logger.error(`${table} was not embedded anew`, error);
      },
    );
  }
}

/** The error for a store that cannot do what it is asked for. */
export function unsupported(what: string, member: string): PgStreamError {
  return new PgStreamError(`${what} needs a sink with the method ${member}`, {
    kind: "unsupported",
    hint: "PgVectorSink, QdrantSink and MemorySink have it.",
  });
}

function modelChanged(table: string, from: string, to: string): PgStreamError {
  return new PgStreamError(
    `The store has vectors of ${table} that ${from} made; now it is ${to}`,
    {
      kind: "model-changed",
      hint:
        'Vectors of two models cannot be compared. onModelChange: "rebuild" embeds all rows anew; ' +
        "a model of other dimensions needs a store of its own.",
    },
  );
}
