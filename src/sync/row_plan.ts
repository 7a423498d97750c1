/** What is to be written of a row, given what the store has of it. */

import {
  type RowPoint,
  rowPointId,
  type RowState,
  type RowWrite,
  type SourcePosition,
} from "../sinks/rows.ts";
import { compareSourcePositions } from "../sinks/positions.ts";
import type { TableSync } from "./resolve_options.ts";
import type { RowChange } from "./row_changes.ts";
import type { WantedPoint, WantedRow } from "./row_maker.ts";
import { isSameJson } from "./same_json.ts";
import type { TextVectors } from "./text_vectors.ts";

/** A change of a row, and what the row is to have by it. */
export interface MadeRow {
  readonly sync: TableSync;
  readonly change: RowChange;
  readonly position: SourcePosition;
  /** No points where the row is gone. */
  readonly wanted: WantedRow;
}

/** The write of a row, but for vectors. */
export interface RowPlan {
  readonly made: MadeRow;
  /** By chunk: true where the store has the vector. */
  readonly kept: readonly boolean[];
  readonly surplus: boolean;
}

/** The ids by which it is known what the store has of a row. */
export function idsOf(
  { sync, change, wanted }: Pick<MadeRow, "sync" | "change" | "wanted">,
): string[] {
  // Of a row without points, the first one that it may have had tells when it was written.
  if (wanted.points.length === 0) return [rowPointId(sync.table, change.key, 0)];
  return wanted.points.map(({ id }) => id);
}

/** The ids under which the store may have vectors of the row's texts, where it had another key. */
export function formerIdsOf({ sync, change: { from }, wanted }: MadeRow): string[] {
  return from === null ? [] : wanted.points.map((_, chunk) => rowPointId(sync.table, from, chunk));
}

/** True where the store has this point of a row as it is to be. */
export function isStored(
  state: RowState | undefined,
  point: WantedPoint,
  { points }: WantedRow,
  model: string,
): boolean {
  return state !== undefined && state.fingerprint === point.fingerprint &&
    state.chunks === points.length && state.model === model &&
    isSameJson(state.payload, point.payload);
}

/** The ids of the points that it had beyond those, under either key. */
export function furtherIdsOf(
  { sync: { table }, change: { key, from }, wanted }: MadeRow,
  states: ReadonlyMap<string, RowState>,
): string[] {
  return [key, ...from === null ? [] : [from]].flatMap((key) => {
    const chunks = states.get(rowPointId(table, key, 0))?.chunks ?? 0;
    const first = wanted.points.length;
    const more = Math.max(0, chunks - first);
    return Array.from({ length: more }, (_, at) => rowPointId(table, key, first + at));
  });
}

/**
 * Compares a row with what the store has.
 *
 * @param states by id; null where the store does not tell
 * @returns null: there is nothing to write
 */
export function planRow(
  made: MadeRow,
  states: ReadonlyMap<string, RowState> | null,
): RowPlan | null {
  const { change, wanted } = made;
  const { model } = made.sync.maker;
  if (states === null) return { made, kept: wanted.points.map(() => false), surplus: true };
  const stored = idsOf(made).map((id) => states.get(id));
  const order = stored.map((state) =>
    state && compareSourcePositions(state.position, made.position)
  );
  // The store would refuse it; so nothing has to be embedded for it.
  if (order.some((sign) => (sign ?? 0) > 0)) return null;
  const kept = wanted.points.map((point, at) => stored[at]?.fingerprint === point.fingerprint);
  const [first] = stored;
  const surplus = change.anew || wanted.points.length === 0 ||
    (first === undefined
      ? stored.some((state) => state !== undefined)
      : first.chunks > wanted.points.length);
  // One event that leaves what the store has needs no write: what comes again, or late from a process that was
  // replaced, is either refused, or the same. Of several, those before the last may have made something else of
  // the row; so the row takes the place of the last, which keeps them out, and their texts from being embedded.
  const isLast = change.alone || order.every((sign) => sign === 0);
  const isSame = !surplus && isLast &&
    wanted.points.every((point, at) => isStored(stored[at], point, wanted, model));
  return isSame ? null : { made, kept, surplus };
}

/** The write, with the vectors that the store has not. */
export function rowWrite({ made, kept, surplus }: RowPlan, vectors: TextVectors): RowWrite {
  const { sync, change, position, wanted } = made;
  const points = wanted.points.map(({ id, fingerprint, payload }, chunk): RowPoint => ({
    id,
    fingerprint,
    vector: kept[chunk] ? null : vectors.get(fingerprint),
    payload,
  }));
  const { table, maker: { model } } = sync;
  return { table, key: change.key, position, model, points, surplus };
}

/**
 * True where a row that leaves is not the one that the store has under its key: another one of the same
 * transaction came there before, as a primary key that is DEFERRABLE allows.
 */
export async function isTaken(
  { sync: { table, maker }, change: { key, lsn, left } }: MadeRow,
  states: ReadonlyMap<string, RowState> | null,
): Promise<boolean> {
  if (left === null) return false;
  const first = states?.get(rowPointId(table, key, 0));
  if (first === undefined || first.position.lsn !== lsn) return false;
  const was = await maker.make(key, left);
  const [point] = was.points;
  return point === undefined || !isStored(first, point, was, maker.model);
}
