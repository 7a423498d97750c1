/** Compares the points that rows are to have with those that a store has. */

import type { RowSink, SourcePosition } from "../sinks/rows.ts";
import type { RowMaker, WantedRow } from "./row_maker.ts";
import { isStored } from "./row_plan.ts";

/** Points that are looked up at once. */
const MOST_IDS = 500;

/** A sink that can be compared with. */
export type ComparableSink = RowSink & Required<Pick<RowSink, "fingerprints" | "scan">>;

/** A point that is not as it is to be. */
export interface PointDifference {
  readonly id: string;
  /** Of its row. */
  readonly key: string;
  /** Which of the row's points, from 0. */
  readonly chunk: number;
  /**
   * `missing`: the store has it not; `stale`: it was made of another text, by another model, or with another
   * payload or number of chunks; `orphaned`: its row is gone, or has no such point any more.
   */
  readonly kind: "missing" | "stale" | "orphaned";
  /** When it was written; null where it is not there. */
  readonly position: SourcePosition | null;
}

/** Which of a row's points are not its own, as they were seen: chunks by id. */
export type Suspects = ReadonlyMap<string, number>;

/** Points of these rows that the store has not, or not so. */
export async function missingOrStale(
  sink: ComparableSink,
  { model }: RowMaker,
  rows: ReadonlyMap<string, WantedRow>,
): Promise<PointDifference[]> {
  const wanted = [...rows].flatMap(([key, row]) =>
    row.points.map((point, chunk) => ({ key, row, point, chunk }))
  );
  const found: PointDifference[] = [];
  for (let at = 0; at < wanted.length; at += MOST_IDS) {
    const part = wanted.slice(at, at + MOST_IDS);
    const states = await sink.fingerprints(part.map(({ point }) => point.id));
    for (const { key, row, point, chunk } of part) {
      const state = states.get(point.id);
      if (state === undefined) {
        found.push({ id: point.id, key, chunk, kind: "missing", position: null });
      } else if (
        state.key !== key || state.chunk !== chunk || !isStored(state, point, row, model)
      ) {
        found.push({ id: point.id, key, chunk, kind: "stale", position: state.position });
      }
    }
  }
  return found;
}

/** Points that the store has beyond those of the rows. @param rows keys that are not in it have no row */
export async function orphaned(
  sink: ComparableSink,
  rows: ReadonlyMap<string, WantedRow>,
  suspects: ReadonlyMap<string, Suspects>,
): Promise<PointDifference[]> {
  const seen = [...suspects].flatMap(([key, chunks]) => {
    const own = new Set(rows.get(key)?.points.map(({ id }) => id));
    return [...chunks].flatMap(([id, chunk]) => own.has(id) ? [] : [{ id, key, chunk }]);
  });
  const found: PointDifference[] = [];
  for (let at = 0; at < seen.length; at += MOST_IDS) {
    const part = seen.slice(at, at + MOST_IDS);
    const states = await sink.fingerprints(part.map(({ id }) => id));
    for (const point of part) {
      const state = states.get(point.id);
      if (state !== undefined) {
        found.push({ ...point, kind: "orphaned", position: state.position });
      }
    }
  }
  return found;
}
