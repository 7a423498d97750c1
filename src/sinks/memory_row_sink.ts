/** The rows of a `MemorySink`: loaded with the first of them. */

import { MemoryRows, type PointOfRow, type StoredPoint } from "./memory_rows.ts";
import { copyPayload } from "./payload.ts";
import { compareStreamPositions } from "./positions.ts";
import type {
  RowPage,
  RowPoint,
  RowState,
  RowVector,
  RowWrite,
  SourcePosition,
  StreamPosition,
} from "./rows.ts";
import { SinkError } from "./sink.ts";
import type { Vector } from "../values/vector.ts";

/** Rows, and how far the stream is, beside the points of the sink. What is here is done when a call returns. */
export class MemoryRowSink {
  readonly #points: Map<string, StoredPoint>;
  readonly #vectorCopier: () => (vector: Vector) => Vector;
  readonly #rows = new MemoryRows();
  readonly #positions = new Map<string, StreamPosition>();

  /**
   * @param points the sink's own
   * @param vectorCopier makes what checks and copies the vectors of one call
   */
  constructor(
    points: Map<string, StoredPoint>,
    vectorCopier: () => (vector: Vector) => Vector,
  ) {
    this.#points = points;
    this.#vectorCopier = vectorCopier;
  }

  /**
   * All or, where one of them cannot be stored, none.
   *
   * @throws {SinkError} as `upsertMany`; `sink-unconfirmed` where a vector that was said to be there is not.
   */
  apply(rows: readonly RowWrite[], position: StreamPosition | null): void {
    if (position !== null) {
      const stored = this.#positions.get(slotOf(position));
      if (stored !== undefined && compareStreamPositions(stored, position)! > 0) return;
    }
    const copy = this.#vectorCopier();
    const writes = rows.filter((row) => !this.#rows.isLater(row)).map((row) => ({
      row,
      points: row.points.map((point): StoredPoint => ({
        id: point.id,
        vector: point.vector === null ? this.#vectorOf(point, row) : copy(point.vector),
        payload: copyPayload(point.payload, "memory"),
      })),
    }));
    for (const { row, points } of writes) {
      this.#remove(this.#rows.set(row));
      for (const point of points) this.#points.set(point.id, point);
    }
    if (position !== null) this.#positions.set(slotOf(position), { ...position });
  }

  /** The position that `apply` stored last; null where there is none. */
  position(source: { systemId: string; slotName: string }): StreamPosition | null {
    return this.#positions.get(slotOf(source)) ?? null;
  }

  /** What there is under these ids of rows; plain points are left out. */
  fingerprints(ids: readonly string[]): Map<string, RowState> {
    const points = ids.flatMap((id) => this.#rows.get(id) ?? []);
    return new Map(points.map((point) => [point.id, this.#state(point)]));
  }

  /** The vectors of points of rows. */
  vectors(ids: readonly string[]): Map<string, RowVector> {
    const points = ids.flatMap((id) => this.#rows.get(id) ?? []);
    return new Map(points.map(({ id, fingerprint }) => {
      const { vector } = this.#points.get(id)!;
      return [id, { fingerprint, vector }];
    }));
  }

  /** Points of a table, in the order in which they first came. @param after `next` of the page before */
  scan(table: string, after: string | null, limit: number): RowPage {
    const { points, next } = this.#rows.page(table, after, limit);
    return { points: points.map((point) => this.#state(point)), next };
  }

  /** Removes all points of a table but those from a later position of the same system. */
  deleteTable(table: string, position: SourcePosition): void {
    this.#remove(this.#rows.removeTable(table, position));
  }

  /** The model of any point of the table that was made by another one; null where there is none. */
  otherModel(table: string, model: string): string | null {
    for (const point of this.#rows.of(table)) if (point.model !== model) return point.model;
    return null;
  }

  /** Whose point it is; undefined for a plain point. */
  tableOf(id: string): string | undefined {
    return this.#rows.get(id)?.table;
  }

  /** From now on the id is no row's. */
  remove(id: string): void {
    this.#rows.remove(id);
  }

  #remove(ids: readonly string[]): void {
    for (const id of ids) {
      this.#points.delete(id);
      this.#rows.remove(id);
    }
  }

  #state(point: PointOfRow): RowState {
    return { ...point, payload: this.#points.get(point.id)!.payload };
  }

  #vectorOf({ id, fingerprint }: RowPoint, { table }: RowWrite): Vector {
    if (this.#rows.get(id)?.fingerprint === fingerprint) return this.#points.get(id)!.vector;
    throw new SinkError(`MemorySink has no vector for a point of table "${table}" any more`, {
      kind: "sink-unconfirmed",
      sink: "memory",
      retryable: true,
      hint:
        "Somebody else removed or replaced it meanwhile; it is embedded when this is tried again",
    });
  }
}

function slotOf({ systemId, slotName }: { systemId: string; slotName: string }): string {
  return JSON.stringify([systemId, slotName]);
}
