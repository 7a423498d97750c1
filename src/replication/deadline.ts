/** A limit for what the server is asked beside the stream: a connection can be dead without a word. */
import { ReplicationError } from "./errors.ts";

/** A timer of more runs out at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Gives the work a signal that also fires when the time is over; beyond 24 days, `Infinity` among them, it never is.
 *
 * @throws {ReplicationError} of kind `connection-silent`, retryable, when the time is over; `signal.reason`.
 */
export async function withDeadline<T>(
  what: string,
  timeoutMs: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  // Not AbortSignal.any: on Node 22 each one leaves something behind on a signal that lives long.
  const controller = new AbortController();
  const tell = () => controller.abort(signal.reason);
  if (signal.aborted) tell();
  signal.addEventListener("abort", tell);
  let late = false;
  const timer = timeoutMs > LONGEST_TIMER_MS ? undefined : setTimeout(() => {
    late = true;
    controller.abort();
  }, timeoutMs);
  try {
    return await work(controller.signal);
  } catch (error) {
    if (signal.aborted || !late) throw error;
    throw new ReplicationError(`The server did not answer within ${timeoutMs} ms: ${what}`, {
      kind: "connection-silent",
      retryable: true,
      hint: "The network between may have dropped the connection.",
      cause: error,
    });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", tell);
  }
}
