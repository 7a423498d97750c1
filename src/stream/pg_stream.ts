/** The facade: what is watched, who handles it, and the life of a stream from start to stop. */
import type { AnyRow, ChangeEvent, EventOf } from "../change.ts";
import { PgStreamError } from "../errors.ts";
import type { Handle } from "../delivery/delivery.ts";
import { formatLsn } from "../lsn.ts";
import { consoleLogger, type Logger, silentLogger } from "../logger.ts";
import { checkPublicationName } from "../replication/publication.ts";
import { checkSlotName } from "../replication/slot.ts";
import { parseWatchedName } from "../replication/tables.ts";
import { type SetupReport, SlotManager } from "../replication/slot_manager.ts";
import type { Sink, SinkLike } from "../sinks/sink.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import { Connector } from "../wire/connector.ts";
import {
  checkOptions,
  type HandlerContext,
  notYet,
  type PgStreamOptions,
  type Transaction,
  type WatchOptions,
} from "./options.ts";
import { attachSink, NoSink } from "./attached_sink.ts";
import { Patience } from "./patience.ts";
import { DEFAULT_FINISH_MS, Session, type SessionOptions } from "./session.ts";
import { onSignals } from "./signals.ts";
import { type CatchUpReport, emptyStatus, type StreamStatus } from "./status.ts";

const DEFAULT_QUEUE_BYTES = 8 * 1024 * 1024;

/** Called for each event. A promise is waited for before the next event is handed out. */
export type ChangeHandler<T> = (event: EventOf<T>, sink: Sink, context: HandlerContext) => unknown;

