/**
 * COPY … TO STDOUT.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
 */
import { decodeCommandComplete, decodeEmpty } from "./backend.ts";
import type { Canceller, Settle } from "./cancellation.ts";
import { type Frame, MessageType } from "./frames.ts";
import { beginCopy } from "./query.ts";
import type { Channel } from "./channel.ts";

/**
 * The payloads of a copy, all that have arrived already at a time: to wait for each row costs as
 * much as the row. Left early, or aborted, it cancels the statement.
 *
 * @param begin called when the first payload is asked for; returns what to call at the end.
 */
export async function* copyOut(
  channel: Channel,
  canceller: Canceller,
  begin: () => () => void,
  sql: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<readonly Uint8Array[], void, undefined> {
  const release = begin();
  let settle: Settle | null = null;
  const onAbort = () => settle ??= canceller.interrupt();
  signal?.addEventListener("abort", onAbort, { once: true });
  // While true, the server still has to say that it is ready.
  let running = false;
  try {
    await beginCopy(channel, sql, "out");
    running = true;
    while (running) {
      let frame = channel.take() ?? await channel.next();
      if (frame.type === MessageType.CopyData) {
        const payloads: Uint8Array[] = [];
        let next: Frame | null = frame;
        for (; next?.type === MessageType.CopyData; next = channel.take()) payloads.push(next.body);
        yield payloads;
        signal?.throwIfAborted();
        if (next === null) continue;
        frame = next;
      }
      switch (frame.type) {
        case MessageType.CopyDone:
          channel.decode(() => decodeEmpty("CopyDone", frame.body));
          break;
        case MessageType.CommandComplete:
          channel.decode(() => decodeCommandComplete(frame.body));
          break;
        case MessageType.ErrorResponse: {
          const error = channel.serverError(frame.body);
          await channel.untilReady();
          running = false;
          throw error;
        }
        case MessageType.ReadyForQuery:
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
    release();
  }
}
