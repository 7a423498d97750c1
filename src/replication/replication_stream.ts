/**
 * The stream of a logical slot: START_REPLICATION, and the conversation that keeps it alive.
 * https://www.postgresql.org/docs/current/protocol-replication.html
 */
import { formatLsn, INVALID_LSN, type Lsn, parseLsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import { Connector, type ConnectorOptions } from "../wire/connector.ts";
import type { CopyBoth } from "../wire/copy_both.ts";
import { PostgresError, type ServerMessage } from "../wire/postgres_error.ts";
import { quoteIdentifier, quoteReplicationLiteral } from "../wire/quote.ts";
import { PublicationError, ReplicationError, SlotError } from "./errors.ts";
import {
  decodeReplicationMessage,
  encodeStandbyStatusUpdate,
  type ReplicationMessage,
  type XLogData,
} from "./messages.ts";
import { identifySystem, readWalSenderTimeoutMs } from "./server.ts";
import { checkPublicationName } from "./publication.ts";
import { checkSlotName, slotInUse, slotMissing } from "./slot.ts";
import { connectForReplication } from "./connect.ts";

/** Status updates go out at least this often. */
const LONGEST_STATUS_INTERVAL_MS = 10_000;
/** … and at most this often when there is something to say: progress, or a reply asked for. */
const SHORTEST_STATUS_INTERVAL_MS = 100;

/** Which slot to stream from, and how. */
export interface ReplicationStreamOptions extends ConnectorOptions {
  /** Default: `"pgstream"`. */
  slotName?: string;
  /** Default: the slot's name. */
  publicationName?: string;
  /** Where to start. Default, and where it is below it: the slot's confirmed position. */
  startLsn?: Lsn | string;
  /**
   * Used instead of connecting by the other options.
   * @internal
   */
  connector?: Connector;
  /** Ends the opening, with the signal's reason; later it has no effect. */
  signal?: AbortSignal;
}

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
  readonly #publicationName: string;
  readonly #interval: ReturnType<typeof setInterval>;
  #soon: ReturnType<typeof setTimeout> | undefined;
  #receivedLsn: Lsn;
  #acknowledgedLsn: Lsn;
  #lastStatusMs = 0;
  #ending: Promise<boolean> | undefined;

  private constructor(
    connection: Connection,
    copy: CopyBoth,
    start: { lsn: Lsn; statusIntervalMs: number; publicationName: string },
  ) {
    this.#connection = connection;
    this.#copy = copy;
    this.#publicationName = start.publicationName;
    this.#receivedLsn = start.lsn;
    this.#acknowledgedLsn = start.lsn;
    this.#interval = setInterval(() => this.#sendStatus(), start.statusIntervalMs);
  }

  /**
   * Connects and starts the stream.
   *
   * @throws {SlotError} of kind `slot-missing`, `slot-in-use`, `lsn-beyond-server`; `PublicationError` of kind
   * `publication-missing`; `PostgresError` for the rest of what the server refuses.
   */
  static async open(options: ReplicationStreamOptions = {}): Promise<ReplicationStream> {
    const slotName = options.slotName ?? "pgstream";
    const publicationName = options.publicationName ?? slotName;
    const { startLsn = INVALID_LSN, signal } = options;
    checkSlotName(slotName);
    checkPublicationName(publicationName);
    const lsn = toLsn(startLsn);
    const connector = options.connector ?? new Connector(options);
    const connection = await connectForReplication(connector, {
      signal,
      onNotice: (notice) => refuseSkippedPublication(notice, publicationName),
    });
    try {
      // Whatever the role, the database or the DSN says: the warning that is waited for has to come.
      await connection.query("SET client_min_messages = 'warning'", { signal });
      const timeoutMs = await readWalSenderTimeoutMs(connection, signal);
      const { walLsn } = await identifySystem(connection, signal);
      if (lsn > walLsn) throw beyondServer(slotName, lsn, walLsn);
      const copy = await startReplication(connection, { slotName, publicationName, lsn, signal });
      return new ReplicationStream(connection, copy, {
        lsn,
        statusIntervalMs: statusIntervalMs(timeoutMs),
        publicationName,
      });
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** The walsender's process id on the server. */
  get processId(): number {
    return this.#connection.processId;
  }

  /** The last position received, by data or by a keepalive. */
  get receivedLsn(): Lsn {
    return this.#receivedLsn;
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
    const payloads = await this.#copy.read().catch((error) => {
      throw this.#explain(error);
    });
    if (payloads === null) return null;
    const messages: ReplicationMessage[] = [];
    for (const payload of payloads) {
      const message = decodeReplicationMessage(payload);
      messages.push(message);
      const lsn = message.type === "xLogData" ? message.walStart : message.walEnd;
      if (lsn > this.#receivedLsn) this.#receivedLsn = lsn;
      // Answered after the caller had its turn: the position that this very keepalive brings is
      // what a server that shuts down waits for.
      if (message.type === "primaryKeepalive" && message.replyRequested) this.#sendSoon();
    }
    return messages;
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
    if (position > this.#receivedLsn) {
      throw new ReplicationError(
        `Cannot acknowledge ${formatLsn(position)}: received is ${formatLsn(this.#receivedLsn)}`,
        { kind: "lsn-not-received", hint: "Acknowledge the endLsn of a Commit that was read." },
      );
    }
    this.#acknowledgedLsn = position;
    this.#sendSoon();
  }

  /**
   * Confirms what was acknowledged, ends the stream and closes the connection. What the server still
   * sends is discarded for at most `timeoutMs`. A `read()` that waits returns null.
   *
   * @param options.timeoutMs default 1,000
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
    clearInterval(this.#interval);
    clearTimeout(this.#soon);
    try {
      await this.#writeStatus();
      return (await this.#copy.end({ timeoutMs })).commandComplete;
    } catch {
      // The connection is gone: there is nobody left to tell, and the slot keeps the old position.
      return false;
    } finally {
      await this.#connection.close();
    }
  }

  /** Up to PostgreSQL 17 a publication that is not there ends the stream. */
  #explain(error: unknown): unknown {
    if (!(error instanceof PostgresError) || error.code !== "42704") return error;
    return publicationMissing(this.#publicationName, error);
  }

  #sendSoon(): void {
    if (this.#soon !== undefined || this.#ending !== undefined) return;
    const wait = Math.max(0, this.#lastStatusMs + SHORTEST_STATUS_INTERVAL_MS - Date.now());
    this.#soon = setTimeout(() => this.#sendStatus(), wait);
  }

  #sendStatus(): void {
    clearTimeout(this.#soon);
    this.#soon = undefined;
    // A lost connection is the reader's to tell.
    this.#writeStatus().catch(() => {});
  }

  async #writeStatus(): Promise<void> {
    this.#lastStatusMs = Date.now();
    await this.#copy.write(encodeStandbyStatusUpdate({
      writtenLsn: this.#receivedLsn,
      flushedLsn: this.#acknowledgedLsn,
      clockMs: this.#lastStatusMs,
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

/** The smaller of 10 s and a third of the server's timeout; a timeout of 0 is none. */
export function statusIntervalMs(walSenderTimeoutMs: number): number {
  if (walSenderTimeoutMs === 0) return LONGEST_STATUS_INTERVAL_MS;
  return Math.min(LONGEST_STATUS_INTERVAL_MS, Math.max(1, Math.floor(walSenderTimeoutMs / 3)));
}

async function startReplication(
  connection: Connection,
  { slotName, publicationName, lsn, signal }: {
    slotName: string;
    publicationName: string;
    lsn: Lsn;
    signal: AbortSignal | undefined;
  },
): Promise<CopyBoth> {
  const publications = quoteReplicationLiteral(quoteIdentifier(publicationName));
  try {
    return await connection.copyBoth(
      `START_REPLICATION SLOT ${quoteIdentifier(slotName)} LOGICAL ${formatLsn(lsn)} ` +
        `(proto_version '1', publication_names ${publications})`,
      { signal },
    );
  } catch (error) {
    if (!(error instanceof PostgresError)) throw error;
    if (error.code === "55006") throw await slotInUse(connection, slotName, error);
    if (error.code === "42704") {
      throw slotMissing(slotName, error);
    }
    throw error;
  }
}

/** The server would believe it, and skip in silence what it writes until it gets there. */
function beyondServer(slotName: string, lsn: Lsn, walLsn: Lsn): SlotError {
  return new SlotError(
    `Slot "${slotName}" cannot go on at ${formatLsn(lsn)}: the server's WAL ends at ` +
      formatLsn(walLsn),
    {
      kind: "lsn-beyond-server",
      slotName,
      hint:
        "Is it another server, or one restored from a backup? Changes may be missing: drop the " +
        "slot, run setup() again, and rebuild what it kept in step.",
    },
  );
}

function publicationMissing(publicationName: string, cause?: unknown): PublicationError {
  return new PublicationError(
    `Publication "${publicationName}" does not exist where the stream reads the WAL`,
    {
      kind: "publication-missing",
      publicationName,
      hint: "It was dropped, or made after the slot. Create it, drop the slot and run setup() " +
        "again: a slot cannot read WAL from before its publication.",
      cause,
    },
  );
}

/**
 * PostgreSQL 18 goes on without a publication and skips its rows, with only a WARNING to tell. Known by
 * the server's routine, since texts are translated.
 */
function refuseSkippedPublication(notice: ServerMessage, publicationName: string): void {
  if (notice.routine === "LoadPublications") throw publicationMissing(publicationName);
}
