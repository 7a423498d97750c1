/**
 * The facade: what is watched, who handles it, and the life of a stream from start to stop. Longer than
 * other files: the half of it is the documentation of what users call.
 */
import { HandOver } from "../backfill/hand_over.ts";
import type { AnyRow, ChangeEvent, EventOf, LogicalMessage } from "../change.ts";
import { Delivery } from "../delivery/delivery.ts";
import type { EventQueue } from "../delivery/event_queue.ts";
import { Frontier } from "../delivery/frontier.ts";
import type { BatchLimits } from "../delivery/handler.ts";
import { Intake } from "../delivery/intake.ts";
import { LanePlan } from "../delivery/lane_plan.ts";
import { type SchemaChange, SchemaWatch, type TableShape } from "../delivery/schema_changes.ts";
import { TransactionQueue } from "../delivery/transaction_queue.ts";
import { PgStreamError } from "../errors.ts";
import { INVALID_LSN } from "../lsn.ts";
import { consoleLogger, type Logger, silentLogger } from "../logger.ts";
import type { Backend } from "../replication/liveness.ts";
import { type SetupReport, SlotManager } from "../replication/slot_manager.ts";
import { parseWatched, parseWatchedName, type WatchedTable } from "../replication/tables.ts";
import type { Sink, SinkLike } from "../sinks/sink.ts";
import { formatTableName } from "../table_name.ts";
import { Connector } from "../wire/connector.ts";
import { attachSink, NoSink } from "./attached_sink.ts";
import { Backfills } from "./backfills.ts";
import { handlerRunning, notATable, nothingTo, notRunning, notWatched, stopped } from "./errors.ts";
import { type BatchHandler, type EventHandler, Handlers, type MessageHandler } from "./handlers.ts";
import {
  type Gap,
  type HandlerContext,
  type PgStreamOptions,
  resolveBatch,
  type ResolvedOptions,
  resolveOptions,
  type Transaction,
  type WatchOptions,
} from "./options.ts";
import { Patience } from "./patience.ts";
import { isInUse, type KnownSystem } from "./position.ts";
import { DEFAULT_FINISH_MS, StreamRun } from "./run.ts";
import type { RunBackfill } from "./run_backfill.ts";
import { Session } from "./session.ts";
import { ReadAgain } from "./read_again.ts";
import { onSignals } from "./signals.ts";
import type { Source } from "./source.ts";
import { typeLoader } from "./value_types.ts";
import {
  type CatchUpReport,
  StatusBoard,
  type StreamState,
  type StreamStatus,
  tell,
} from "./status.ts";

/** Called for each event. A promise is waited for before the next event is handed out. */
export type ChangeHandler<T> = (event: EventOf<T>, sink: Sink, context: HandlerContext) => unknown;

/**
 * Takes a stream away from its server: from here on it reads from `source`, and reaches nothing else. For
 * `./testing`, which is no part of this class and yet has to get at the inside of one that users have made.
 *
 * @throws {PgStreamError} `already-running`.
 */
export let readFrom: (stream: PgStream<object>, source: Source) => void;

