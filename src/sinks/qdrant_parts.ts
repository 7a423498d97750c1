/** How much goes into one request. */

// Qdrant takes 32 MB a request. A number is at most 24 characters and a comma; what else there is of a
// point, its field names and a UUID, is in the half that is left free.
const MAX_REQUEST_BYTES = 16 * 1024 * 1024;
const MAX_NUMBER_BYTES = 25;

/** What goes into a request, and how long it can be as JSON. */
export interface Sized {
  maxBytes: number;
}

/** How long a point can be. @param characters of its payload, as JSON; a UTF-16 unit is at most three bytes of UTF-8 */
export function maxPointBytes(dimensions: number, characters: number): number {
  return dimensions * MAX_NUMBER_BYTES + characters * 3;
}

/** Cuts what is to be written into requests, in order. */
export function* inParts<T extends Sized>(
  all: Iterable<T>,
  maxCount: number = Infinity,
): Generator<T[]> {
  let part: T[] = [];
  let bytes = 0;
  for (const one of all) {
    if (part.length > 0 && (bytes + one.maxBytes > MAX_REQUEST_BYTES || part.length >= maxCount)) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(one);
    bytes += one.maxBytes;
  }
  if (part.length > 0) yield part;
}
