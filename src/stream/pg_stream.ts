/**
 * The facade: what users call, with its types and its documentation, which makes it longer than other files. What
 * it does is in `stream_core.ts`.
 */
import type { AnyRow, EventOf } from "../change.ts";
import type { BatchLimits } from "../delivery/handler.ts";
import type { SchemaChange } from "../delivery/schema_changes.ts";
import type { SetupReport } from "../replication/slot_manager.ts";
import { parseWatched, parseWatchedName } from "../replication/watched_table.ts";
import type { SearchOptions } from "../sinks/rows.ts";
import type { SearchHit, Sink, SinkLike } from "../sinks/sink.ts";
import type { SyncOptions } from "../sync/options.ts";
import type { VerifyOptions, VerifyReport } from "../sync/verify.ts";
import { formatTableName } from "../table_name.ts";
import { attachSink } from "./attached_sink.ts";
import { notATable, nothingTo, notRunning, notWatched } from "./errors.ts";
import type { BatchHandler, EventHandler, MessageHandler } from "./handlers.ts";
import {
  type Gap,
  type HandlerContext,
  type PgStreamOptions,
  resolveBatch,
  type Transaction,
  type WatchOptions,
} from "./options.ts";
import { isInUse } from "./position.ts";
import { DEFAULT_FINISH_MS } from "./run.ts";
import { onSignals } from "./signals.ts";
import type { Source } from "./source.ts";
import type { CatchUpReport, StreamState, StreamStatus } from "./status.ts";
import { StreamCore } from "./stream_core.ts";

/** Called for each event. A promise is waited for before the next event is handed out. */
export type ChangeHandler<T> = (event: EventOf<T>, sink: Sink, context: HandlerContext) => unknown;

/**
 * Takes a stream away from its server: from here on it reads from `source`, and reaches nothing else. For
 * `./testing`, which is no part of this class and yet has to get at the inside of one that users have made.
 *
 * @throws {PgStreamError} `already-running`.
 */
export let readFrom: (stream: PgStream<object>, source: Source) => void;

/**
 * Watches tables through logical replication and hands each committed change to a handler, at least
 * once and in commit order. A change is confirmed to the server only when every event of every
 * transaction up to it was handled.
 *
 * @typeParam T tables and their rows, `{ documents: Doc; "blog.articles": Article }`.
 *
 * @example
 * ```ts
 * import { PgStream } from "@pgstream/pgstream";
 *
 * const stream = new PgStream({ dsn: "postgresql://localhost/db" });
 * stream.watch("documents");
 * stream.onChange((event) => console.log(event.operation, event.key));
 * await stream.setup();
 * await stream.start({ signal: AbortSignal.timeout(60_000) });
 * ```
 */
export class PgStream<T extends object = Record<string, AnyRow>> implements AsyncDisposable {
  static {
    readFrom = (stream, source) => stream.#core.readFrom(source);
  }

  readonly #core: StreamCore;

  /**
   * Connects to nothing yet.
   *
   * @param options or the `dsn` alone
   * @throws {PgStreamError} where an option cannot be: `slot-name`, `invalid-option`.
   */
  constructor(options: PgStreamOptions | string = {}) {
    this.#core = new StreamCore(typeof options === "string" ? { dsn: options } : options);
  }

