/** The server of a stream that has none. */
import type { AnyRow, ChangeEvent, EventOf, LogicalMessage } from "../change.ts";
import { DeliveryError, HandlerError } from "../delivery/errors.ts";
import { PgStreamError } from "../errors.ts";
import { formatLsn } from "../lsn.ts";
import { type PgStream, readFrom } from "../stream/pg_stream.ts";
import { Connector } from "../wire/connector.ts";
import { changeOf } from "./events.ts";
import { writtenOf } from "./message.ts";
import { TestSession } from "./test_session.ts";
import { Wal } from "./wal.ts";

/** Complete, so that nothing of it comes from the environment. */
const NO_DSN = "postgresql://nobody@localhost:5432/none?sslmode=disable";

/**
 * Events that a stream can be fed with. Their own values may be text, which is what `insert()` and its kind
 * give where they are not asked for others: what the handlers get is the stream's to say.
 *
 * @typeParam T the tables of the stream
 */
export type FedEvent<T> = EventOf<
  {
    [N in keyof T]: {
      // A column of texts has these, and no others.
      [Column in keyof T[N]]: [T[N][Column]] extends [string | null] ? T[N][Column]
        : T[N][Column] | string;
    };
  }
>;

/** What became of events. */
export interface FeedReport<T extends object = Record<string, AnyRow>> {
  /** Those that were handled, as the handlers got them, in the order in which they were done. */
  handled: EventOf<T>[];
  /** Those that `onFailure` gave up. */
  skipped: EventOf<T>[];
  /** Messages that were handled. */
  messages: LogicalMessage[];
  /** Messages that `onFailure` gave up. */
  skippedMessages: LogicalMessage[];
  /** How often a handler was called again for the same events. */
  retries: number;
  /** How long the stream would have waited before it did, in milliseconds. */
  waitedMs: number;
  /** What the stream failed with, where it may: its `cause` is what the handler threw. Null: it did not. */
  failure: HandlerError | DeliveryError | null;
  /** Everything before this is confirmed. */
  confirmedLsn: string;
}

/** How events are fed. */
export interface FeedOptions {
  /** True: a handler that fails for good is told in the report. Default: false, it is thrown. */
  mayFail?: boolean;
}

/**
 * Takes the place of a stream's server, for good: the stream that it was made for connects to nothing else
 * from then on, and what only a server can do (`setup()`, `teardown()`, `backfill()`) fails with an error of
 * kind `no-server`. All the rest is as in production, except that nobody waits before a handler is called
 * again, and that `readUnchanged` has nothing to read from: columns stay in `unchanged`.
 *
 * `feed()` is the short way. The stream's own `start()`, `catchUp()` and `changes()` read what was
 * committed, too.
 *
 * @typeParam T the tables of the stream
 *
 * @example
 * ```ts
 * import { MemorySink, PgStream } from "@pgstream/pgstream";
 * import { insert, TestServer } from "@pgstream/pgstream/testing";
 *
 * const sink = new MemorySink();
 * const stream = new PgStream().watch("documents").sink(sink);
 * stream.onChange((event, sink) => sink.upsert({ id: event.key!, vector: [1] }));
 *
 * const server = new TestServer(stream);
 * await server.feed([insert("documents", { id: 1, title: "bread" })]);
 * if (sink.get(1) === undefined) throw new Error("it was not stored");
 * ```
 */
export class TestServer<T extends object = Record<string, AnyRow>> {
  readonly #stream: PgStream<T>;
  readonly #wal = new Wal();
  #handled: ChangeEvent[] = [];
  #skipped: ChangeEvent[] = [];
  #messages: LogicalMessage[] = [];
  #skippedMessages: LogicalMessage[] = [];
  #waitedMs = 0;