// Inside, events are not typed by table: the types are the caller's.
type AnyHandler = (event: ChangeEvent, sink: Sink, context: HandlerContext) => unknown;

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
  readonly #options: PgStreamOptions;
  readonly #slotName: string;
  readonly #publicationName: string;
  readonly #logger: Logger;
  readonly #tables = new Map<string, TableName>();
  readonly #sinks: Sink[] = [];
  readonly #handlers: AnyHandler[] = [];
  readonly #status: StreamStatus = emptyStatus();
  #connector: Connector | undefined;
  #session: Session | null = null;
  #stop = new AbortController();
  #patience = new Patience();
  #running: Promise<void> | null = null;
  /** The handler that did not finish when it was told to stop, while it has not. */
  #abandoned: Promise<unknown> | null = null;
  #sinksOpen = false;

  /**
   * Connects to nothing yet.
   *
   * @param options or the `dsn` alone
   * @throws {PgStreamError} where an option cannot be: `slot-name`, `invalid-option`, `not-available`.
   */
  constructor(options: PgStreamOptions | string = {}) {
    this.#options = typeof options === "string" ? { dsn: options } : options;
    checkOptions(this.#options);
    this.#slotName = this.#options.slotName ?? "pgstream";
    this.#publicationName = this.#options.publicationName ?? this.#slotName;
    checkSlotName(this.#slotName);
    checkPublicationName(this.#publicationName);
    const logger = this.#options.logger ?? consoleLogger;
    this.#logger = logger === false ? silentLogger : logger;
  }

  /**
   * Adds tables, `table` or `schema.table`. Names are literal, never folded: `watch("User")`; they are
   * split at the first dot outside double quotes.
   *
   * @throws {PgStreamError} `already-running`; `table-name`.
   */
  watch(...tables: (keyof T & string)[]): this;
  /** Adds one table, with what is published of it. */
  watch<N extends keyof T & string>(table: N, options: WatchOptions<T[N]>): this;
  watch(...tables: (string | WatchOptions<never>)[]): this {
    this.#mustBeIdle("watch()");
    for (const table of tables) {
      if (Array.isArray(table)) throw notATable(table);
      if (typeof table !== "string") throw notYet("watch() with columns or where");
      const name = parseWatchedName(table);
      this.#tables.set(formatTableName(name), name);
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

  /** Adds a handler; several are called one after the other, in this order, for each event. */
  onChange(handler: ChangeHandler<T>): this {
    this.#mustBeIdle("onChange()");
    if (typeof handler !== "function") {
      throw nothingTo("call", "stream.onChange((event, sink) => …)");
    }
    this.#handlers.push(handler as AnyHandler);
    return this;
  }

  /** Not available in this version. @throws {PgStreamError} of kind `not-available`. */
  onBatch(
    _handler: (events: EventOf<T>[], sink: Sink, context: HandlerContext) => unknown,
    _options?: { maxEvents?: number; maxBytes?: number; maxDelayMs?: number },
  ): this {
    throw notYet("onBatch()");
  }

  /**
   * Creates publication and slot, or brings the publication in line with what is watched. Idempotent.
   * Warnings are logged as well as returned.
   *
   * @throws {PgStreamError} that says what is not as it must be and what to run; `signal.reason`.
   */
  async setup({ signal }: { signal?: AbortSignal } = {}): Promise<SetupReport> {
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
    this.#mustBeIdle("start()");
    if (this.#tables.size === 0) throw nothingTo("watch", 'stream.watch("documents")');
    if (this.#handlers.length === 0) throw nothingTo("call", "stream.onChange((event, sink) => …)");
    if (this.#abandoned !== null) throw handlerRunning();
    this.#sinksOpen = true;
    this.#stop = new AbortController();
    this.#patience = new Patience();
    const ignoreSignals = signals === true ? onSignals((name) => this.#onSignal(name)) : () => {};
    this.#running = this.#run(signal).finally(() => {
      ignoreSignals();
      this.#running = null;
    });
    await this.#running;
  }

  /** Not available in this version. */
  catchUp(_options?: { signal?: AbortSignal }): Promise<CatchUpReport> {
    return Promise.reject(notYet("catchUp()"));
  }

  /** Not available in this version. @throws {PgStreamError} of kind `not-available`. */
  changes(_options?: { signal?: AbortSignal }): AsyncIterable<Transaction<T>> {
    throw notYet("changes()");
  }

  /** Not available in this version. */
  backfill(
    _table: keyof T & string,
    _options?: { where?: string; signal?: AbortSignal },
  ): Promise<void> {
    return Promise.reject(notYet("backfill()"));
  }

  /** How the stream is doing. A copy; it survives `JSON.stringify`. */
  status(): StreamStatus {
    const status = { ...this.#status, events: { ...this.#status.events } };
    if (this.#session === null) return status;
    const { receivedLsn, confirmedLsn, queueBytes, transactions } = this.#session.progress;
    return {
      ...status,
      receivedLsn: formatLsn(receivedLsn),
      confirmedLsn: formatLsn(confirmedLsn),
      lagBytes: Number(receivedLsn - confirmedLsn),
      queueBytes,
      transactions: status.transactions + transactions,
    };
  }

  /**
   * Stops: nothing new is begun, the event in hand is finished, what is handled is confirmed, and the
   * sinks are closed. Of a transaction that was handled in part, nothing is confirmed: it comes again.
   * Never rejects for what made the stream fail: `start()` tells that.
   *
   * A handler may call it, but must not wait for it: it waits for the handler.
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
  }

  /** The same as `stop()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #run(userSignal: AbortSignal | undefined): Promise<void> {
    const stop = this.#stop;
    const abort = () => stop.abort(userSignal?.reason);
    if (userSignal?.aborted) abort();
    userSignal?.addEventListener("abort", abort);
    const stopping = () => this.#status.state = "stopping";
    this.#status.state = "connecting";
    this.#status.lastError = null;
    try {
      stop.signal.throwIfAborted();
      this.#session = await Session.open(this.#sessionOptions(), stop.signal);
      this.#status.state = "streaming";
      stop.signal.addEventListener("abort", stopping);
      await this.#session.run(stop.signal, this.#patience);
    } catch (error) {
      // Told to stop while it was still connecting: as graceful as any other moment.
      if (!(stop.signal.aborted && error === stop.signal.reason)) {
        this.#status.state = "failed";
        this.#status.lastError = error instanceof Error ? error.message : String(error);
        throw error;
      }
    } finally {
      userSignal?.removeEventListener("abort", abort);
      stop.signal.removeEventListener("abort", stopping);
      this.#endSession();
    }
    this.#status.state = "stopped";
    await this.#closeSinks();
  }

  #onSignal(name: string): void {
    this.#logger.info(`${name}: stopping`);
    this.#stop.abort(stopped());
  }

  #sessionOptions(): SessionOptions {
    return {
      connector: this.#connect(),
      slotName: this.#slotName,
      publicationName: this.#publicationName,
      tables: [...this.#tables.values()],
      maxQueueBytes: this.#options.maxQueueBytes ?? DEFAULT_QUEUE_BYTES,
      handle: this.#handle(),
      onHandled: (event) => this.#status.events[event.operation]++,
    };
  }

  /** One handler is called as it is; several one after the other. */
  #handle(): Handle {
    const sink = this.#sinks.at(-1) ?? new NoSink();
    const [first, ...others] = this.#handlers;
    if (others.length === 0) return (event, signal) => first!(event, sink, { signal, attempt: 1 });
    const handlers = [...this.#handlers];
    return async (event, signal) => {
      for (const handler of handlers) await handler(event, sink, { signal, attempt: 1 });
    };
  }

  /** One for all connections: the DSN is read, and warned about, once. */
  #connect(): Connector {
    const { dsn, password } = this.#options;
    this.#connector ??= new Connector({
      logger: this.#logger,
      ...(dsn === undefined ? {} : { dsn }),
      ...(password === undefined ? {} : { password }),
    });
    return this.#connector;
  }

  #slotManager(): SlotManager {
    return new SlotManager({
      connector: this.#connect(),
      slotName: this.#slotName,
      publicationName: this.#publicationName,
      tables: [...this.#tables.keys()],
    });
  }

  #endSession(): void {
    this.#patience.end();
    const unfinished = this.#session?.unfinished ?? null;
    this.#abandoned = unfinished;
    unfinished?.then(() => this.#abandoned = null);
    Object.assign(this.#status, this.status(), { queueBytes: 0 });
    this.#session = null;
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

  #mustBeIdle(what: string): void {
    if (this.#running === null) return;
    throw new PgStreamError(`Cannot call ${what} while the stream is running`, {
      kind: "already-running",
      hint: "Call stop() first, or use another PgStream with a slot of its own.",
    });
  }
}

function notATable(table: unknown): PgStreamError {
  return new PgStreamError(`Not a table name: ${JSON.stringify(table)}`, {
    kind: "table-name",
    hint: 'Names are arguments of their own: watch("a", "b").',
  });
}

function handlerRunning(): PgStreamError {
  return new PgStreamError("A handler that was given up by stop() is still running", {
    kind: "handler-running",
    retryable: true,
    hint:
      "Its event would be handled twice at once. Let it look at its signal, and start again later.",
  });
}

function stopped(): PgStreamError {
  return new PgStreamError("The stream was stopped", { kind: "stopped" });
}

function nothingTo(verb: string, call: string): PgStreamError {
  return new PgStreamError(`There is nothing to ${verb}`, {
    kind: verb === "watch" ? "nothing-watched" : "no-handler",
    hint: `Call ${call} first.`,
  });
}