/** What a queue tells the stream. */
interface QueueHooks {
  frontier: Frontier;
  maxQueueBytes: number;
  /** Null: what the server did not send is not read. */
  reader: ReadAgain | null;
  onSettled: (event: ChangeEvent, skipped?: boolean) => void;
  onMessageSettled: (message: LogicalMessage, skipped: boolean) => void;
  onProgress: () => void;
}

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
    readFrom = (stream, source) => stream.#readFrom(source);
  }

  #options: ResolvedOptions;
  readonly #logger: Logger;
  readonly #connection: Pick<PgStreamOptions, "dsn" | "password" | "connect">;
  readonly #tables = new Map<string, WatchedTable>();
  readonly #sinks: Sink[] = [];
  readonly #handlers = new Handlers();
  readonly #status: StatusBoard;
  readonly #gapListeners: ((gap: Gap) => unknown)[] = [];
  readonly #schemaListeners: ((change: SchemaChange) => unknown)[] = [];
  /** As those listeners know them. */
  readonly #shapes = new Map<string, TableShape>();
  /** Walsenders that were opened for the slot. */
  readonly #own: Backend[] = [];
  #known: KnownSystem | null = null;
  #connector: Connector | undefined;
  /** Null: a server. */
  #source: Source | null = null;
  #stop = new AbortController();
  #patience = new Patience();
  #running: Promise<void> | null = null;
  /** Of the run. */
  #backfill: RunBackfill | null = null;
  #state: Backfills | undefined;
  /** Handlers that did not finish when they were told to stop, while they have not. */
  #abandoned: Promise<unknown> | null = null;
  #sinksOpen = false;

  /**
   * Connects to nothing yet.
   *
   * @param options or the `dsn` alone
   * @throws {PgStreamError} where an option cannot be: `slot-name`, `invalid-option`, `not-available`.
   */
  constructor(options: PgStreamOptions | string = {}) {
    const given = typeof options === "string" ? { dsn: options } : options;
    this.#options = resolveOptions(given);
    this.#connection = given;
    const logger = given.logger ?? consoleLogger;
    this.#logger = logger === false ? silentLogger : logger;
    this.#status = new StatusBoard(this.#logger);
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
    this.#mustBeIdle("watch()");
    const last = tables.at(-1);
    const isOptions = typeof last === "object" && last !== null && !Array.isArray(last);
    const options = tables.length === 2 && isOptions ? last : undefined;
    for (const table of options === undefined ? tables : tables.slice(0, 1)) {
      if (typeof table !== "string") throw notATable(table);
      const watched = parseWatched(table, options ?? {});
      this.#tables.set(formatTableName(watched), watched);
    }
    return this;
  }

  /**
   * Attaches the sink that handlers get: this very object. A second one takes the first one's place.
   *
   * @throws {PgStreamError} `already-running`; `invalid-sink`.
   */
  sink(sink: SinkLike): this {
    this.#mustBeIdle("sink()");
    this.#sinks.push(attachSink(sink));
    this.#sinksOpen = true;
    return this;
  }

  /** Adds a handler; several are called one after the other, in the order in which they were added. */
  onChange(handler: ChangeHandler<T>): this {
    this.#mustBeIdle("onChange()");
    if (typeof handler !== "function") {
      throw nothingTo("call", "stream.onChange((event, sink) => …)");
    }
    this.#handlers.add(handler as EventHandler);
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
    this.#mustBeIdle("onBatch()");
    if (typeof handler !== "function") {
      throw nothingTo("call", "stream.onBatch((events, sink) => …)");
    }
    const limits: BatchLimits = resolveBatch(options);
    this.#handlers.addBatch(handler as BatchHandler, limits);
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
    this.#mustBeIdle("onMessage()");
    if (typeof prefix !== "string" || typeof handler !== "function") {
      throw nothingTo("call", 'stream.onMessage("outbox", (message, sink) => …)');
    }
    this.#handlers.addMessage(prefix, handler);
    return this;
  }

  /** Called whenever `status().state` changes. What the listener throws is logged. */
  onStateChange(listener: (state: StreamState, previous: StreamState) => unknown): this {
    this.#status.onStateChange(listener);
    return this;
  }

  /**
   * Called when changes were missed because the slot was lost, and `onSlotLost: "recreate"` has made it
   * anew: what the slot kept in step has to be rebuilt. What the listener throws is logged.
   */
  onGap(listener: (gap: Gap) => unknown): this {
    this.#gapListeners.push(listener);
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
    this.#mustBeIdle("onSchemaChange()");
    this.#schemaListeners.push(listener);
    return this;
  }

  /**
   * Creates publication and slot, or brings the publication in line with what is watched. Idempotent.
   * Warnings are logged as well as returned.
   *
   * @throws {PgStreamError} that says what is not as it must be and what to run; `signal.reason`.
   */
  async setup({ signal }: { signal?: AbortSignal } = {}): Promise<SetupReport> {
    await this.#backfills().prepare([...this.#tables.values()], signal);
    const manager = this.#slotManager();
    const report = await manager.setup(signal === undefined ? {} : { signal });
    for (const warning of report.warnings) this.#logger.warn(warning);
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
    this.#mustBeReady("start()", { handlers: true });
    const ignoreSignals = signals === true ? onSignals((name) => this.#onSignal(name)) : () => {};
    try {
      await this.#run((hooks) => this.#delivery(hooks), signal);
    } finally {
      ignoreSignals();
    }
    await this.#closeSinks();
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
    this.#mustBeReady("catchUp()", { handlers: true });
    const before = this.#status.totals;
    try {
      await this.#run((hooks) => this.#delivery(hooks), signal, { catchUp: true });
    } catch (error) {
      if (!isInUse(error)) throw error;
      const { handledLsn: lsn } = this.status();
      return { events: 0, messages: 0, transactions: 0, lsn, busy: true };
    }
    this.#stop.signal.throwIfAborted();
    const { events, messages, transactions } = this.#status.totals;
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
    return { [Symbol.asyncIterator]: () => this.#pull(signal) };
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
    if (!this.#tables.has(formatTableName(name))) throw notWatched(formatTableName(name));
    signal?.throwIfAborted();
    if (this.#backfill === null) throw notRunning("backfill()");
    await this.#backfill.add({ name, where, keys, signal });
  }

  /** How the stream is doing. A copy; it survives `JSON.stringify`. */
  status(): StreamStatus {
    return this.#status.read();
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
    if (this.#running !== null) this.#patience.limit(timeoutMs);
    this.#stop.abort(stopped());
    await this.#running?.catch(() => {});
    await this.#closeSinks();
  }

  /**
   * Drops the slot, and the publication where this slot owns it. What is not there is no error.
   *
   * @throws {SlotError} of kind `slot-in-use` while somebody streams from it.
   */
  async teardown(
    options: { dropSlot?: boolean; dropPublication?: boolean } = {},
  ): Promise<void> {
    this.#mustBeIdle("teardown()");
    await this.#slotManager().teardown(options);
    if (options.dropSlot !== false) await this.#backfills().forget();
  }

  /** The same as `stop()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async *#pull(signal: AbortSignal | undefined): AsyncGenerator<Transaction<T>, void> {
    this.#mustBeReady("changes()", { handlers: false });
    let queue: TransactionQueue | undefined;
    const { retry } = this.#options;
    const makeQueue = ({ reader, ...hooks }: QueueHooks) =>
      queue = new TransactionQueue({ ...hooks, unchanged: reader && { reader, retry } });
    const running = this.#run(makeQueue, signal, { handlers: false });
    running.catch(() => {});
    try {
      for (let part = await queue!.next(); part !== null; part = await queue!.next()) {
        yield part as Transaction<T>;
      }
    } finally {
      queue!.done();
      this.#stop.abort(stopped());
      await running;
    }
  }

  /** Runs until it is told to stop, which is no failure. */
  #run(
    makeQueue: (hooks: QueueHooks) => EventQueue,
    signal: AbortSignal | undefined,
    { catchUp = false, handlers = true } = {},
  ): Promise<void> {
    const connector = this.#connect();
    // Since it ran last, another server may have taken over.
    connector.release();
    this.#sinksOpen = true;
    this.#stop = new AbortController();
    this.#patience = new Patience();
    const stop = this.#stop;
    const abort = () => stop.abort(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort);
    const { readUnchanged, publicationName, concurrency } = this.#options;
    const lanes = handlers ? concurrency : 1;
    const loadTypes = typeLoader(this.#options.parsers);
    const reader = readUnchanged
      ? new ReadAgain({ connector, publicationName, lanes, loadTypes })
      : null;
    const frontier = new Frontier(INVALID_LSN);
    const settled = (event: ChangeEvent | LogicalMessage, skipped = false) => {
      this.#status.settled(event, skipped);
      this.#source?.onSettled(event, skipped);
    };
    const queue = makeQueue({
      frontier,
      maxQueueBytes: this.#options.maxQueueBytes,
      reader,
      onSettled: settled,
      onMessageSettled: settled,
      onProgress: () => run.handled(),
    });
    const handOver = new HandOver(frontier);
    const prefixes = handlers ? this.#handlers.prefixes : new Set<string>();
    const schemas = this.#schemas();
    const intake = new Intake(queue, frontier, handOver, { prefixes, schemas });
    const backfill = this.#backfills().make({
      loadTypes,
      handOver,
      intake,
      queue,
      ask: () => run.ask(),
    });
    const run = new StreamRun(
      {
        ...this.#options,
        connector,
        open: this.#source?.open ?? Session.open,
        tables: [...this.#tables.values()],
        loadTypes,
        messages: prefixes.size > 0,
        whenSlotInUse: catchUp ? "fail" : this.#options.whenSlotInUse,
        catchUp,
        own: this.#own,
        known: this.#known,
        onState: (state) => this.#status.become(state),
        onReconnect: () => this.#status.reconnected(),
        onLost: (error) => {
          this.#status.failedBy(error);
          // The next one may be to another server.
          void reader?.close();
        },
        onGap: (gap) => void tell(this.#gapListeners, "onGap", this.#logger, gap),
      },
      { frontier, queue, intake, handOut: handOver },
      backfill,
    );
    const stopping = () => this.#status.become("stopping");
    this.#status.begin(run, frontier, backfill);
    this.#backfill = backfill;
    stop.signal.addEventListener("abort", stopping);
    this.#running = run.run(stop.signal, this.#patience)
      .then(() => this.#status.become("stopped"), (error) => {
        const busy = catchUp && isInUse(error);
        if (!busy) this.#status.failedBy(error);
        this.#status.become(busy ? "stopped" : "failed");
        throw error;
      })
      .finally(async () => {
        await reader?.close();
        await this.#backfills().close();
        signal?.removeEventListener("abort", abort);
        stop.signal.removeEventListener("abort", stopping);
        this.#patience.end();
        this.#status.end();
        this.#known = run.known;
        this.#backfill = null;
        this.#abandoned = run.unfinished;
        void run.unfinished?.then(() => this.#abandoned = null);
        this.#running = null;
      });
    return this.#running;
  }

  /** Null where nobody listens. */
  #schemas(): SchemaWatch | null {
    const listeners = this.#schemaListeners;
    if (listeners.length === 0) return null;
    return new SchemaWatch(
      this.#shapes,
      (change) => tell(listeners, "onSchemaChange", this.#logger, change),
    );
  }

  #delivery({ reader, ...hooks }: QueueHooks): Delivery {
    const { concurrency, key, retry, onFailure } = this.#options;
    const sink = this.#sinks.at(-1) ?? new NoSink();
    return new Delivery({
      ...hooks,
      unchanged: reader,
      handlers: this.#handlers.bind(sink),
      messageHandlers: this.#handlers.bindMessages(sink),
      batch: this.#handlers.batch,
      lanes: new LanePlan(concurrency, key),
      retry,
      onFailure,
      logger: this.#logger,
      onRetry: () => this.#status.retried(),
      random: Math.random,
      ...(this.#source === null ? {} : { pause: this.#source.pause }),
    });
  }

  #readFrom(source: Source): void {
    this.#mustBeIdle("new TestServer()");
    this.#source = source;
    this.#connector = source.connector(this.#logger);
    // Rows that are there are read from a database, and so is how far that is.
    const none = { backfill: "never", stateStore: null, readUnchanged: false } as const;
    this.#options = { ...this.#options, ...none };
    this.#state = undefined;
  }

  #onSignal(name: string): void {
    this.#logger.info(`${name}: stopping`);
    this.#stop.abort(stopped());
  }

  /** One for all connections: the DSN is read, and warned about, once. */
  #connect(): Connector {
    const { dsn, password, connect } = this.#connection;
    this.#connector ??= new Connector({
      logger: this.#logger,
      ...(dsn === undefined ? {} : { dsn }),
      ...(password === undefined ? {} : { password }),
      ...(connect === undefined ? {} : { connect }),
    });
    return this.#connector;
  }

  #backfills(): Backfills {
    return this.#state ??= new Backfills(this.#options, this.#connect());
  }

  #slotManager(): SlotManager {
    const { slotName, publicationName, publishGeneratedColumns, failover, temporary } =
      this.#options;
    return new SlotManager({
      connector: this.#connect(),
      slotName,
      publicationName,
      failover,
      temporary,
      messages: this.#handlers.prefixes.size > 0,
      tables: [...this.#tables].map(([table, { columns, where }]) => ({
        table,
        ...columns === null ? {} : { columns },
        ...where === null ? {} : { where },
      })),
      ...publishGeneratedColumns === undefined ? {} : { publishGeneratedColumns },
    });
  }

  /** @throws {PgStreamError} of kind `sink-close`, when all others are closed. */
  async #closeSinks(): Promise<void> {
    if (!this.#sinksOpen) return;
    this.#sinksOpen = false;
    const results = await Promise.allSettled(this.#sinks.map(async (sink) => await sink.close?.()));
    const failed = results.find((result) => result.status === "rejected");
    if (failed === undefined) return;
    throw new PgStreamError("A sink could not be closed", {
      kind: "sink-close",
      hint: "Its cause says why. What was handled is confirmed.",
      cause: failed.reason,
    });
  }

  #mustBeReady(what: string, { handlers }: { handlers: boolean }): void {
    this.#mustBeIdle(what);
    const messagesOnly = this.#tables.size === 0 && handlers && this.#handlers.prefixes.size > 0;
    if (this.#tables.size === 0 && !messagesOnly) {
      throw nothingTo("watch", 'stream.watch("documents")');
    }
    if (handlers && !messagesOnly && this.#handlers.count === 0) {
      throw nothingTo("call", "stream.onChange((event, sink) => …)");
    }
    if (this.#abandoned !== null) throw handlerRunning();
  }

  #mustBeIdle(what: string): void {
    if (this.#running === null) return;
    throw new PgStreamError(`Cannot call ${what} while the stream is running`, {
      kind: "already-running",
      hint: "Call stop() first, or use another PgStream with a slot of its own.",
    });
  }
}
