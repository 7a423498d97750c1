/** One connection's life: check what the stream needs, read, feed the intake, confirm, close. */
import type { Intake } from "../delivery/intake.ts";
import type { EventQueue } from "../delivery/event_queue.ts";
import type { Frontier } from "../delivery/frontier.ts";
import type { HandOut } from "../delivery/hand_out.ts";
import type { LoadTypes } from "../delivery/row_values.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { PgOutputDecoder, type PgOutputMessage } from "../pgoutput/mod.ts";
import { withDeadline } from "../replication/deadline.ts";
import { ReplicationError } from "../replication/errors.ts";
import type { Backend } from "../replication/backend.ts";
import { ReplicationStream } from "../replication/replication_stream.ts";
import type { SystemIdentity } from "../replication/server.ts";
import type { StreamStart } from "../replication/start.ts";
import type { WatchedTable } from "../replication/watched_table.ts";
import type { Connection } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";
import { Inbox } from "./inbox.ts";
import { Patience } from "./patience.ts";
import { WatchedRelations } from "./relations.ts";

/** How long to wait for the Commit of a transaction whose events are all handled. */
const COMMIT_WAIT_MS = 1000;
/** How long to wait for stores that keep the stream's position. */
const STORES_WAIT_MS = 5000;
/** How long a server that shuts down is kept waiting for what is in hand. */
const SHUTDOWN_WAIT_MS = 1000;
/** How long to look whether a silent server is alive. */
const LOOK_MS = 10_000;
/** How long opening a stream may take: a few questions, and on a standby ten seconds to catch up with itself. */
const OPEN_MS = 20_000;
/** The same where a slot has to be made, which waits for writers. */
const OPEN_TEMPORARY_MS = 90_000;
/** How often to ask how far the server has sent, while somebody waits for a position. */
const ASK_MS = 50;

/** What outlives a session. */
export interface Pipeline {
  frontier: Frontier;
  intake: Intake;
  queue: EventQueue;
  handOut: HandOut;
  /** What keeps the stream's position with what it stores. */
  stores: Stores;
}

/** Stores that have a say in what is confirmed. */
export interface Stores {
  /** So much of what is handled may be confirmed. */
  confirmable: (frontier: Lsn) => Lsn;
  /** They are told how far it is: nothing more will be handled. */
  flush: () => Promise<void>;
}

/** What a session works with. */
export interface SessionOptions extends Pipeline {
  connector: Connector;
  slotName: string;
  publicationName: string;
  tables: readonly WatchedTable[];
  temporary: boolean;
  /** The types of the run. */
  loadTypes: LoadTypes;
  /** True where the server is asked for what `pg_logical_emit_message` wrote. */
  messages: boolean;
  /** What may wait, decoded and not. */
  maxQueueBytes: number;
  /** Status updates in a row that the server may leave without an answer before it is looked at. */
  mostUnanswered: number;
  /** Decides where to start. The connection is null where there is no server to ask. */
  goOn: (
    start: StreamStart,
    identity: SystemIdentity,
    backend: Backend,
    connection: Connection | null,
  ) => Promise<Lsn>;
  /** True where it is to stop reading at a position. */
  catchUp: boolean;
  /** That position, once it is known. */
  target: () => Lsn | null;
}

/** A stream that is open. Made by `open`, used by one `follow`. */
export class Session {
  readonly #options: SessionOptions;
  readonly #stream: ReplicationStream;
  readonly #inbox: Inbox;
  readonly #decoder = new PgOutputDecoder();
  readonly #relations: WatchedRelations;
  /** Rejects what `follow` waits for. */
  readonly #broken: PromiseWithResolvers<never> = Promise.withResolvers();
  /** Aborted with it: nothing that was read is worth waiting for any more. */
  readonly #over = new AbortController();
  /** Aborted by the one, or by being told to stop: what is asked for a message is not waited for. */
  readonly #enough = new AbortController();
  #wakeReader: (() => void) | null = null;
  #reading: Promise<void> = Promise.resolve();
  #looking = false;
  /** Of the transaction that is read. */
  #xid = 0;
  #mostUnanswered: number;

  private constructor(
    options: SessionOptions,
    stream: ReplicationStream,
    start: StreamStart,
  ) {
    this.#options = options;
    this.#stream = stream;
    this.#inbox = new Inbox(stream);
    this.#relations = new WatchedRelations(options.connector, start.tables, options.loadTypes);
    this.#mostUnanswered = options.mostUnanswered;
    this.#broken.promise.catch(() => {});
    options.intake.connected();
  }

