/**
 * COPY … TO STDOUT.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
 */
import { decodeCommandComplete, decodeEmpty } from "./backend.ts";
import type { Canceller, Settle } from "./cancellation.ts";
import { MessageType } from "./frames.ts";
import { beginCopy } from "./query.ts";
import type { Session } from "./session.ts";

/**
 * The payloads of a copy. Left early, or aborted, it cancels the statement.
 *
 * @param begin called when the first payload is asked for; returns what to call at the end.
 */
export async function* copyOut(
  session: Session,
  canceller: Canceller,
  begin: () => () => void,
  sql: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const release = begin();
  let settle: Settle | null = null;
  const onAbort = () => settle ??= canceller.interrupt();
  signal?.addEventListener("abort", onAbort, { once: true });
  // While true, the server still has to say that it is ready.
  let running = false;
  try {
    await beginCopy(session, sql, "out");
    running = true;
    while (running) {
      const frame = session.take() ?? await session.next();
      switch (frame.type) {
        case MessageType.CopyData:
          yield frame.body;
          signal?.throwIfAborted();
          break;
        case MessageType.CopyDone:
          session.decode(() => decodeEmpty("CopyDone", frame.body));
          break;
        case MessageType.CommandComplete:
          session.decode(() => decodeCommandComplete(frame.body));
          break;
        case MessageType.ErrorResponse: {
          const error = session.serverError(frame.body);
          await session.untilReady();
          running = false;
          throw error;
        }
        case MessageType.ReadyForQuery:
          session.ready(frame.body);
          running = false;
          break;
        default:
          throw session.unexpected(frame, "COPY");
      }
    }
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
    if (running && session.failure === null) {
      settle ??= canceller.interrupt();
      await session.untilReady().catch(() => {});
    }
    await settle?.();
    release();
  }
}