  /**
   * Adds tables, `table` or `schema.table`. Names are literal, never folded: `watch("User")`; they are
   * split at the first dot outside double quotes.
   *
   * @throws {PgStreamError} `already-running`; `table-name`.
   */
  watch(...tables: (keyof T & string)[]): this;
  /**
   * Adds one table, with what is published of it: some columns, some rows (PostgreSQL 15 and later). Without
   * options all of it is. `setup()` brings the publication in line.
   *
   * @example
   * ```ts
   * import { PgStream } from "@pgstream/pgstream";
   *
   * new PgStream().watch("documents", { columns: ["id", "content"], where: "id > 1000" });
   * ```
   *
   * @throws {PgStreamError} `already-running`; `table-name`; `invalid-option`.
   */
  watch<N extends keyof T & string>(table: N, options: WatchOptions<T[N]>): this;
  watch(...tables: (string | WatchOptions<never>)[]): this {
    this.#core.mustBeIdle("watch()");
    const last = tables.at(-1);
    const isOptions = typeof last === "object" && last !== null && !Array.isArray(last);
    const options = tables.length === 2 && isOptions ? last : undefined;
    for (const table of options === undefined ? tables : tables.slice(0, 1)) {
      if (typeof table !== "string") throw notATable(table);
      const watched = parseWatched(table, options ?? {});
      this.#core.tables.set(formatTableName(watched), watched);
    }
    return this;
  }

  /**
   * Attaches the sink that handlers get: this very object. A second one takes the first one's place.
   *
   * @throws {PgStreamError} `already-running`; `invalid-sink`.
   */
  sink(sink: SinkLike): this {
    this.#core.mustBeIdle("sink()");
    this.#core.addSink(attachSink(sink));
    return this;
  }

  /**
   * Keeps a store in step with a table: each row becomes a vector, or one for each chunk of its text. Texts are
   * embedded many at a time, and what the store has is not embedded again; it ends up with what the table has,
   * whatever is in between: other keys, TRUNCATE, crashes, replays, rows that are there already. The table is
   * watched, where `watch()` has not named it before; its values are as `values: "js"` has them, for handlers, too,
   * which are called once the store has an event. Of a table that is named twice the later options count.
   *
   * What a sink does for it is `RowSink`: one that has only `upsert` and `delete` takes rows of one chunk, and is
   * given all of them again in a replay.
   *
   * @example
   * ```ts
   * import { MemorySink, PgStream } from "@pgstream/pgstream";
   * import { openAiEmbedder } from "@pgstream/pgstream/sync";
   *
   * const stream = new PgStream().sink(new MemorySink());
   * stream.sync("documents", {
   *   text: (row) => `${row.title}\n\n${row.body}`,
   *   embed: openAiEmbedder({ model: "text-embedding-3-small" }),
   *   payload: ["title"],
   * });
   * ```
   *
   * @throws {PgStreamError} `already-running`; `table-name`; `invalid-sink`. What is wrong with the options is told by
   * `setup()` and `start()`: `sync-options`, `unsupported`; there too `sync-key`, `model-changed`, and, by `start()`
   * alone, `sync-behind`. What `text`, `chunk` and `payload` do wrong is the `cause` of a `handler-failed`.
   */
  sync<N extends keyof T & string>(table: N, options: SyncOptions<T[N]>): this {
    const core = this.#core;
    core.mustBeIdle("sync()");
    const name = parseWatchedName(table);
    const sink = options.sink === undefined ? null : attachSink(options.sink);
    if (!core.tables.has(formatTableName(name))) this.watch(table);
    core.sync(name, options as unknown as SyncOptions, sink);
    return this;
  }

