/**
 * What a stream is made of, and its life from start to stop: all behind `PgStream` but its types and its words. A
 * little longer than other files: what a run is put together from is read in one place.
 */
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import { Delivery } from "../delivery/delivery.ts";
import type { EventQueue } from "../delivery/event_queue.ts";
import { Frontier } from "../delivery/frontier.ts";
import { Intake } from "../delivery/intake.ts";
import { LanePlan } from "../delivery/lane_plan.ts";
import type { SchemaChange, TableShape } from "../delivery/schema_changes.ts";
import type { TransactionPart, TransactionQueue } from "../delivery/transaction_queue.ts";
import { PgStreamError } from "../errors.ts";
import { INVALID_LSN } from "../lsn.ts";
import type { Observe, StreamObserver } from "../observer.ts";
import { consoleLogger, type Logger, silentLogger } from "../logger.ts";
import type { Backend } from "../replication/backend.ts";
import { SlotManager } from "../replication/slot_manager.ts";
import type { WatchedTable } from "../replication/watched_table.ts";
import type { Sink } from "../sinks/sink.ts";
import { Connector } from "../wire/connector.ts";
import { NoSink } from "./attached_sink.ts";
import { Backfills } from "./backfills.ts";
import { atBarrier, handledTo } from "./beside.ts";
import { handlerRunning, nothingTo, notRunning, stopped } from "./errors.ts";
import { Handlers } from "./handlers.ts";
import { LateHandOver } from "./late_hand_over.ts";
import { observed } from "./observed.ts";
import { type Gap, type PgStreamOptions, type ResolvedOptions, resolveOptions } from "./options.ts";
import { Patience } from "./patience.ts";
import type { KnownSystem } from "./continuation.ts";
import { isInUse } from "./position.ts";
import { ReadAgain } from "./read_again.ts";
import { StreamRun } from "./run.ts";
import type { RunBackfill } from "./run_backfill.ts";
import { Session, type Stores } from "./session.ts";
import type { Source } from "./source.ts";
import { StatusBoard, tell } from "./status.ts";
import { SYNC_BATCH, Synced } from "./synced.ts";
import { typeLoader } from "./value_types.ts";
import type { SyncOptions } from "../sync/options.ts";
import type { TableName } from "../table_name.ts";

/** Where nobody but the stream itself keeps its position. */
const NO_STORES: Stores = { confirmable: (frontier) => frontier, flush: () => Promise.resolve() };

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

/** One stream. */
export class StreamCore {
  readonly logger: Logger;
  /** What is watched, by name. */
  readonly tables = new Map<string, WatchedTable>();
  readonly handlers = new Handlers();
  readonly status: StatusBoard;
  readonly gapListeners: ((gap: Gap) => unknown)[] = [];
  readonly schemaListeners: ((change: SchemaChange) => unknown)[] = [];
  /** Tables that become vectors. */
  readonly synced = new Synced(async (tables) => {
    const { SyncEngine } = await import("../sync/engine.ts");
    const { slotName, publicationName } = this.#options;
    return new SyncEngine({
      tables,
      sink: this.#sinks.at(-1) ?? null,
      connector: this.#connect(),
      slotName,
      publicationName,
      loadTypes: typeLoader(this.#options.parsers, () => true),
      retry: this.#options.reconnect,
      logger: this.logger,
      observe: this.#observe,
      lanes: this.#options.concurrency,
    });
  });
  #options: ResolvedOptions;
  readonly #observer: StreamObserver | undefined;
  readonly #connection: Pick<PgStreamOptions, "dsn" | "password" | "connect">;
  readonly #sinks: Sink[] = [];
  /** Of synced tables that have their own. */
  readonly #tableSinks: Sink[] = [];
  /** As the listeners of schemas know them. */
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
  /** Of the run, where it has handlers. */
  #queue: Delivery | null = null;
  #state: Backfills | undefined;
  /** Handlers that did not finish when they were told to stop, while they have not. */
  #abandoned: Promise<unknown> | null = null;
  #sinksOpen = false;

  /** Connects to nothing yet. @throws as `PgStream` does */
  constructor(given: PgStreamOptions) {
    this.#options = resolveOptions(given);
    this.#connection = given;
    const logger = given.logger ?? consoleLogger;
    this.logger = logger === false ? silentLogger : logger;
    this.status = new StatusBoard(this.logger);
    this.#observer = given.observer;
  }

  /** Rows beside the changes; null while nothing runs. */
  get backfill(): RunBackfill | null {
    return this.#backfill;
  }

  get #observe(): Observe | undefined {
    return this.#observer?.observe?.bind(this.#observer) as Observe | undefined;
  }

