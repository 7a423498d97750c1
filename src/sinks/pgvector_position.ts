/** Positions of rows as the text that the table keeps, which sorts as the positions do. */

import { formatLsn, parseLsn } from "../lsn.ts";
import type { SourcePosition } from "./rows.ts";

/**
 * Timeline, LSN and one more than the ordinal, in hex of fixed width: `00000001/000000000001A3F2/000000000000`.
 * In the C collation the later position sorts after the earlier one.
 *
 * @throws {RangeError} where the LSN is none.
 */
export function formatSourcePosition(
  { timeline, lsn, ordinal }: Omit<SourcePosition, "systemId">,
): string {
  return [hex(timeline, 8), hex(parseLsn(lsn), 16), hex(ordinal + 1, 12)].join("/");
}

/** @throws {RangeError} where the text is none that `formatSourcePosition` writes. */
export function parseSourcePosition(text: string): Omit<SourcePosition, "systemId"> {
  const [, timeline, lsn, place] = /^([0-9A-F]{8})\/([0-9A-F]{16})\/([0-9A-F]{12})$/.exec(text) ??
    [];
  if (timeline === undefined) throw new RangeError("Not the position of a row");
  return {
    timeline: parseInt(timeline, 16),
    lsn: formatLsn(BigInt(`0x${lsn}`)),
    ordinal: parseInt(place!, 16) - 1,
  };
}

function hex(number: number | bigint, digits: number): string {
  return number.toString(16).toUpperCase().padStart(digits, "0");
}