  /**
   * Compares a synced table with its store: each row's points, and each point's row. Works on a stream that
   * runs, beside whatever changes; memory is bounded. With `repair`, what is missing or stale is embedded and
   * written anew, and what is orphaned is removed, in order with changes.
   *
   * @example
   * ```ts
   * import { PgStream } from "@pgstream/pgstream";
   *
   * async function check(stream: PgStream) {
   *   const { missing, stale, orphaned } = await stream.verify("documents", { repair: true });
   *   console.log(`${missing} missing, ${stale} stale, ${orphaned} orphaned`);
   * }
   * ```
   *
   * @throws {PgStreamError} `not-synced`; `unsupported`: the sink cannot be read; `not-running`, with `repair`;
   * what reading the table, or the store, met; `signal.reason`.
   */
  async verify(table: keyof T & string, options: VerifyOptions = {}): Promise<VerifyReport> {
    const name = formatTableName(parseWatchedName(table));
    return await (await this.#core.synced.engine()).verify(name, options);
  }

  /**
   * The rows of a synced table whose texts are nearest to this one, the nearest first; of a row with several
   * chunks, its chunks. Works whether the stream runs or not. A hit's `id` is that of its point, whose table, key
   * and chunk `JSON.parse(id)` gives. Of a stream that is not started, `stop()` closes the sink.
   *
   * @example
   * ```ts
   * import { PgStream } from "@pgstream/pgstream";
   *
   * async function answer(stream: PgStream, question: string) {
   *   const hits = await stream.search("documents", question, { limit: 3, filter: { lang: "en" } });
   *   return hits.map(({ score, payload }) => [score, payload.title]);
   * }
   * ```
   *
   * @param options.limit default 10
   * @param options.filter only what has these properties in its payload
   * @throws {PgStreamError} `not-synced`; `unsupported`; what the embedder, or the sink, throws.
   */
  async search(
    table: keyof T & string,
    text: string,
    { signal, ...options }: Omit<SearchOptions, "table"> & { signal?: AbortSignal } = {},
  ): Promise<SearchHit[]> {
    const name = formatTableName(parseWatchedName(table));
    return await (await this.#core.synced.engine()).search(name, text, options, signal);
  }

  /** Adds a handler; several are called one after the other, in the order in which they were added. */
  onChange(handler: ChangeHandler<T>): this {
    this.#core.mustBeIdle("onChange()");
    if (typeof handler !== "function") {
      throw nothingTo("call", "stream.onChange((event, sink) => …)");
    }
    this.#core.handlers.add(handler as EventHandler);
    return this;
  }

  /**
   * Adds a handler of several events at once, in commit order, over the borders of transactions. A
   * batch ends at the first of its limits; of several handlers the smallest ones count. With
   * `concurrency`, each batch holds the events of some keys, and several are handled at once.
   *
   * @param options.maxEvents default 100
   * @param options.maxBytes what the events hold in memory; default 1 MiB
   * @param options.maxDelayMs how long the first event waits for others; default 50
   * @throws {PgStreamError} `already-running`; `invalid-option`.
   */
  onBatch(
    handler: (events: EventOf<T>[], sink: Sink, context: HandlerContext) => unknown,
    options?: { maxEvents?: number; maxBytes?: number; maxDelayMs?: number },
  ): this {
    this.#core.mustBeIdle("onBatch()");
    if (typeof handler !== "function") {
      throw nothingTo("call", "stream.onBatch((events, sink) => …)");
    }
    const limits: BatchLimits = resolveBatch(options);
    this.#core.handlers.addBatch(handler as BatchHandler, limits);
    return this;
  }

  /**
   * Adds a handler of what programs write by `pg_logical_emit_message(transactional, prefix, content)`
   * (PostgreSQL 14 and later): an outbox with no table. A message of a transaction comes in its place among
   * that one's changes: all that was before it is handled before, whatever `concurrency` says, and what comes
   * after it waits; one that belongs to no transaction comes between two of them. It is tried again, given up
   * and confirmed as events are. Of one prefix several handlers are called one after the other; messages of
   * other prefixes are left out.
   *
   * @param prefix exactly as it was written
   * @throws {PgStreamError} `already-running`. On an older server `setup()` and `start()` reject: `not-supported`.
   */
  onMessage(prefix: string, handler: MessageHandler): this {
    this.#core.mustBeIdle("onMessage()");
    if (typeof prefix !== "string" || typeof handler !== "function") {
      throw nothingTo("call", 'stream.onMessage("outbox", (message, sink) => …)');
    }
    this.#core.handlers.addMessage(prefix, handler);
    return this;
  }

  /** Called whenever `status().state` changes. What the listener throws is logged. */
  onStateChange(listener: (state: StreamState, previous: StreamState) => unknown): this {
    this.#core.status.onStateChange(listener);
    return this;
  }

  /**
   * Called when changes were missed because the slot was lost, and `onSlotLost: "recreate"` has made it
   * anew: what the slot kept in step has to be rebuilt. What the listener throws is logged.
   */
  onGap(listener: (gap: Gap) => unknown): this {
    this.#core.gapListeners.push(listener);
    return this;
  }

  /**
   * Called when a watched table has another shape than the one that was known in this process: columns that
   * were added, removed, or got another type, another primary key or replica identity. In its place: what
   * was before it is handled, and the event that comes next is the first of the new shape; it waits until
   * the listener is done. From `changes()` it is called when the part that begins with that event is asked
   * for. Not called for the first shape of a table, nor before a change of a row comes; where a transaction
   * comes again that altered the table, its shapes do, too. What the listener throws is logged.
   *
   * @throws {PgStreamError} `already-running`
   */
  onSchemaChange(listener: (change: SchemaChange) => unknown): this {
    this.#core.mustBeIdle("onSchemaChange()");
    this.#core.schemaListeners.push(listener);
    return this;
  }

  /**
   * Creates publication and slot, or brings the publication in line with what is watched. Idempotent.
   * Warnings are logged as well as returned.
   *
   * @throws {PgStreamError} that says what is not as it must be and what to run; `signal.reason`.
   */
  async setup({ signal }: { signal?: AbortSignal } = {}): Promise<SetupReport> {
    const core = this.#core;
    await core.backfills().prepare([...core.tables.values()], signal);
    const report = await core.slotManager().setup(signal === undefined ? {} : { signal });
    if (!core.synced.none) {
      report.warnings.push(...await (await core.synced.engine()).prepare(signal));
    }
    for (const warning of report.warnings) core.logger.warn(warning);
    return report;
  }

  /**
   * Hands out changes until `stop()`, or until `signal` is aborted: both are graceful, and it resolves
   * when the event in hand is finished, what is handled is confirmed, and the sinks are closed.
   *
   * @param options.signals true: the first SIGINT (Ctrl+C) or SIGTERM stops the stream, a second one
   * ends the process. Default: false.
   * @throws {PgStreamError} `handler-failed` with the event's coordinates; `slot-missing`; what the
   * server or the network says; `handler-running` while a handler that `stop()` gave up has not ended;
   * `sink-close`.
   */
  async start(
    { signal, signals }: { signal?: AbortSignal; signals?: boolean } = {},
  ): Promise<void> {
    const core = this.#core;
    core.mustBeReady("start()", { handlers: true });
    const onSignal = (name: string) => {
      core.logger.info(`${name}: stopping`);
      core.abort();
    };
    const ignoreSignals = signals === true ? onSignals(onSignal) : () => {};
    try {
      await core.deliver(signal);
    } finally {
      ignoreSignals();
    }
    await core.closeSinks();
  }

  /**
   * Handles everything that was committed when it was called, confirms it, and returns: for cron jobs
   * and serverless functions. Sinks stay open for the next call; `stop()` closes them.
   *
   * @returns with `busy: true`, at once and with nothing done, where another session holds the slot
   * @throws {PgStreamError} as `start()` does; `signal.reason`, or that of `stop()`, where it was told to
   * stop before it was there: what is handled by then is confirmed.
   */
  async catchUp({ signal }: { signal?: AbortSignal } = {}): Promise<CatchUpReport> {
    const core = this.#core;
    core.mustBeReady("catchUp()", { handlers: true });
    const before = core.status.totals;
    try {
      await core.deliver(signal, { catchUp: true });
    } catch (error) {
      if (!isInUse(error)) throw error;
      const { handledLsn: lsn } = this.status();
      return { events: 0, messages: 0, transactions: 0, lsn, busy: true };
    }
    core.stopped.throwIfAborted();
    const { events, messages, transactions } = core.status.totals;
    return {
      events: events - before.events,
      messages: messages - before.messages,
      transactions: transactions - before.transactions,
      lsn: this.status().handledLsn,
      busy: false,
    };
  }

  /**
   * Transactions in commit order, for a loop that says itself when one is handled. A large one comes in
   * parts. `break` closes the connection; what is not acknowledged by then comes again. What was handed
   * out is the loop's own: it does not count for `maxQueueBytes`. Handlers and sinks have no part in it, and
   * so there are no messages either: see `onMessage`.
   *
   * @example
   * ```ts
   * import { PgStream } from "@pgstream/pgstream";
   *
   * const stream = new PgStream({ dsn: "postgresql://localhost/db" });
   * stream.watch("documents");
   * for await (const transaction of stream.changes({ signal: AbortSignal.timeout(60_000) })) {
   *   for (const event of transaction.events) console.log(event.operation, event.key);
   *   transaction.ack();
   * }
   * ```
   *
   * @throws {PgStreamError} out of the loop, as `start()` does.
   */
  changes({ signal }: { signal?: AbortSignal } = {}): AsyncIterable<Transaction<T>> {
    const pull = () =>
      this.#core.pull(signal) as AsyncIterator<unknown> as AsyncIterator<Transaction<T>>;
    return { [Symbol.asyncIterator]: pull };
  }

  /**
   * Hands out rows of a watched table that are there already, beside its changes: all of them, or those that
   * are asked for, whatever was handed out before. For a new embedding model, or a store that was repaired.
   * Only while the stream runs. What of it is not done when the process ends is not done by the next.
   *
   * A handler, or a listener of `onSchemaChange`, may call it, but must not wait for it: its rows come only
   * after they are done.
   *
   * @param options.where only rows for which this SQL condition holds; it is put into a statement as it is, in
   * parentheses
   * @param options.keys only rows with these keys, as `event.key` has them
   * @returns resolves when the rows are handled
   * @throws {PgStreamError} `not-running`; `not-watched`; `invalid-option`; what reading the table met; `signal.reason`.
   */
  async backfill(
    table: keyof T & string,
    { where, keys, signal }: { where?: string; keys?: readonly string[]; signal?: AbortSignal } =
      {},
  ): Promise<void> {
    const name = parseWatchedName(table);
    const { tables, backfill } = this.#core;
    if (!tables.has(formatTableName(name))) throw notWatched(formatTableName(name));
    signal?.throwIfAborted();
    if (backfill === null) throw notRunning("backfill()");
    await backfill.add({ name, where, keys, signal });
  }

  /** How the stream is doing. A copy; it survives `JSON.stringify`. */
  status(): StreamStatus {
    return this.#core.status.read();
  }

  /**
   * Stops: nothing new is begun, the event in hand is finished, what is handled is confirmed, and the
   * sinks are closed. Of a transaction that was handled in part, nothing is confirmed: it comes again.
   * Never rejects for what made the stream fail: `start()` tells that.
   *
   * A handler, or the body of a loop over `changes()`, may call it, but must not wait for it: it waits
   * for them. A loop ends by `break`.
   *
   * @param options.timeoutMs how long the handler may take to finish. Default: 10,000; `Infinity`: as
   * long as it takes.
   * @throws {PgStreamError} of kind `sink-close`.
   */
  async stop({ timeoutMs = DEFAULT_FINISH_MS }: { timeoutMs?: number } = {}): Promise<void> {
    await this.#core.end(timeoutMs);
  }

  /**
   * Drops the slot, and the publication where this slot owns it. What is not there is no error.
   *
   * @throws {SlotError} of kind `slot-in-use` while somebody streams from it; `signal.reason`.
   */
  async teardown(
    options: { dropSlot?: boolean; dropPublication?: boolean; signal?: AbortSignal } = {},
  ): Promise<void> {
    const core = this.#core;
    core.mustBeIdle("teardown()");
    await core.slotManager().teardown(options);
    if (options.dropSlot !== false) await core.backfills().forget();
  }

  /** The same as `stop()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