  /** Aborted when the run, or the last one, is told to stop. */
  get stopped(): AbortSignal {
    return this.#stop.signal;
  }

  /** Handlers get the sink that was added last; all are closed. */
  addSink(sink: Sink): void {
    this.#sinks.push(sink);
    this.#sinksOpen = true;
    this.synced.changed();
  }

  /** Makes vectors of a table. @param sink where it has its own */
  sync(name: TableName, options: SyncOptions, sink: Sink | null): void {
    if (sink !== null) {
      this.#tableSinks.push(sink);
      this.#sinksOpen = true;
    }
    if (this.synced.none) {
      this.handlers.addBatch(
        (events, _sink, context) =>
          this.synced.handle(events, context, {
            frontierAfter: () => this.#queue!.frontierAfter(events.length),
            upcoming: () => this.#queue!.upcoming(events.length),
          }),
        SYNC_BATCH,
      );
    }
    this.synced.add(name, options);
    this.#state = undefined;
  }

  /** Hands out changes to the handlers, until it is told to stop or has caught up. @throws as `start()` does */
  deliver(signal: AbortSignal | undefined, options: { catchUp?: boolean } = {}): Promise<void> {
    return this.#run((hooks) => this.#delivery(hooks), signal, options);
  }

  /** Begins nothing new, and lets what is in hand be finished. */
  abort(): void {
    this.#stop.abort(stopped());
  }

