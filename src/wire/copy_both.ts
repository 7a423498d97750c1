/**
 * Copying in both directions at once, which is how a replication stream runs.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
 */
import { decodeCommandComplete, decodeEmpty } from "./backend.ts";
import { WireError } from "./errors.ts";
import { type Frame, MessageType, type Span } from "./frames.ts";
import { encodeCopyData, encodeCopyDone } from "./frontend.ts";
import type { Channel } from "./channel.ts";

// How long a server that has reported an error may take until it is ready: what it said is told in any case.
const READY_TIMEOUT_MS = 1000;

/** What `end()` found out. */
export interface CopyEnd {
  /** True only when the server has read everything that was written: it answered to the end. */
  readonly commandComplete: boolean;
}

/**
 * A running CopyBoth. It holds its connection until `end()`, or until `more()` rejects.
 *
 * @example
 * ```ts
 * import type { Span } from "./frames.ts";
 *
 * async function follow(copy: CopyBoth, handle: (payload: Span) => void): Promise<void> {
 *   do {
 *     while (copy.advance()) handle(copy.payload);
 *   } while (await copy.more());
 *   await copy.end({ timeoutMs: 1000 });
 * }
 * ```
 */
export class CopyBoth {
  readonly #channel: Channel;
  readonly #release: () => void;
  /** The first message after the last payload that was handed out. */
  #held: Frame | null = null;
  #reading = false;
  #doneSent = false;
  /** No more payloads: the server sent CopyDone or CommandComplete, or `end()` was called. */
  #over = false;
  #ending: Promise<CopyEnd> | null = null;

  /** Use `Connection.copyBoth()`. */
  constructor(channel: Channel, release: () => void) {
    this.#channel = channel;
    this.#release = release;
  }

  /** All that has arrived on the connection, parts of messages included. */
  get receivedBytes(): number {
    return this.#channel.receivedBytes;
  }

  /** Where the payload at hand lies. */
  get payload(): Span {
    return this.#channel.frames;
  }

  /**
   * Goes on to the payload of the next CopyData that has arrived whole. It is at hand until the next
   * call, and until anything is waited for: `end()` may take what comes next.
   *
   * @returns false where none has, or the copy is over: then `more()`.
   */
  advance(): boolean {
    if (this.#over || this.#held !== null || !this.#channel.advance()) return false;
    const { frames } = this.#channel;
    if (frames.type === MessageType.CopyData) return true;
    this.#held = frames.frame;
    return false;
  }

  /**
   * Waits until more has arrived. Only when `advance()` has given false.
   *
   * @returns false when the server has ended the copy, or `end()` was called.
   * @throws {PostgresError} what the server reports; the connection may then be used again, unless the
   * server is not ready for it within a second.
   * @throws {WireError} `"connection-lost"`, `"connection-busy"` while another call waits.
   */
  async more(): Promise<boolean> {
    if (this.#reading) {
      throw new WireError("Cannot read the copy: a read is pending", { kind: "connection-busy" });
    }
    if (this.#over) return false;
    this.#reading = true;
    try {
      if (this.#held !== null) await this.#handleHeld(this.#held);
      else await this.#channel.fill();
      return !this.#over;
    } finally {
      this.#reading = false;
    }
  }

  /**
   * Sends one CopyData. May be called while a read is pending.
   *
   * @param payload borrowed until the call returns.
   * @throws {WireError} `"copy-ended"` after `end()`; `"connection-lost"`.
   */
  write(payload: Uint8Array): Promise<void> {
    if (this.#doneSent) {
      return Promise.reject(
        new WireError("Cannot write to the copy: it was ended", { kind: "copy-ended" }),
      );
    }
    return this.#channel.write(encodeCopyData(payload));
  }

  /**
   * Ends the copy: sends CopyDone, or answers the server's, and drops what still comes: in the
   * middle of a large transaction the server sends all of the rest first. Where that takes longer
   * than `timeoutMs`, the connection is closed; else it may be used again. A pending `more()` resolves
   * to false. Never rejects; a second call gets the first one's answer.
   */
  end({ timeoutMs }: { timeoutMs: number }): Promise<CopyEnd> {
    return this.#ending ??= this.#end(timeoutMs);
  }

  async #handleHeld(frame: Frame): Promise<void> {
    switch (frame.type) {
      case MessageType.CopyDone:
        this.#channel.decode(() => decodeEmpty("CopyDone", frame.body));
        this.#held = null;
        this.#over = true;
        return;
      case MessageType.CommandComplete:
        // A walsender that shuts down ends so, without CopyDone, and closes the connection.
        this.#over = true;
        return;
      case MessageType.ErrorResponse: {
        this.#over = true;
        this.#doneSent = true;
        this.#ending = Promise.resolve({ commandComplete: false });
        const error = this.#channel.serverError(frame.body);
        await this.#untilReady();
        this.#release();
        throw error;
      }
      default:
        throw this.#channel.unexpected(frame, "COPY");
    }
  }

  /** Never rejects: where the server does not get ready, the connection is over. */
  async #untilReady(): Promise<void> {
    const timer = setTimeout(() => {
      this.#channel.fail(
        new WireError(`The server was not ready ${READY_TIMEOUT_MS} ms after an error`, {
          kind: "connection-lost",
          retryable: true,
        }),
      );
    }, READY_TIMEOUT_MS);
    await this.#channel.untilReady().catch(() => {});
    clearTimeout(timer);
  }

  async #end(timeoutMs: number): Promise<CopyEnd> {
    // Whoever reads stops here: #over is looked at before another message is taken.
    this.#over = true;
    const channel = this.#channel;
    const timer = setTimeout(() => {
      channel.fail(
        new WireError(`The copy did not end within ${timeoutMs} ms`, { kind: "connection-lost" }),
      );
    }, timeoutMs);
    try {
      if (!this.#doneSent) {
        this.#doneSent = true;
        await channel.write(encodeCopyDone());
      }
      return { commandComplete: await this.#drain() };
    } catch {
      return { commandComplete: false };
    } finally {
      clearTimeout(timer);
      this.#release();
    }
  }

  async #drain(): Promise<boolean> {
    let commandComplete = false;
    for (;;) {
      const frame = this.#held ?? this.#channel.take() ?? await this.#channel.next();
      this.#held = null;
      switch (frame.type) {
        case MessageType.CopyData:
        case MessageType.CopyDone:
          break;
        case MessageType.CommandComplete:
          this.#channel.decode(() => decodeCommandComplete(frame.body));
          commandComplete = true;
          break;
        case MessageType.ErrorResponse:
          this.#channel.serverError(frame.body);
          await this.#channel.untilReady();
          return false;
        case MessageType.ReadyForQuery:
          this.#channel.ready(frame.body);
          return commandComplete;
        default:
          throw this.#channel.unexpected(frame, "the end of COPY");
      }
    }
  }
}