  /**
   * Checks slot, publication and tables, and starts the stream.
   *
   * @throws {SlotError}, {PublicationError}, {ReplicationError}: what is not there, and what to run.
   */
  static async open(options: SessionOptions, signal: AbortSignal): Promise<Session> {
    const { connector, slotName, publicationName, messages } = options;
    let start: StreamStart | undefined;
    // The stream calls back; before it is open, nobody is there to hear.
    const opened: { session?: Session } = {};
    const open = (signal: AbortSignal) =>
      ReplicationStream.open({
        connector,
        slotName,
        publicationName,
        signal,
        ...messages ? { messages } : {},
        prepare: async (connection, identity, backend) => {
          const { readStart } = await import("../replication/start.ts");
          start = await readStart(connection, { ...options, logger: connector.logger }, signal);
          return await options.goOn(start, identity, backend, connection);
        },
        onUnanswered: (requests) => {
          if (opened.session !== undefined) void opened.session.#look(requests);
        },
        onServerStopping: () => {
          if (opened.session !== undefined) void opened.session.#letServerStop();
        },
        onLost: (error) => opened.session?.break(error),
      });
    const limitMs = options.temporary ? OPEN_TEMPORARY_MS : OPEN_MS;
    const stream = await withDeadline("starting the stream", limitMs, signal, open);
    connector.logger.info(
      `Streaming from slot "${slotName}" at ${formatLsn(stream.receivedLsn)}, ` +
        `walsender PID ${stream.processId}`,
    );
    opened.session = new Session(options, stream, start!);
    return opened.session;
  }

  /** The last position received. */
  get receivedLsn(): Lsn {
    return this.#stream.receivedLsn;
  }

  /** What it costs that messages wait to be decoded, in bytes. */
  get waitingBytes(): number {
    return this.#inbox.waitingBytes;
  }

  /** The position that the server was told. */
  get confirmedLsn(): Lsn {
    return this.#stream.acknowledgedLsn;
  }

  /** Asks the server how far it has sent. */
  ask(): void {
    this.#stream.requestReply();
  }