  /** The same; resolves when it is finished. @param timeoutMs how long the handler may take */
  async end(timeoutMs: number): Promise<void> {
    if (this.#running !== null) this.#patience.limit(timeoutMs);
    this.abort();
    await this.#running?.catch(() => {});
    await this.closeSinks();
  }

  /** What `changes()` gives, events untyped. @throws as it does */
  async *pull(signal: AbortSignal | undefined): AsyncGenerator<TransactionPart, void> {
    this.mustBeReady("changes()", { handlers: false });
    const loading = import("../delivery/transaction_queue.ts");
    // For who starts or stops it meanwhile, it runs.
    this.#running = loading.then(() => {}, () => void (this.#running = null));
    this.#stop = new AbortController();
    const { TransactionQueue } = await loading;
    this.#running = null;
    if (this.#stop.signal.aborted) return this.#patience.end();
    let queue: TransactionQueue | undefined;
    const { retry } = this.#options;
    const makeQueue = ({ reader, ...hooks }: QueueHooks) =>
      queue = new TransactionQueue({ ...hooks, unchanged: reader && { reader, retry } });
    const running = this.#run(makeQueue, signal, { handlers: false });
    running.catch(() => {});
    try {
      for (let part = await queue!.next(); part !== null; part = await queue!.next()) {
        yield part;
      }
    } finally {
      queue!.done();
      this.abort();
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
    // For those who wait for it: it may fail.
    const over = new AbortController();
    const abort = () => stop.abort(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort);
    const { readUnchanged, publicationName, concurrency } = this.#options;
    const lanes = handlers ? concurrency : 1;
    const { synced } = this;
    const isSynced = (table: TableName) => handlers && synced.has(table);
    const loadTypes = typeLoader(this.#options.parsers, isSynced);
    const wants = (table: TableName) => readUnchanged || isSynced(table);
    const reader = readUnchanged || handlers && !synced.none && this.#source === null
      ? new ReadAgain({ connector, publicationName, lanes, wants, loadTypes })
      : null;
    const frontier = new Frontier(INVALID_LSN);
    const settled = (event: ChangeEvent | LogicalMessage, skipped = false) => {
      this.status.settled(event, skipped);
      if (event.operation !== "message") this.#observer?.settled?.(event, skipped);
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
    const handOver = new LateHandOver();
    const prefixes = handlers ? this.handlers.prefixes : new Set<string>();
    const intake = new Intake(queue, frontier, handOver, prefixes);
    const backfill = this.backfills().make({
      loadTypes,
      frontier,
      handOver,
      intake,
      queue,
      ask: () => run.ask(),
      onFilled: (table) => handlers && synced.tableFilled(table),
    });
    const run = new StreamRun(
      {
        ...this.#options,
        connector,
        open: this.#source?.open ?? Session.open,
        tables: [...this.tables.values()],
        loadTypes,
        messages: prefixes.size > 0,
        whenSlotInUse: catchUp ? "fail" : this.#options.whenSlotInUse,
        catchUp,
        own: this.#own,
        known: this.#known,
        onState: (state) => this.status.become(state),
        onReconnect: () => this.status.reconnected(),
        onLost: (error) => {
          this.status.failedBy(error);
          synced.lost();
          handOver.lose();
          // The next one may be to another server.
          void reader?.close();
        },
        onGap: (gap) => void tell(this.gapListeners, "onGap", this.logger, gap),
        onArrived: async (arrived) => {
          await this.#watchSchemas(intake);
          if (!handlers) return;
          await synced.arrived({
            ...arrived,
            signal: stop.signal,
            lanes,
            frontier: () => frontier.confirmed,
            confirm: () => run.handled(),
            again: (table) => backfill.again(table),
            backfill: (name, keys, signal) => backfill.add({ name, keys, signal }),
            isFilling: (table) => backfill.isFilling(table),
            handledTo: (lsn, given) =>
              handledTo(lsn, frontier, () => run.ask(), [given, stop.signal, over.signal]),
            atBarrier: (call, given) => atBarrier(queue, call, [given, stop.signal, over.signal]),
          });
        },
      },
      { frontier, queue, intake, handOut: handOver, stores: handlers ? synced.stores : NO_STORES },
      backfill,
    );
    const stopping = () => this.status.become("stopping");
    this.status.begin(run, frontier, backfill);
    this.#backfill = backfill;
    stop.signal.addEventListener("abort", stopping);
    this.#running = run.run(stop.signal, this.#patience)
      .then(() => this.status.become("stopped"), (error) => {
        const busy = catchUp && isInUse(error);
        if (!busy) this.status.failedBy(error);
        this.status.become(busy ? "stopped" : "failed");
        throw error;
      })
      .finally(async () => {
        await reader?.close();
        await this.backfills().close();
        signal?.removeEventListener("abort", abort);
        stop.signal.removeEventListener("abort", stopping);
        this.#patience.end();
        this.status.end();
        synced.end();
        this.#queue = null;
        over.abort(notRunning("verify()"));
        this.#known = run.known;
        this.#backfill = null;
        this.#abandoned = run.unfinished;
        void run.unfinished?.then(() => this.#abandoned = null);
        this.#running = null;
      });
    return this.#running;
  }

  /** Before anything is read; where somebody listens. */
  async #watchSchemas(intake: Intake): Promise<void> {
    const listeners = this.schemaListeners;
    if (listeners.length === 0 || intake.schemas !== null) return;
    const { SchemaWatch } = await import("../delivery/schema_changes.ts");
    intake.schemas = new SchemaWatch(
      this.#shapes,
      (change) => tell(listeners, "onSchemaChange", this.logger, change),
    );
  }

  #delivery({ reader, ...hooks }: QueueHooks): Delivery {
    const { concurrency, key, retry, onFailure } = this.#options;
    const sink = this.#sinks.at(-1) ?? new NoSink();
    return this.#queue = new Delivery({
      ...hooks,
      unchanged: reader,
      handlers: observed(this.handlers.bind(sink), this.#observe),
      messageHandlers: this.handlers.bindMessages(sink),
      batch: this.handlers.batch,
      lanes: new LanePlan(concurrency, key),
      retry,
      onFailure,
      logger: this.logger,
      onRetry: () => this.status.retried(),
      random: Math.random,
      ...(this.#source === null ? {} : { pause: this.#source.pause }),
    });
  }

  /** Takes the stream away from its server. @throws {PgStreamError} `already-running` */
  readFrom(source: Source): void {
    this.mustBeIdle("new TestServer()");
    this.#source = source;
    this.#connector = source.connector(this.logger);
    // Rows that are there are read from a database, and so is how far that is.
    const none = { backfill: "never", stateStore: null, readUnchanged: false } as const;
    this.#options = { ...this.#options, ...none };
    this.#state = undefined;
  }

  /** One for all connections: the DSN is read, and warned about, once. */
  #connect(): Connector {
    const { dsn, password, connect } = this.#connection;
    this.#connector ??= new Connector({
      logger: this.logger,
      ...(dsn === undefined ? {} : { dsn }),
      ...(password === undefined ? {} : { password }),
      ...(connect === undefined ? {} : { connect }),
    });
    return this.#connector;
  }

  /** What keeps track of rows that are handed out beside the changes. */
  backfills(): Backfills {
    const filled = this.#source === null ? this.synced.filled : new Set<string>();
    return this.#state ??= new Backfills(this.#options, this.#connect(), filled);
  }

  /** Publication and slot, as they are wanted now. */
  slotManager(): SlotManager {
    const { slotName, publicationName, publishGeneratedColumns, failover, temporary } =
      this.#options;
    return new SlotManager({
      connector: this.#connect(),
      slotName,
      publicationName,
      failover,
      temporary,
      messages: this.handlers.prefixes.size > 0,
      tables: [...this.tables].map(([table, { columns, where }]) => ({
        table,
        ...columns === null ? {} : { columns },
        ...where === null ? {} : { where },
      })),
      ...publishGeneratedColumns === undefined ? {} : { publishGeneratedColumns },
    });
  }

  /** @throws {PgStreamError} of kind `sink-close`, when all others are closed. */
  async closeSinks(): Promise<void> {
    if (!this.#sinksOpen) return;
    this.#sinksOpen = false;
    const sinks = new Set([...this.#sinks, ...this.#tableSinks]);
    const results = await Promise.allSettled([...sinks].map(async (sink) => await sink.close?.()));
    const failed = results.find((result) => result.status === "rejected");
    if (failed === undefined) return;
    throw new PgStreamError("A sink could not be closed", {
      kind: "sink-close",
      hint: "Its cause says why. What was handled is confirmed.",
      cause: failed.reason,
    });
  }

  /** @throws {PgStreamError} that says what is missing, or in the way */
  mustBeReady(what: string, { handlers }: { handlers: boolean }): void {
    this.mustBeIdle(what);
    const messagesOnly = this.tables.size === 0 && handlers && this.handlers.prefixes.size > 0;
    if (this.tables.size === 0 && !messagesOnly) {
      throw nothingTo("watch", 'stream.watch("documents")');
    }
    if (handlers && !messagesOnly && this.handlers.count === 0) {
      throw nothingTo("call", "stream.onChange((event, sink) => …)");
    }
    if (this.#abandoned !== null) throw handlerRunning();
  }

  /** @throws {PgStreamError} of kind `already-running` */
  mustBeIdle(what: string): void {
    if (this.#running === null) return;
    throw new PgStreamError(`Cannot call ${what} while the stream is running`, {
      kind: "already-running",
      hint: "Call stop() first, or use another PgStream with a slot of its own.",
    });
  }
}
