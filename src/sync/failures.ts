/** Several things at once, none of which is left alone where another fails. */

import { isRetryable, PgStreamError } from "../errors.ts";

/**
 * Waits for all of them, to the end: what is begun again must not meet what is still under way.
 *
 * @throws what the first was rejected with, of those that may pass where there are any: who tries again then
 * learns of the others.
 */
export async function settled<T>(promises: Iterable<Promise<T>>): Promise<T[]> {
  const results = await Promise.allSettled(promises);
  const errors = results.flatMap((result) => result.status === "rejected" ? [result.reason] : []);
  if (errors.length > 0) throw errors.find(mayPass) ?? errors[0];
  return results.map((result) => (result as PromiseFulfilledResult<T>).value);
}

/** Errors that are not ours do not tell. */
function mayPass(error: unknown): boolean {
  return !(error instanceof PgStreamError) || isRetryable(error);
}
