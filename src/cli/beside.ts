/** Runs a stream for as long as something is done beside it. */

import type { PgStream } from "../stream/pg_stream.ts";

/**
 * Starts the stream, does the work once it streams, and stops it.
 *
 * @throws what the work, or else the stream, fails by.
 */
export async function beside<T>(
  stream: PgStream,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const streaming = Promise.withResolvers<void>();
  stream.onStateChange((state) => {
    if (state === "streaming") streaming.resolve();
  });
  const running = stream.start({ signal });
  // It may end before it streams: by an error, or by the signal.
  const ended = running.then(() => {
    signal.throwIfAborted();
  });
  ended.catch(() => {});
  await Promise.race([streaming.promise, ended]);
  try {
    return await Promise.race([work(), ended.then(() => new Promise<never>(() => {}))]);
  } finally {
    await stream.stop();
    await running.catch(() => {});
  }
}
