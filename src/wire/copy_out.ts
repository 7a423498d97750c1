/**
 * COPY … TO STDOUT.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
 */
import { decodeCommandComplete, decodeEmpty } from "./backend.ts";
import type { Canceller, Settle } from "./cancellation.ts";
import { type Frame, MessageType, type Span } from "./frames.ts";
import { beginCopy } from "./query.ts";
import type { Channel } from "./channel.ts";

const NOTHING = new Uint8Array(0);

/** Rows of a copy that have arrived: one at a time is at hand, until the next call. */
export interface CopyRows extends Span {
  /** Goes on to the next row. @returns false where none has arrived yet, or there are no more. */
  advance(): boolean;
}

class ArrivedRows implements CopyRows {
  bytes: Uint8Array = NOTHING;
  start = 0;
  end = 0;
  /** The first message that is no row. */
  behind: Frame | null = null;
  readonly #channel: Channel;
  /** The channel's message at hand is a row that nobody was given yet. */
  #pending = false;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  /** Waits until there is a row, or there are no more. */
  async arrive(): Promise<void> {
    while (this.behind === null && !this.#pending && !this.#take()) await this.#channel.fill();
  }

  /** True where `advance()` will be. */
  get any(): boolean {
    return this.#pending;
  }

  advance(): boolean {
    if (!this.#pending && (this.behind !== null || !this.#take())) return false;
    if (!this.#pending) return false;
    this.#pending = false;
    const { bytes, start, end } = this.#channel.frames;
    this.bytes = bytes;
    this.start = start;
    this.end = end;
    return true;
  }

  /** @returns false where nothing has arrived */
  #take(): boolean {
    if (!this.#channel.advance()) return false;
    const { frames } = this.#channel;
    if (frames.type === MessageType.CopyData) this.#pending = true;
    else this.behind = frames.frame;
    return true;
  }
}

/**
 * The rows of a copy, all that have arrived already at a time: to wait for each row costs as much as
 * the row. Left early, or aborted, it cancels the statement.
 */
export async function* copyOut(
  channel: Channel,
  canceller: Canceller,
  sql: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<CopyRows, void, undefined> {
  let settle: Settle | null = null;
  const onAbort = () => settle ??= canceller.interrupt();
  signal?.addEventListener("abort", onAbort, { once: true });
  // While true, the server still has to say that it is ready.
  let running = false;
  // Only then were these all the rows.
  let done = false;
  let complete = false;
  try {
    await beginCopy(channel, sql, "out");
    running = true;
    const rows = new ArrivedRows(channel);
    while (rows.behind === null) {
      await rows.arrive();
      if (!rows.any) break;
      yield rows;
      while (rows.advance());
      signal?.throwIfAborted();
    }
    for (let behind: Frame | null = rows.behind; running; behind = null) {
      const frame = behind ?? channel.take() ?? await channel.next();
      switch (frame.type) {
        case MessageType.CopyDone:
          if (done) throw channel.unexpected(frame, "COPY");
          channel.decode(() => decodeEmpty("CopyDone", frame.body));
          done = true;
          break;
        case MessageType.CommandComplete:
          if (!done) throw channel.unexpected(frame, "COPY");
          channel.decode(() => decodeCommandComplete(frame.body));
          complete = true;
          break;
        case MessageType.ErrorResponse: {
          const error = channel.serverError(frame.body);
          await channel.untilReady();
          running = false;
          throw error;
        }
        case MessageType.ReadyForQuery:
          if (!complete) throw channel.unexpected(frame, "COPY");
          channel.ready(frame.body);
          running = false;
          break;
        default:
          throw channel.unexpected(frame, "COPY");
      }
    }
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
    if (running && channel.failure === null) {
      settle ??= canceller.interrupt();
      await channel.untilReady().catch(() => {});
    }
    await settle?.();
  }
}
