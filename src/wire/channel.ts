/**
 * What start-up, queries and copies share: a transport, its frames, and the messages that a server
 * may send at any time.
 */
import type { Transport } from "../transport/transport.ts";
import { decodeNotification, decodeParameterStatus, decodeReadyForQuery } from "./backend.ts";
import { ProtocolError, WireError } from "./errors.ts";
import { type Frame, FrameReader, MessageType, nameOf, STARTUP_LIMITS } from "./frames.ts";
import { decodeServerMessage, PostgresError, type ServerMessage } from "./postgres_error.ts";

// A server reports some fifteen settings; nobody needs to be authenticated for it to report others.
const MAX_PARAMETER_CHARACTERS = 1024 * 1024;

/** One connection's bytes as messages. Whoever runs an operation reads; anyone may write. */
export class Channel {
  /** What has been read. Its limits are those of the start-up until that is done. */
  readonly frames: FrameReader = new FrameReader(STARTUP_LIMITS);
  /** The server's settings, as ParameterStatus reports them. */
  readonly parameters: Map<string, string> = new Map();
  readonly #transport: Transport;
  readonly #onNotice: (notice: ServerMessage) => void;
  #receivedBytes = 0;
  #parameterCharacters = 0;
  #filling: Promise<void> | null = null;
  #failure: unknown = null;

  /**
   * Takes over a transport that nothing was read from.
   *
   * @param onNotice called with each notice; what it throws ends the channel.
   */
  constructor(transport: Transport, onNotice: (notice: ServerMessage) => void) {
    this.#transport = transport;
    this.#onNotice = onNotice;
  }

  /** Why the channel is over, or null while it is not. */
  get failure(): unknown {
    return this.#failure;
  }

  /**
   * Goes on to the next message that has arrived whole; false where none has: then `fill()`. It is at
   * hand in `frames`. Notices, changed parameters and notifications are dealt with here.
   */
  advance(): boolean {
    try {
      while (this.frames.advance()) if (!this.#absorb()) return true;
      return false;
    } catch (error) {
      throw this.fail(error);
    }
  }

  /** The next message that has arrived whole, as an object, or null: then `fill()`. */
  take(): Frame | null {
    return this.advance() ? this.frames.frame : null;
  }

  /** All that has arrived, parts of messages included: what grows is alive. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** Waits for more bytes. Two callers wait for the same. */
  fill(): Promise<void> {
    return this.#filling ??= this.#fill();
  }

  /** The next message, waiting for it. */
  async next(): Promise<Frame> {
    for (;;) {
      const frame = this.take();
      if (frame !== null) return frame;
      await this.fill();
    }
  }

  /** Sends one encoded message. */
  async write(message: Uint8Array): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    try {
      await this.#transport.write(message);
    } catch (error) {
      throw this.#failure ?? error;
    }
  }

  /**
   * Reads to ReadyForQuery, after which the connection may be used again, and drops what comes
   * before it.
   */
  async untilReady(): Promise<void> {
    for (;;) {
      const frame = this.take() ?? await this.next();
      if (frame.type === MessageType.ErrorResponse) this.serverError(frame.body);
      if (frame.type === MessageType.ReadyForQuery) return this.ready(frame.body);
    }
  }

  /** ReadyForQuery: the next operation may begin. */
  ready(body: Uint8Array): void {
    this.decode(() => decodeReadyForQuery(body));
  }

  /**
   * ErrorResponse as an error to be thrown later, after ReadyForQuery.
   *
   * @throws {WireError} `"connection-lost"` where it is fatal: ReadyForQuery will not come.
   */
  serverError(body: Uint8Array): PostgresError {
    const response = this.decode(() => decodeServerMessage(body));
    const error = new PostgresError(response);
    if (!error.fatal) return error;
    throw this.fail(
      new WireError(
        `The server ended the connection: ${response.message} (SQLSTATE ${response.code})`,
        {
          kind: "connection-lost",
          hint: "The server says why; connect again when it takes connections.",
          retryable: true,
          cause: error,
        },
      ),
    );
  }

  /** A message that has no place where it came. The channel is over. */
  unexpected(frame: Frame, during: string): unknown {
    return this.fail(new ProtocolError(`The server sent ${nameOf(frame.type)} during ${during}`));
  }

  /** Runs a decoder; where it throws, the channel is over. */
  decode<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw this.fail(error);
    }
  }

  /** Ends the channel and closes the transport. The first reason stays. @returns that reason. */
  fail(reason: unknown): unknown {
    this.#failure ??= reason;
    this.#transport.close();
    return this.#failure;
  }

  async #fill(): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    let chunk: Uint8Array | null;
    try {
      chunk = await this.#transport.read();
    } catch (error) {
      throw this.fail(error);
    } finally {
      this.#filling = null;
    }
    if (this.#failure !== null) throw this.#failure;
    if (chunk === null) {
      const where = this.frames.midFrame ? " in the middle of a message" : "";
      throw this.fail(
        new WireError(`The server closed the connection${where}`, {
          kind: "connection-lost",
          hint: "Its log says why. It stops, was killed, or something between cut the connection.",
          retryable: true,
        }),
      );
    }
    this.#receivedBytes += chunk.length;
    this.frames.push(chunk);
  }

  #setParameter(name: string, value: string): void {
    const before = this.parameters.get(name);
    this.#parameterCharacters += before === undefined
      ? name.length + value.length
      : value.length - before.length;
    if (this.#parameterCharacters > MAX_PARAMETER_CHARACTERS) {
      throw new ProtocolError(
        `The server reported settings of more than ${MAX_PARAMETER_CHARACTERS} characters`,
      );
    }
    this.parameters.set(name, value);
  }

  #absorb(): boolean {
    const { frames } = this;
    switch (frames.type) {
      case MessageType.NoticeResponse:
        this.#onNotice(decodeServerMessage(frames.frame.body));
        return true;
      case MessageType.ParameterStatus: {
        const { name, value } = decodeParameterStatus(frames.frame.body);
        this.#setParameter(name, value);
        return true;
      }
      case MessageType.NotificationResponse:
        decodeNotification(frames.frame.body);
        return true;
      default:
        return false;
    }
  }
}
