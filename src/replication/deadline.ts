/** A limit for what the server is asked beside the stream: a connection can be dead without a word. */
import { ReplicationError } from "./errors.ts";

/**
 * Gives the work a signal that also fires when the time is over.
 *
 * @throws {ReplicationError} of kind `connection-silent`, retryable, when the time is over; `signal.reason`.
 */
export async function withDeadline<T>(
  what: string,
  timeoutMs: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), timeoutMs);
  try {
    return await work(AbortSignal.any([signal, late.signal]));
  } catch (error) {
    if (signal.aborted || !late.signal.aborted) throw error;
    throw new ReplicationError(`The server did not answer within ${timeoutMs} ms: ${what}`, {
      kind: "connection-silent",
      retryable: true,
      hint: "The network between may have dropped the connection.",
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}
