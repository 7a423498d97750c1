/**
 * Copying in both directions at once, which is how a replication stream runs.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
 */
import { decodeCommandComplete, decodeEmpty } from "./backend.ts";
import { WireError } from "./errors.ts";
import { type Frame, MessageType } from "./frames.ts";
import { encodeCopyData, encodeCopyDone } from "./frontend.ts";
import type { Channel } from "./channel.ts";

/** What `end()` found out. */
export interface CopyEnd {
  /** True only when the server has read everything that was written: it answered to the end. */
  readonly commandComplete: boolean;
}

/**
 * A running CopyBoth. It holds its connection until `end()`, or until a read rejects.
 *
 * @example
 * ```ts
 * async function follow(copy: CopyBoth, handle: (payload: Uint8Array) => void): Promise<void> {
 *   for (let batch = await copy.read(); batch !== null; batch = await copy.read()) {
 *     for (const payload of batch) handle(payload);
 *   }
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

  /**
   * All payloads of CopyData that have arrived already, at least one, in order: views of the chunks
   * that they came in, which are never overwritten. Null when the server has ended the copy, or
   * `end()` was called.
   *
   * @throws {PostgresError} what the server reports; the connection may then be used again.
   * @throws {WireError} `"connection-lost"`, `"connection-busy"` while another read is pending.
   */
  async read(): Promise<readonly Uint8Array[] | null> {
    if (this.#reading) {
      throw new WireError("Cannot read the copy: a read is pending", { kind: "connection-busy" });
    }
    this.#reading = true;
    try {
      while (!this.#over) {
        const payloads = this.#takePayloads();
        if (payloads !== null) return payloads;
        if (this.#held !== null) await this.#handleHeld(this.#held);
        else await this.#channel.fill();
      }
      return null;
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
   * than `timeoutMs`, the connection is closed; else it may be used again. A pending read resolves
   * to null. Never rejects; a second call gets the first one's answer.
   */
  end({ timeoutMs }: { timeoutMs: number }): Promise<CopyEnd> {
    return this.#ending ??= this.#end(timeoutMs);
  }

  #takePayloads(): readonly Uint8Array[] | null {
    if (this.#held !== null) return null;
    const payloads: Uint8Array[] = [];
    for (;;) {
      const frame = this.#channel.take();
      if (frame === null) break;
      if (frame.type !== MessageType.CopyData) {
        this.#held = frame;
        break;
      }
      payloads.push(frame.body);
    }
    return payloads.length > 0 ? payloads : null;
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
        await this.#channel.untilReady();
        this.#release();
        throw error;
      }
      default:
        throw this.#channel.unexpected(frame, "COPY");
    }
  }

  async #end(timeoutMs: number): Promise<CopyEnd> {
    // A pending read stops here: it looks at #over before it takes another message.
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