  /** Tells the server how far everything is handled. */
  confirm(): void {
    const { frontier, stores } = this.#options;
    const confirmed = stores.confirmable(frontier.confirmed);
    if (confirmed <= this.#stream.acknowledgedLsn) return;
    // It may have been received by an earlier connection, and come again on this one only later.
    this.#stream.noteReceived(confirmed);
    this.#stream.acknowledge(confirmed);
  }

  /**
   * Reads until `signal` is aborted, or the target is reached.
   *
   * @throws whatever ended the connection, or what was wrong with what it brought.
   */
  async follow(signal: AbortSignal): Promise<void> {
    const told = Promise.withResolvers<void>();
    const tell = () => {
      this.#enough.abort(signal.reason);
      told.resolve();
    };
    if (signal.aborted) tell();
    signal.addEventListener("abort", tell);
    const asking = this.#options.catchUp ? setInterval(() => this.ask(), ASK_MS) : undefined;
    this.#reading = this.#read(signal);
    try {
      await Promise.race([told.promise, this.#reading, this.#broken.promise]);
    } finally {
      signal.removeEventListener("abort", tell);
      clearInterval(asking);
    }
  }

  /**
   * Confirms what is handled and closes the connection. Of a transaction that was handled in full, the
   * Commit is waited for.
   */
  async close(): Promise<void> {
    if (this.#options.intake.waitsForCommit) {
      await new Patience(COMMIT_WAIT_MS).settled(this.#reading);
    }
    await new Patience(STORES_WAIT_MS).settled(this.#options.stores.flush());
    this.confirm();
    await this.#stream.close();
    await this.#reading.catch(() => {});
  }

  /** Nothing more is taken from this connection. @param error what `follow` is rejected with */
  break(error: unknown): void {
    this.#broken.reject(error);
    this.#over.abort(error);
    this.#enough.abort(error);
    this.#wakeReader?.();
  }

  /** Closes a connection on which nothing can be expected any more. */
  async discard(): Promise<void> {
    this.break(serverStopped("connection-lost", "The connection is given up"));
    await this.#stream.close({ timeoutMs: 0 });
    await this.#reading.catch(() => {});
  }

  async #read(signal: AbortSignal): Promise<void> {
    const { intake, queue, handOut, target } = this.#options;
    const inbox = this.#inbox;
    do {
      while (inbox.advance()) {
        const { message } = inbox;
        if (message.keepalive !== null) {
          const { walEnd } = message.keepalive;
          intake.keepalive(walEnd);
          if (intake.insideTransaction) continue;
          handOut.reached(walEnd);
          if (reached(walEnd, target())) return this.confirm();
          continue;
        }
        const { bytes, start, end } = message;
        const decoded = this.#decoder.decodeAt(bytes, start, end);
        if (signal.aborted) {
          // All that is still wanted is the end of a transaction whose events are all handled.
          if (decoded.type === "commit") intake.accept(decoded, end - start);
          return;
        }
        if (decoded.type === "relation") {
          const { signal } = this.#enough;
          intake.declare(decoded, await this.#relations.resolve(decoded, this.#xid, signal));
          this.#over.signal.throwIfAborted();
          continue;
        }
        const place = placeOf(decoded);
        if (place !== null && reached(place, target())) {
          // Transactions come in the order of their commits: all before the target are here.
          this.#stream.noteReceived(target()!);
          intake.keepalive(target()!);
          return this.confirm();
        }
        if (decoded.type === "begin") this.#xid = decoded.xid;
        if (place !== null) {
          // Rows that were read beside the stream take their place between two transactions.
          for (let gate = handOut.gate(place); gate !== null; gate = handOut.gate(place)) {
            await this.#waitFor(gate);
          }
        }
        intake.accept(decoded, end - start);
        const room = queue.room();
        if (room !== null) await this.#waitFor(room);
        // Its events are handed out before more is decoded.
        if (decoded.type === "commit") await null;
      }
      this.confirm();
      if (signal.aborted && !intake.insideTransaction) return;
    } while (await inbox.more());
    if (!signal.aborted) throw streamEnded();
  }

  /** Meanwhile what comes is read. Not a race: that would leave something behind on the promise that stays, each time. */
  async #waitFor(room: Promise<void>): Promise<void> {
    void this.#readAhead();
    await new Promise<void>((resolve) => {
      this.#wakeReader = resolve;
      void room.then(resolve);
    });
    this.#wakeReader = null;
    this.#over.signal.throwIfAborted();
  }

  /** What is lost is lost now, and not when the handlers have come that far. */
  async #readAhead(): Promise<void> {
    const { queue, maxQueueBytes } = this.#options;
    try {
      const going = await this.#inbox.readAhead(maxQueueBytes - queue.queueBytes);
      if (!going && !this.#enough.signal.aborted) this.break(streamEnded());
    } catch (error) {
      this.break(error);
    }
  }

  /**
   * Nothing comes, though an answer was asked for. A walsender that decodes a large transaction of
   * which nothing is published is silent for seconds, and alive.
   */
  async #look(requests: number): Promise<void> {
    if (requests < this.#mostUnanswered || this.#looking) return;
    this.#looking = true;
    const { connector } = this.#options;
    const { receivedBytes } = this.#stream;
    const look = async () => {
      const { walsenderDoing } = await import("../replication/liveness.ts");
      const { backend } = this.#stream;
      return await walsenderDoing(connector, backend, AbortSignal.timeout(LOOK_MS));
    };
    const doing = await look().catch(() => "unknown");
    this.#looking = false;
    if (this.#stream.receivedBytes > receivedBytes) return;
    if (doing === "busy") {
      this.#mostUnanswered = requests * 2;
      return;
    }
    this.break(
      new ReplicationError(
        `The server did not answer ${requests} times; its walsender is ${doing}`,
        {
          kind: "connection-silent",
          retryable: true,
          hint: "The network between may have dropped the connection.",
        },
      ),
    );
  }

  /** It waits for all that it has sent to be confirmed, which may never come to pass. */
  async #letServerStop(): Promise<void> {
    const { queue } = this.#options;
    const handled = this.#inbox.emptied().then(() => queue.drained());
    await new Patience(SHUTDOWN_WAIT_MS).settled(handled);
    this.confirm();
    await this.#stream.close();
    this.break(serverStopped("server-stopping", "The server is shutting down"));
  }
}

/**
 * Where the record begins by which a transaction, or a message that belongs to none, takes its place; null for
 * what is part of one. A message tells where its record ends: this is where it begins at the earliest.
 */
function placeOf(message: PgOutputMessage): Lsn | null {
  if (message.type === "begin") return message.finalLsn;
  if (message.type !== "message" || message.transactional) return null;
  const { prefix, content, messageLsn } = message;
  // UTF-8, in a record with a header, on pages that have some, too.
  const bytes = BigInt(Math.ceil((prefix.length * 3 + content.length) * 1.1) + 256);
  return messageLsn > bytes ? messageLsn - bytes : 0n;
}

function reached(position: Lsn, target: Lsn | null): boolean {
  return target !== null && position >= target;
}

function streamEnded(): ReplicationError {
  return serverStopped("stream-ended", "The server ended the stream");
}

function serverStopped(kind: string, message: string): ReplicationError {
  return new ReplicationError(message, {
    kind,
    retryable: true,
    hint: "It is being stopped or restarted: start again when it is back.",
  });
}