  /**
   * Takes the place of the server of `stream`.
   *
   * @throws {PgStreamError} of kind `already-running` where the stream runs.
   */
  constructor(stream: PgStream<T>) {
    this.#stream = stream;
    readFrom(stream as unknown as PgStream<object>, {
      open: (options) => TestSession.open(this.#wal, options),
      connector: (logger) =>
        new Connector({ dsn: NO_DSN, logger, connect: () => Promise.reject(noServer()) }),
      pause: (ms) => {
        this.#waitedMs += ms;
        return Promise.resolve();
      },
      onSettled: (event, skipped) => {
        if (event.operation === "message") {
          (skipped ? this.#skippedMessages : this.#messages).push(event);
        } else {
          (skipped ? this.#skipped : this.#handled).push(event);
        }
      },
    });
  }

  /** The end of what was committed. */
  get walLsn(): string {
    return formatLsn(this.#wal.endLsn);
  }

  /** What the stream has confirmed: everything before it is handled, and does not come again. */
  get confirmedLsn(): string {
    return formatLsn(this.#wal.confirmedLsn);
  }

  /**
   * Commits a transaction of these changes, and messages. Rows of a backfill stand in none: they are given
   * alone, and read between two transactions; so is a message with `transactional: false`.
   *
   * @returns the end of it: where `confirmedLsn` is once all of it, and all before it, is handled
   * @throws {PgStreamError} of kind `invalid-change` for what no server tells.
   */
  commit(...events: readonly (FedEvent<T> | LogicalMessage)[]): string {
    this.#wal.write(
      (events as readonly (ChangeEvent | LogicalMessage)[]).map((event) =>
        event.operation === "message" ? writtenOf(event) : changeOf(event)
      ),
    );
    return this.walLsn;
  }

  /**
   * Commits changes and lets the stream catch up: resolves when they are handled, and all that was committed
   * before and is not confirmed. Sinks stay open.
   *
   * @param events one transaction; or a list of them, each a list of its own
   * @throws {PgStreamError} what `catchUp()` rejects with, such as `handler-failed`, whose `cause` is what the
   * handler threw; `not-watched`; as `commit()`.
   */
  feed(
    events:
      | readonly (FedEvent<T> | LogicalMessage)[]
      | readonly (readonly (FedEvent<T> | LogicalMessage)[])[],
    options: FeedOptions = {},
  ): Promise<FeedReport<T>> {
    const lists = events.some(Array.isArray)
      ? events as readonly (readonly (FedEvent<T> | LogicalMessage)[])[]
      : [events as readonly (FedEvent<T> | LogicalMessage)[]];
    for (const transaction of lists) if (transaction.length > 0) this.commit(...transaction);
    return this.#catchUp(options);
  }

  /**
   * Hands out again all that was ever committed, as after a crash in which what was confirmed is lost: at
   * least once is what a stream promises, so what is stored must be the same afterwards.
   *
   * @throws {PgStreamError} as `feed()`.
   */
  replay(options: FeedOptions = {}): Promise<FeedReport<T>> {
    this.#wal.rewind();
    return this.#catchUp(options);
  }

  async #catchUp({ mayFail = false }: FeedOptions): Promise<FeedReport<T>> {
    const { retries } = this.#stream.status();
    this.#handled = [];
    this.#skipped = [];
    this.#messages = [];
    this.#skippedMessages = [];
    this.#waitedMs = 0;
    let failure: HandlerError | DeliveryError | null = null;
    try {
      await this.#stream.catchUp();
    } catch (error) {
      const failed = error instanceof HandlerError || error instanceof DeliveryError;
      if (!failed || !mayFail) throw error;
      failure = error;
    }
    return {
      handled: this.#handled as EventOf<T>[],
      skipped: this.#skipped as EventOf<T>[],
      messages: this.#messages,
      skippedMessages: this.#skippedMessages,
      retries: this.#stream.status().retries - retries,
      waitedMs: this.#waitedMs,
      failure,
      confirmedLsn: this.confirmedLsn,
    };
  }
}

function noServer(): PgStreamError {
  return new PgStreamError("This stream has a TestServer and no other", {
    kind: "no-server",
    hint: "setup(), teardown() and backfill() need PostgreSQL: leave them out here.",
  });
}
