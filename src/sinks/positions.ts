/** Which of two positions is the later one: the same for every store. */

import { parseLsn } from "../lsn.ts";
import type { SourcePosition, StreamPosition } from "./rows.ts";

/**
 * Compares by timeline, then LSN, then ordinal.
 *
 * @returns below 0 where `a` is earlier, 0 where they are the same, above 0 where `a` is later; null where they
 * are of two systems, and neither is.
 * @throws {RangeError} where an LSN is none.
 */
export function compareSourcePositions(a: SourcePosition, b: SourcePosition): number | null {
  if (a.systemId !== b.systemId) return null;
  return a.timeline - b.timeline || compareLsns(a.lsn, b.lsn) || a.ordinal - b.ordinal;
}

/**
 * Compares by timeline, then the end of what is whole, then what there is of the transaction behind it, where
 * none is less than any.
 *
 * @returns as `compareSourcePositions` does; null also where they are of two slots.
 * @throws {RangeError} where an LSN is none.
 */
export function compareStreamPositions(a: StreamPosition, b: StreamPosition): number | null {
  if (a.systemId !== b.systemId || a.slotName !== b.slotName) return null;
  return a.timeline - b.timeline || compareLsns(a.endLsn, b.endLsn) ||
    compareLsns(a.commitLsn ?? "0/0", b.commitLsn ?? "0/0") ||
    (a.ordinal ?? -1) - (b.ordinal ?? -1);
}

function compareLsns(a: string, b: string): number {
  if (a === b) return 0;
  const [lsnA, lsnB] = [parseLsn(a), parseLsn(b)];
  return lsnA < lsnB ? -1 : lsnA > lsnB ? 1 : 0;
}
