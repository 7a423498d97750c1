/** How much goes into one request, and how many are under way at once. */

import { nextTurn } from "../backoff.ts";
import { isRetryable } from "../errors.ts";

// Qdrant takes 32 MB a request. A number is at most 24 characters and a comma; what else there is of a
// point, its field names and a UUID, is in the half that is left free.
const MAX_REQUEST_BYTES = 16 * 1024 * 1024;
const MAX_NUMBER_BYTES = 25;
/**
 * Fewer points a request than there could be: while the server reads one, the next is put into words. And the points
 * of rows are each held against the guards of all, so that a request's time grows with their square.
 */
const MAX_POINTS = 240;
/** One that the server has in hand, and one that is on its way. */
const REQUESTS_IN_FLIGHT = 2;

/** What goes into a request, and how long it can be as JSON. */
export interface Sized {
  maxBytes: number;
}

/** How long a point can be. @param characters of its payload, as JSON; a UTF-16 unit is at most three bytes of UTF-8 */
export function maxPointBytes(dimensions: number, characters: number): number {
  return dimensions * MAX_NUMBER_BYTES + characters * 3;
}

/** Cuts what is to be written into requests, in order. */
export function* inParts<T extends Sized>(all: Iterable<T>): Generator<T[]> {
  let part: T[] = [];
  let bytes = 0;
  for (const one of all) {
    const isFull = bytes + one.maxBytes > MAX_REQUEST_BYTES || part.length >= MAX_POINTS;
    if (part.length > 0 && isFull) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(one);
    bytes += one.maxBytes;
  }
  if (part.length > 0) yield part;
}

/**
 * Cuts groups into requests. Those of one group, in order, are in one request; or where they are too many, in several
 * that have nothing else, and come one after the other.
 *
 * @returns requests that may be sent in any order: of each, those that it consists of
 */
export function* groupsInParts<T extends Sized>(groups: Iterable<readonly T[]>): Generator<T[][]> {
  let part: T[] = [];
  let bytes = 0;
  for (const group of groups) {
    const groupBytes = group.reduce((sum, { maxBytes }) => sum + maxBytes, 0);
    const fits = group.length <= MAX_POINTS && groupBytes <= MAX_REQUEST_BYTES;
    const isFull = bytes + groupBytes > MAX_REQUEST_BYTES ||
      part.length + group.length > MAX_POINTS;
    if (part.length > 0 && isFull) {
      yield [part];
      part = [];
      bytes = 0;
    }
    if (!fits) yield [...inParts(group)];
    else {
      part.push(...group);
      bytes += groupBytes;
    }
  }
  if (part.length > 0) yield [part];
}

/**
 * Sends parts that do not depend on each other, two at a time. After one that fails no further one is sent.
 *
 * @throws what the first that failed was rejected with, of those that may pass where there are any; nothing is
 * under way any more then
 */
export async function sendParts<T>(
  parts: Iterable<T>,
  send: (part: T) => Promise<void>,
): Promise<void> {
  const left = [...parts];
  const failures: unknown[] = [];
  const lane = async () => {
    while (left.length > 0 && failures.length === 0) {
      try {
        await send(left.shift()!);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  const lanes = [lane()];
  while (left.length > 0 && lanes.length < REQUESTS_IN_FLIGHT) {
    // Once the one before it is on its way, the server and we work side by side.
    await Promise.race([...lanes, nextTurn()]);
    lanes.push(lane());
  }
  await Promise.all(lanes);
  if (failures.length > 0) throw failures.find(isRetryable) ?? failures[0];
}
