/**
 * The stream of a logical slot: START_REPLICATION, and the conversation that keeps it alive.
 * https://www.postgresql.org/docs/current/protocol-replication.html
 */
import { formatLsn, INVALID_LSN, type Lsn, parseLsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import { Connector } from "../wire/connector.ts";
import type { CopyBoth } from "../wire/copy_both.ts";
import type { Span } from "../wire/frames.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { ReplicationError } from "./errors.ts";
import {
  encodeStandbyStatusUpdate,
  type PrimaryKeepalive,
  type ReplicationMessage,
  ReplicationMessageReader,
  type XLogData,
} from "./messages.ts";
import { type Backend, readBackend } from "./backend.ts";
import { identifySystem, readWalSenderTimeoutMs, type SystemIdentity } from "./server.ts";
import { checkPublicationName, checkSlotName } from "./names.ts";
import { connectForReplication } from "./connect.ts";
import {
  checkReached,
  publicationMissing,
  readConfirmedLsn,
  refuseSkippedPublication,
  startReplication,
} from "./start_replication.ts";
import { ShutdownSigns } from "./shutdown_signs.ts";
import { StatusUpdates } from "./status_updates.ts";
import { asksForMore, type ReplicationStreamOptions } from "./stream_options.ts";

export type { PgOutputOptions, ReplicationStreamOptions } from "./stream_options.ts";

/**
 * An async iterable of XLogData from a logical slot. Status updates run on a timer of their own, the
 * smaller of 10 s and a third of `wal_sender_timeout`, however long the consumer takes; nothing is
 * confirmed but by `acknowledge()`.
 *
 * LSNs are `bigint` here: this is the protocol's own level.
 *
 * @example
 * ```ts
 * import { ReplicationStream } from "@pgstream/pgstream";
 * import { PgOutputDecoder } from "@pgstream/pgstream/pgoutput";
 *
 * const stream = await ReplicationStream.open({ dsn: "postgresql://localhost/db", slotName: "s" });
 * const decoder = new PgOutputDecoder();
 * for await (const { data } of stream) {
 *   const message = decoder.decode(data);
 *   if (message.type === "commit") stream.acknowledge(message.endLsn);
 * }
 * ```
 */
export class ReplicationStream implements AsyncIterable<XLogData>, AsyncDisposable {
  readonly #connection: Connection;
  readonly #copy: CopyBoth;
  readonly #options: ReplicationStreamOptions;
  readonly #publicationName: string;
  readonly #identity: SystemIdentity;
  readonly #backend: Backend;
  readonly #updates: StatusUpdates;
  readonly #shutdownSigns: ShutdownSigns;
  readonly #message = new ReplicationMessageReader();
  #receivedLsn: Lsn;
  /** The highest position of data since `#receivedLsn` was set, in halves: a `bigint` for each row would cost. */
  #dataHigh = 0;
  #dataLow = 0;
  #acknowledgedLsn: Lsn;
  #reading = false;
  #ending: Promise<boolean> | undefined;

  private constructor(
    connection: Connection,
    copy: CopyBoth,
    options: ReplicationStreamOptions,
    start: {
      lsn: Lsn;
      walSenderTimeoutMs: number;
      publicationName: string;
      identity: SystemIdentity;
      backend: Backend;
    },
  ) {
    this.#connection = connection;
    this.#copy = copy;
    this.#options = options;
    this.#publicationName = start.publicationName;
    this.#identity = start.identity;
    this.#backend = start.backend;
    this.#receivedLsn = start.lsn;
    this.#acknowledgedLsn = start.lsn;
    this.#shutdownSigns = new ShutdownSigns(start.walSenderTimeoutMs);
    this.#updates = new StatusUpdates(start.walSenderTimeoutMs, {
      write: (replyRequested) => this.#writeStatus(replyRequested),
      heard: () => ({ waiting: this.#reading, bytes: this.receivedBytes }),
      onUnanswered: (requests) => options.onUnanswered?.(requests),
      onLost: (error) => options.onLost?.(error),
    });
  }

  /**
   * Connects and starts the stream.
   *
   * @throws {SlotError} of kind `slot-missing`, `slot-in-use`, `slot-lost`, `lsn-beyond-server`, `standby-behind`;
   * `PublicationError` of kind `publication-missing`; `ReplicationError` of kind `not-supported` for an
   * option that the server is too old for, `invalid-option` for options that do not go together;
   * `PostgresError` for the rest of what the server refuses.
   */
  static async open(options: ReplicationStreamOptions = {}): Promise<ReplicationStream> {
    const slotName = options.slotName ?? "pgstream";
    const publicationName = options.publicationName ?? slotName;
    const { startLsn = INVALID_LSN, signal, prepare } = options;
    checkSlotName(slotName);
    checkPublicationName(publicationName);
    const startsAt = toLsn(startLsn);
    const plugin = asksForMore(options) ? await import("./plugin_options.ts") : undefined;
    const pluginOptions = plugin?.pluginOptionsSql(options);
    const connector = options.connector ?? new Connector(options);
    const connection = await connectForReplication(connector, {
      signal,
      onNotice: (notice) => refuseSkippedPublication(notice, publicationName),
    });
    try {
      plugin?.checkSupported(options, connection);
      // Whatever the role, the database or the DSN says: the warning that is waited for has to come.
      await connection.query("SET client_min_messages = 'warning'", { signal });
      const walSenderTimeoutMs = await readWalSenderTimeoutMs(connection, signal);
      const backend = await readBackend(connection, signal);
      const identity = await identifySystem(connection, signal);
      const lsn = prepare === undefined ? startsAt : await prepare(connection, identity, backend);
      await checkReached(connection, { slotName, lsn, identity, signal });
      // Told a lower position, some minors of PostgreSQL 13 and before move the slot back.
      const confirmed = lsn === INVALID_LSN || prepare !== undefined
        ? INVALID_LSN
        : await readConfirmedLsn(connection, slotName, signal);
      const copy = await startReplication(connection, {
        slotName,
        publicationName,
        lsn,
        pluginOptions,
        signal,
      });
      return new ReplicationStream(connection, copy, options, {
        lsn: confirmed > lsn ? confirmed : lsn,
        walSenderTimeoutMs,
        publicationName,
        identity,
        backend,
      });
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** The walsender's process id on the server. */
  get processId(): number {
    return this.#backend.processId;
  }

  /**
   * The walsender's session, which no later one with the same process id is taken for.
   * @internal
   */
  get backend(): Backend {
    return this.#backend;
  }

  /**
   * Which cluster this is, as it said before the stream began.
   * @internal
   */
  get identity(): SystemIdentity {
    return this.#identity;
  }

  /** The last position received, by data or by a keepalive. */
  get receivedLsn(): Lsn {
    const lsn = BigInt(this.#dataHigh) << 32n | BigInt(this.#dataLow);
    if (lsn > this.#receivedLsn) this.#receivedLsn = lsn;
    return this.#receivedLsn;
  }

  /**
   * All that has arrived, parts of messages included: what grows is alive.
   * @internal
   */
  get receivedBytes(): number {
    return this.#copy.receivedBytes;
  }

  /** The position that is, or is about to be, confirmed to the server. */
  get acknowledgedLsn(): Lsn {
    return this.#acknowledgedLsn;
  }

  /**
   * All messages that have arrived, at least one, in order; null when the stream has ended. While
   * nobody reads, the server is held back. Their bytes are borrowed until the next `read()`.
   *
   * @throws {PublicationError} of kind `publication-missing`, `PostgresError`, `TransportError`, …
   */
  async read(): Promise<readonly ReplicationMessage[] | null> {
    do {
      const messages: ReplicationMessage[] = [];
      while (this.advance()) messages.push(this.#message.message);
      if (messages.length > 0) return messages;
    } while (await this.more());
    return null;
  }

  /**
   * Goes on to the next message that has arrived. It is at hand until the next call, and until anything
   * is waited for.
   *
   * @returns false where none has, or the stream has ended: then `more()`.
   * @internal
   */
  advance(): boolean {
    const copy = this.#copy;
    const message = this.#message;
    if (!copy.advance()) {
      message.release();
      return false;
    }
    const { bytes, start, end } = copy.payload;
    message.read(bytes, start, end);
    if (message.keepalive !== null) this.#noteKeepalive(message.keepalive);
    else this.#noteData(message.walStartHigh, message.walStartLow);
    return true;
  }

  /**
   * The message at hand.
   * @internal
   */
  get message(): ReplicationMessageReader {
    return this.#message;
  }

  /**
   * What the message at hand was read from.
   * @internal
   */
  get payload(): Span {
    return this.#copy.payload;
  }

  /**
   * Waits until more has arrived; false when the stream has ended. Only when `advance()` has given false.
   *
   * @throws as `read()`
   * @internal
   */
  async more(): Promise<boolean> {
    this.#reading = true;
    try {
      return await this.#copy.more();
    } catch (error) {
      // What close() does to the connection is no failure.
      if (this.#ending !== undefined) return false;
      throw this.#explain(error);
    } finally {
      this.#reading = false;
    }
  }

  /**
   * Notes that everything before `lsn` was received, where the data says so and the protocol's own
   * positions do not yet: what comes before a Begin has all been sent.
   * @internal
   */
  noteReceived(lsn: Lsn): void {
    if (lsn > this.receivedLsn) this.#receivedLsn = lsn;
  }

  /**
   * Confirms that everything before `lsn` is handled, so that the server may forget it. Confirm a
   * commit's `endLsn`, never a row's LSN. Going back has no effect.
   *
   * @throws {ReplicationError} of kind `lsn-not-received` for a position beyond what was received:
   * the server would believe it, and skip what comes in between; `invalid-lsn`.
   */
  acknowledge(lsn: Lsn | string): void {
    const position = toLsn(lsn);
    if (position <= this.#acknowledgedLsn) return;
    if (position > this.receivedLsn) {
      throw new ReplicationError(
        `Cannot acknowledge ${formatLsn(position)}: received is ${formatLsn(this.receivedLsn)}`,
        { kind: "lsn-not-received", hint: "Acknowledge the endLsn of a Commit that was read." },
      );
    }
    this.#acknowledgedLsn = position;
    this.#updates.sendSoon();
  }

  /**
   * Asks the server for a keepalive, which tells how far it has come.
   * @internal
   */
  requestReply(): void {
    this.#updates.requestReply();
  }

  /**
   * Confirms what was acknowledged, ends the stream and closes the connection. What the server still
   * sends is discarded for at most `timeoutMs`. A `read()` that waits returns null.
   *
   * @param options.timeoutMs default 1,000; 0 waits for nothing, as for a connection that is dead
   * @returns true when the server's answer proves that it read the last confirmation
   */
  close({ timeoutMs = 1000 }: { timeoutMs?: number } = {}): Promise<boolean> {
    this.#ending ??= this.#end(timeoutMs);
    return this.#ending;
  }

  /** Closes the stream. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Each XLogData, one by one; keepalives are looked after. Leaving the loop closes the stream. */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<XLogData> {
    try {
      for (let messages = await this.read(); messages !== null; messages = await this.read()) {
        for (const message of messages) if (message.type === "xLogData") yield message;
      }
    } finally {
      await this.close();
    }
  }

  async #end(timeoutMs: number): Promise<boolean> {
    this.#updates.stop();
    try {
      // Not waited for: a connection that takes no more bytes would hold it for ever, and what ends
      // the copy ends this write too.
      this.#writeStatus(false).catch(() => {});
      return (await this.#copy.end({ timeoutMs })).commandComplete;
    } finally {
      await this.#connection.close();
    }
  }

  #noteData(high: number, low: number): void {
    if (high > this.#dataHigh || (high === this.#dataHigh && low > this.#dataLow)) {
      this.#dataHigh = high;
      this.#dataLow = low;
    }
    this.#shutdownSigns.receivedData();
  }

  #noteKeepalive(keepalive: PrimaryKeepalive): void {
    this.noteReceived(keepalive.walEnd);
    // Answered after the caller had its turn: the position that this very keepalive brings is what a
    // server that shuts down waits for.
    if (keepalive.replyRequested) this.#updates.sendSoon();
    if (this.#shutdownSigns.received(keepalive)) this.#options.onServerStopping?.();
  }

  /** Up to PostgreSQL 17 a publication that is not there ends the stream. */
  #explain(error: unknown): unknown {
    if (!(error instanceof PostgresError) || error.code !== "42704") return error;
    return publicationMissing(this.#publicationName, error);
  }

  async #writeStatus(replyRequested: boolean): Promise<void> {
    const writtenLsn = this.receivedLsn;
    this.#shutdownSigns.sent(writtenLsn);
    await this.#copy.write(encodeStandbyStatusUpdate({
      writtenLsn,
      flushedLsn: this.#acknowledgedLsn,
      clockMs: Date.now(),
      replyRequested,
    }));
  }
}

/** @throws {ReplicationError} of kind `invalid-lsn`. */
function toLsn(lsn: Lsn | string): Lsn {
  if (typeof lsn === "bigint") return lsn;
  try {
    return parseLsn(lsn);
  } catch (cause) {
    throw new ReplicationError((cause as RangeError).message, {
      kind: "invalid-lsn",
      hint: 'Write it as Postgres does: "16/B374D848".',
      cause,
    });
  }
}
