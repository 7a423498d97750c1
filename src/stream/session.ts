/** One connection's life: check what the stream needs, stream, deliver, confirm, close. */
import type { ChangeEvent } from "../change.ts";
import { Delivery, type Handle } from "../delivery/delivery.ts";
import { DeliveryError } from "../delivery/errors.ts";
import { EventBuilder, heldBytes } from "../delivery/event_builder.ts";
import { Frontier, type TrackedTransaction } from "../delivery/frontier.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { PgOutputDecoder, type PgOutputMessage } from "../pgoutput/mod.ts";
import { ReplicationError } from "../replication/errors.ts";
import { ReplicationStream } from "../replication/replication_stream.ts";
import { readStart, type StreamStart } from "../replication/start.ts";
import type { TableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";
import { Patience } from "./patience.ts";
import { WatchedRelations } from "./relations.ts";

/** What a handler gets to finish its event where nobody says how long. */
export const DEFAULT_FINISH_MS = 10_000;
/** How long to wait for the Commit of a transaction whose events are all handled. */
const COMMIT_WAIT_MS = 1000;

/** What a session works with. */
export interface SessionOptions {
  connector: Connector;
  slotName: string;
  publicationName: string;
  tables: readonly TableName[];
  maxQueueBytes: number;
  handle: Handle;
  /** Called after each event that was handled. */
  onHandled: (event: ChangeEvent) => void;
}

/** A stream that is open. Made by `open`, used by one `run`. */
export class Session {
  readonly #options: SessionOptions;
  readonly #stream: ReplicationStream;
  readonly #frontier: Frontier;
  readonly #delivery: Delivery;
  readonly #decoder = new PgOutputDecoder();
  readonly #builder = new EventBuilder();
  readonly #relations: WatchedRelations;
  #transaction: TrackedTransaction | null = null;
  #unfinished: Promise<unknown> | null = null;

  private constructor(
    options: SessionOptions,
    stream: ReplicationStream,
    start: StreamStart,
  ) {
    this.#options = options;
    this.#stream = stream;
    this.#relations = new WatchedRelations(options.connector, start.tables);
    this.#frontier = new Frontier(start.confirmedLsn);
    this.#delivery = new Delivery({
      handle: options.handle,
      frontier: this.#frontier,
      maxQueueBytes: options.maxQueueBytes,
      onHandled: (event) => {
        options.onHandled(event);
        this.#confirm();
      },
    });
  }

  /**
   * Checks slot, publication and tables, and starts the stream at the slot's confirmed position.
   *
   * @throws {SlotError}, {PublicationError}, {ReplicationError}: what is not there, and what to run.
   */
  static async open(options: SessionOptions, signal: AbortSignal): Promise<Session> {
    const { connector, slotName, publicationName } = options;
    const start = await readStart(connector, options, signal);
    const stream = await ReplicationStream.open({
      connector,
      slotName,
      publicationName,
      startLsn: start.confirmedLsn,
      signal,
    });
    connector.logger.info(
      `Streaming from slot "${slotName}" at ${formatLsn(start.confirmedLsn)}, ` +
        `walsender PID ${stream.processId}`,
    );
    return new Session(options, stream, start);
  }

  /** Positions and sizes as they are now. */
  get progress(): {
    receivedLsn: Lsn;
    confirmedLsn: Lsn;
    queueBytes: number;
    transactions: number;
  } {
    return {
      receivedLsn: this.#stream.receivedLsn,
      confirmedLsn: this.#frontier.confirmed,
      queueBytes: this.#delivery.queueBytes,
      transactions: this.#frontier.transactions,
    };
  }

  /** Resolves when the handler ends that was given up at the end of `run`; null where none was. */
  get unfinished(): Promise<unknown> | null {
    return this.#unfinished;
  }

  /**
   * Streams until `signal` is aborted, or something fails. Either way the event in hand is finished,
   * as far as `patience` goes, and what is handled is confirmed, before the connection is closed.
   */
  async run(signal: AbortSignal, patience: Patience): Promise<void> {
    const stop = new AbortController();
    const delivering = this.#delivery.run(stop.signal);
    const reading = this.#read(stop.signal);
    const told = new Promise<void>((resolve) => {
      const tell = () => {
        // At once: a handler that returns nothing gives way to no promise between two events.
        stop.abort(signal.reason);
        resolve();
      };
      if (signal.aborted) return tell();
      signal.addEventListener("abort", tell, { once: true });
    });
    try {
      await Promise.race([told, reading, delivering]);
    } finally {
      stop.abort(signal.reason);
      await this.#finish(delivering, patience);
      if (this.#waitsForCommit) await new Patience(COMMIT_WAIT_MS).settled(reading);
      this.#confirm();
      await this.#stream.close();
      await reading.catch(() => {});
    }
  }

  async #finish(delivering: Promise<void>, patience: Patience): Promise<void> {
    if (patience.limitMs === null) patience.limit(DEFAULT_FINISH_MS);
    if (await patience.settled(delivering)) return;
    this.#delivery.abandon();
    this.#unfinished = delivering.catch(() => {});
    this.#options.connector.logger.warn(
      `The handler did not finish within ${patience.limitMs} ms of being told to stop: ` +
        "its event comes again",
    );
  }

  /** True where all that was handed out of a transaction is handled, and perhaps it was all of it. */
  get #waitsForCommit(): boolean {
    return this.#transaction !== null && this.#transaction.events > 0 &&
      this.#transaction.pending === 0;
  }

  async #read(signal: AbortSignal): Promise<void> {
    for (;;) {
      const messages = await this.#stream.read();
      if (messages === null) {
        if (signal.aborted) return;
        throw new ReplicationError("The server ended the stream", {
          kind: "stream-ended",
          retryable: true,
          hint: "It is being shut down or restarted: start again when it is back.",
        });
      }
      for (const message of messages) {
        if (message.type === "primaryKeepalive") {
          this.#frontier.keepalive(message.walEnd);
          continue;
        }
        const decoded = this.#decoder.decode(message.data);
        if (signal.aborted) {
          // All that is still wanted is the end of a transaction whose events are all handled.
          if (decoded.type === "commit") this.#accept(decoded, message.data.length);
          return;
        }
        if (decoded.type === "relation") {
          this.#builder.declare(decoded, await this.#relations.resolve(decoded, signal));
        } else {
          this.#accept(decoded, message.data.length);
        }
        const room = this.#delivery.room();
        if (room !== null) await room;
      }
      this.#confirm();
      if (signal.aborted && this.#transaction === null) return;
    }
  }

  #accept(message: PgOutputMessage, bytes: number): void {
    switch (message.type) {
      case "begin":
        if (this.#transaction !== null) throw outOfPlace("begin", "inside");
        this.#transaction = this.#frontier.begin();
        this.#builder.begin(message);
        break;
      case "insert":
      case "update":
      case "delete":
      case "truncate":
        for (const event of this.#builder.build(message)) {
          this.#delivery.offer(event, heldBytes(message, bytes), this.#open(message.type));
        }
        break;
      case "commit":
        this.#frontier.commit(this.#open(message.type), message.endLsn);
        this.#transaction = null;
        break;
      default:
        // Origin, Type, Message: nothing that a handler of rows is told.
        break;
    }
  }

  #open(type: string): TrackedTransaction {
    if (this.#transaction !== null) return this.#transaction;
    throw outOfPlace(type, "outside");
  }

  #confirm(): void {
    this.#stream.acknowledge(this.#frontier.confirmed);
  }
}

function outOfPlace(type: string, where: "inside" | "outside"): DeliveryError {
  return new DeliveryError(`The server sent ${type} ${where} of a transaction`, {
    kind: "transaction-order",
    hint: "Start again: what is not confirmed comes once more.",
  });
}
