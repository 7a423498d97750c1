/** What is to be written of a row, given what the store has of it. */

import {
  type RowPoint,
  rowPointId,
  type RowState,
  type RowWrite,
  type SourcePosition,
  type StreamPosition,
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
export function idsOf({ sync, change, wanted }: MadeRow): string[] {
  // Of a row without points, the first one that it may have had tells when it was written.
  if (wanted.points.length === 0) return [rowPointId(sync.table, change.key, 0)];
  return wanted.points.map(({ id }) => id);
}

/** True where the store has this point of a row as it is to be. */
export function isStored(
  state: RowState | undefined,
  point: WantedPoint,
  { points, payload }: WantedRow,
  model: string,
): boolean {
  return state !== undefined && state.fingerprint === point.fingerprint &&
    state.chunks === points.length && state.model === model && isSameJson(state.payload, payload);
}

/**
 * Compares a row with what the store has.
 *
 * @param states by id; null where the store does not tell
 * @param position what the store keeps with the write; null where it keeps none
 * @returns null: there is nothing to write
 */
export function planRow(
  made: MadeRow,
  states: ReadonlyMap<string, RowState> | null,
  position: StreamPosition | null,
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
  // What is written although nothing but the position is new keeps older writes out: those of a process that
  // was replaced and does not know it yet, and those of a replay, which would also embed. Where the position
  // of the stream is stored, that does both.
  const isGuarded = order.every((sign) => sign === 0) || covers(position, made.position);
  const isSame = !surplus && isGuarded &&
    wanted.points.every((point, at) => isStored(stored[at], point, wanted, model));
  return isSame ? null : { made, kept, surplus };
}

/** The write, with the vectors that the store has not. */
export function rowWrite({ made, kept, surplus }: RowPlan, vectors: TextVectors): RowWrite {
  const { sync, change, position, wanted } = made;
  const points = wanted.points.map(({ id, fingerprint }, chunk): RowPoint => ({
    id,
    fingerprint,
    vector: kept[chunk] ? null : vectors.get(fingerprint),
    payload: wanted.payload,
  }));
  const { table, maker: { model } } = sync;
  return { table, key: change.key, position, model, points, surplus };
}

/** True where all up to the row's position is stored with the stream's. */
function covers(stream: StreamPosition | null, row: SourcePosition): boolean {
  if (stream === null) return false;
  const { systemId, timeline, endLsn, commitLsn, ordinal } = stream;
  // A commit record begins before its end.
  const isWhole = compareSourcePositions({ systemId, timeline, lsn: endLsn, ordinal: -1 }, row);
  if (isWhole !== null && isWhole > 0) return true;
  if (commitLsn === null || ordinal === null) return false;
  const isIn = compareSourcePositions({ systemId, timeline, lsn: commitLsn, ordinal }, row);
  return isIn !== null && isIn >= 0;
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
