/** What is done beside a stream that runs, and in step with it. */
import { pause } from "../backoff.ts";
import type { EventQueue } from "../delivery/event_queue.ts";
import type { Frontier } from "../delivery/frontier.ts";
import type { Lsn } from "../lsn.ts";

/** How often to ask how far the server has sent, while somebody waits for a position. */
const ASK_MS = 50;

/**
 * Resolves when all is handled that was committed before a position.
 *
 * @param ask asks the server how far it has sent
 * @param signals aborted where nobody waits any more, or the stream does not run any more
 * @throws the reason of the first of them
 */
export async function handledTo(
  lsn: Lsn,
  frontier: Frontier,
  ask: () => void,
  signals: readonly AbortSignal[],
): Promise<void> {
  const signal = AbortSignal.any([...signals]);
  for (;;) {
    signal.throwIfAborted();
    if (frontier.confirmed >= lsn) return;
    ask();
    await pause(ASK_MS, signal);
  }
}

/** Calls when all that is queued now is handled, and nothing that comes after it is begun. @throws as `handledTo`; what the call throws */
export async function atBarrier(
  queue: EventQueue,
  call: () => Promise<void>,
  signals: readonly AbortSignal[],
): Promise<void> {
  const signal = AbortSignal.any([...signals]);
  signal.throwIfAborted();
  const called = Promise.withResolvers<void>();
  const end = () => called.reject(signal.reason);
  signal.addEventListener("abort", end);
  queue.barrier(async () => {
    if (!signal.aborted) await call().then(called.resolve, called.reject);
  });
  queue.flush();
  try {
    await called.promise;
  } finally {
    signal.removeEventListener("abort", end);
  }
}
