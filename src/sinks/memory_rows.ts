/** What `MemorySink` keeps of rows, beside their points: whose they are, what they were made of, and when. */

import { compareSourcePositions } from "./positions.ts";
import type { RowPage, RowState, RowWrite, SourcePosition } from "./rows.ts";

/** A point as `MemorySink` holds it. */
export interface StoredPoint {
  /** The id's text: `"7"` for `7`. */
  id: string;
  /** A copy of what was given, of the same kind. */
  vector: readonly number[] | Float32Array;
  /** As JSON gives it back: a `Date` that was stored is text here. */
  payload: Record<string, unknown>;
}

/** A point of a row. Its payload is kept with its vector. */
export type PointOfRow = Omit<RowState, "payload">;

interface Kept {
  /** Ascending in the order of the map, for a page to go on behind a point that is gone by then. */
  serial: number;
  point: PointOfRow;
}

/** Points of rows, by id, in the order in which they first came. */
export class MemoryRows {
  readonly #kept = new Map<string, Kept>();
  readonly #idsOfRows = new Map<string, Set<string>>();
  #lastSerial = 0;

  /** Undefined for an id that is nobody's, or that of a plain point. */
  get(id: string): PointOfRow | undefined {
    return this.#kept.get(id)?.point;
  }

  /** True where there is something of the row from a later position of the same system. */
  isLater({ table, key, position }: RowWrite): boolean {
    return this.#idsOf(table, key).some((id) => isLater(this.get(id)!, position));
  }

  /** Keeps a row in place of what there was of it. @returns the ids of its points that are no more */
  set({ table, key, position, model, points }: RowWrite): string[] {
    const surplus = new Set(this.#idsOf(table, key));
    for (const { id } of points) surplus.delete(id);
    for (const id of surplus) this.remove(id);
    for (const [chunk, { id, fingerprint }] of points.entries()) {
      const point = {
        ...{ id, table, key, chunk, chunks: points.length, fingerprint, model },
        position: { ...position },
      };
      const serial = this.#kept.get(id)?.serial ?? ++this.#lastSerial;
      this.#kept.set(id, { serial, point });
    }
    if (points.length > 0) {
      this.#idsOfRows.set(rowName(table, key), new Set(points.map(({ id }) => id)));
    }
    return [...surplus];
  }

  /** From now on the id is nobody's. */
  remove(id: string): void {
    const point = this.get(id);
    if (point === undefined) return;
    this.#kept.delete(id);
    const name = rowName(point.table, point.key);
    const ids = this.#idsOfRows.get(name)!;
    ids.delete(id);
    if (ids.size === 0) this.#idsOfRows.delete(name);
  }

  /** Removes a table's points but those from a later position. @returns the ids of those that are no more */
  removeTable(table: string, position: SourcePosition): string[] {
    const removed = [...this.of(table)].filter((point) => !isLater(point, position));
    return removed.map(({ id }) => {
      this.remove(id);
      return id;
    });
  }

  /** A table's points. */
  *of(table: string): Generator<PointOfRow> {
    for (const { point } of this.#kept.values()) if (point.table === table) yield point;
  }

  /** Some of them, and where the next ones begin. @param after `next` of the page before */
  page(
    table: string,
    after: string | null,
    limit: number,
  ): { points: PointOfRow[]; next: RowPage["next"] } {
    const points: PointOfRow[] = [];
    let last = Number(after ?? 0);
    for (const { serial, point } of this.#kept.values()) {
      if (serial <= last || point.table !== table) continue;
      if (points.length === limit) return { points, next: String(last) };
      points.push(point);
      last = serial;
    }
    return { points, next: null };
  }

  #idsOf(table: string, key: string): string[] {
    return [...this.#idsOfRows.get(rowName(table, key)) ?? []];
  }
}

function isLater({ position }: PointOfRow, other: SourcePosition): boolean {
  return (compareSourcePositions(position, other) ?? 0) > 0;
}

function rowName(table: string, key: string): string {
  return JSON.stringify([table, key]);
}
