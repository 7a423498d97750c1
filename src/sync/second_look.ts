/**
 * Tells differences from lag. A store that is behind its source, or a source that is read before or after the store
 * is, look as if something were wrong; each difference is looked at again:
 *
 * 1. the row is read, and the stream has handled all that this reading shows;
 * 2. the store is read;
 * 3. the row is read again, in the very version that it had.
 *
 * What the store has was made by transactions that were handled by 2. All that 1 shows is among them. If all of them
 * are shown by 3, then nobody has changed the row between 1 and 3, and the store has to have it as it is. That they
 * are shown is so where 3 is complete. Where it is not, one may hide that has changed the row: then the row is not
 * untouched.
 *
 * A row that is not there has no version, and may have come and gone between 1 and 3. What it left in the store was
 * then written by a transaction that 1 does not show: at a position behind what 1 shows, if that is complete.
 */

import type { RowsAt, SourceTable } from "../backfill/table_reader.ts";
import { formatLsn } from "../lsn.ts";
import { compareSourcePositions } from "../sinks/positions.ts";
import type { LiveServer, LiveStream } from "./live_stream.ts";
import {
  type ComparableSink,
  missingOrStale,
  orphaned,
  type PointDifference,
  type Suspects,
} from "./point_differences.ts";
import type { RowMaker, WantedRow } from "./row_maker.ts";

/** How often a key is looked at. */
const ROUNDS = 6;
/** Between the first two rounds; it doubles. */
const FIRST_PAUSE_MS = 50;

/** What is compared. */
export interface Compared {
  readonly maker: RowMaker;
  readonly sink: ComparableSink;
  readonly source: SourceTable;
  /** Null where the stream does not run: what it has not handled yet is a difference. */
  readonly live: LiveStream | null;
  /** Resolves after so many milliseconds, or when the signal is aborted. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** Keys that are to be looked at; with those points of them that are to be orphans, or null for those they lack. */
export type Candidates = ReadonlyMap<string, Suspects | null>;

/** A key whose points are not as they are to be. */
export interface Different {
  /** True where the source has the row. */
  readonly isRow: boolean;
  readonly points: readonly PointDifference[];
}

/** What came of it. */
export interface Verdict {
  /** By key. */
  readonly different: ReadonlyMap<string, Different>;
  /** Keys that changed whenever they were looked at. */
  readonly unsettled: readonly string[];
}

/** Looks at keys until it is known of each whether it differs, or it changes all the time. */
export async function lookAgain(
  compared: Compared,
  candidates: Candidates,
  signal: AbortSignal,
): Promise<Verdict> {
  const different = new Map<string, Different>();
  let open = new Map(candidates);
  for (let round = 1;; round++) {
    const again = new Map<string, Suspects | null>();
    while (open.size > 0) {
      signal.throwIfAborted();
      await lookOnce(compared, open, { different, again }, signal);
    }
    if (again.size === 0 || round === ROUNDS) return { different, unsettled: [...again.keys()] };
    await compared.pause(FIRST_PAUSE_MS * 2 ** (round - 1), signal);
    open = again;
  }
}

/** @param open keys that were looked at are taken out */
async function lookOnce(
  compared: Compared,
  open: Map<string, Suspects | null>,
  to: { different: Map<string, Different>; again: Map<string, Suspects | null> },
  signal: AbortSignal,
): Promise<void> {
  const { source, live } = compared;
  const first = await source.at([...open.keys()], signal);
  const part = new Map(first.keys.map((key) => [key, open.get(key)!]));
  for (const key of first.keys) open.delete(key);
  await live?.caughtUp(first.lsn, signal);
  const found = await differences(compared, first, part);
  if (found.size === 0) return;
  const second = await source.at([...found.keys()], signal);
  const server = live?.server ?? null;
  const isOne = server === null || [first, second].every((rows) => isOf(rows, server));
  // The next look is at the server that the stream comes from, if that can be had.
  if (!isOne) await source.close();
  const looks = { first, second, server };
  for (const [key, points] of found) {
    const isKnown = live === null
      ? isUnchanged(key, looks)
      : isOne && isSettled(key, points, looks);
    if (isKnown) to.different.set(key, { isRow: first.rows.has(key), points });
    else to.again.set(key, part.get(key)!);
  }
}

async function differences(
  { sink, maker }: Compared,
  { rows }: RowsAt,
  part: Candidates,
): Promise<Map<string, PointDifference[]>> {
  const wanted = new Map<string, WantedRow>();
  for (const [key, { row }] of rows) wanted.set(key, await maker.make(key, row));
  const lacking = new Map([...wanted].filter(([key]) => part.get(key) === null));
  const suspects = new Map(
    [...part].flatMap(([key, chunks]) => chunks === null ? [] : [[key, chunks]]),
  );
  const found = [
    ...await missingOrStale(sink, maker, lacking),
    ...await orphaned(sink, wanted, suspects),
  ];
  return Map.groupBy(found, ({ key }) => key);
}

interface Looks {
  first: RowsAt;
  second: RowsAt;
  /** Null: the stream has no connection. */
  server: LiveServer | null;
}

function isUnchanged(key: string, { first, second }: Looks): boolean {
  return second.keys.includes(key) &&
    first.rows.get(key)?.version === second.rows.get(key)?.version;
}

/** See above. */
function isSettled(key: string, points: readonly PointDifference[], looks: Looks): boolean {
  const { first, second, server } = looks;
  if (server === null || !isUnchanged(key, looks)) return false;
  const row = second.rows.get(key);
  if (row !== undefined) return second.complete || row.untouched;
  return first.complete && points.every(({ position }) => {
    const shown = { ...server, lsn: formatLsn(first.shownLsn), ordinal: -1 };
    // Of another system: from before the stream came from this one.
    return position === null || (compareSourcePositions(position, shown) ?? -1) <= 0;
  });
}

/** True where the rows were read from the server that the stream comes from. */
export function isOf({ startedAt }: RowsAt, server: LiveServer): boolean {
  return startedAt === server.startedAt;
}
