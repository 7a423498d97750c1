/** A sink that keeps its points in memory: for tests, examples and small tools. */

import { MemoryRows, type PointOfRow } from "./memory_rows.ts";
import { copyPayload } from "./payload.ts";
import { compareStreamPositions } from "./positions.ts";
import type {
  RowPage,
  RowPoint,
  RowSink,
  RowState,
  RowVector,
  RowWrite,
  SearchOptions,
  SourcePosition,
  StreamPosition,
} from "./rows.ts";
import {
  checkVector,
  dimensionError,
  type PointId,
  pointIdText,
  type SearchHit,
  Sink,
  SinkError,
  type VectorPoint,
} from "./sink.ts";
import type { Vector } from "../values/vector.ts";

/** A point as `MemorySink` holds it. */
export interface StoredPoint {
  /** The id's text: `"7"` for `7`. */
  id: string;
  /** A copy of what was given, of the same kind. */
  vector: readonly number[] | Float32Array;
  /** As JSON gives it back: a `Date` that was stored is text here. */
  payload: Record<string, unknown>;
}

/**
 * Keeps points in a `Map`, in the order in which their ids came. It treats points as a real store
 * does: what it is given is copied, payloads go through JSON, all vectors have one length. It keeps rows
 * and the stream's position, too, as long as it lives: all that `sync` asks of a store.
 *
 * @example
 * ```ts
 * const sink = new MemorySink();
 * await sink.upsert({ id: 7, vector: [1, 0], payload: { title: "Seven" } });
 * sink.get("7")?.payload.title; // "Seven"
 * (await sink.search([1, 0.1]))[0]?.id; // "7"
 * ```
 */
export class MemorySink extends Sink implements RowSink {
  readonly #points = new Map<string, StoredPoint>();
  readonly #rows = new MemoryRows();
  readonly #positions = new Map<string, StreamPosition>();

  /** Stores one point. @throws {SinkError} `sink-id`, `sink-vector`, `sink-dimension`, `sink-payload`. */
  override upsert(point: VectorPoint): Promise<void> {
    return this.upsertMany([point]);
  }

  /** A missing id is no error. */
  override delete(id: PointId): Promise<void> {
    return this.deleteMany([id]);
  }

  /** All or, where one of them cannot be stored, none. */
  // deno-lint-ignore require-await -- what it throws must reject
  override async upsertMany(points: readonly VectorPoint[]): Promise<void> {
    const copy = this.#vectorCopier();
    const stored = points.map((point): StoredPoint => ({
      id: pointIdText(point.id, "memory"),
      vector: copy(point.vector),
      payload: copyPayload(point.payload, "memory"),
    }));
    for (const point of stored) {
      this.#points.set(point.id, point);
      this.#rows.remove(point.id);
    }
  }

  /** Missing ids are no error. */
  // deno-lint-ignore require-await -- what it throws must reject
  override async deleteMany(ids: readonly PointId[]): Promise<void> {
    this.#remove(ids.map((id) => pointIdText(id, "memory")));
  }

  /** The point with this id: the stored object itself, not a copy. */
  get(id: PointId): StoredPoint | undefined {
    return this.#points.get(pointIdText(id, "memory"));
  }

  /** How many points there are. */
  get size(): number {
    return this.#points.size;
  }

  /** All points, in the order in which their ids first came. */
  points(): StoredPoint[] {
    return [...this.#points.values()];
  }

  /** The nearest points by cosine similarity, the nearest first. */
  // deno-lint-ignore require-await -- what it throws must reject
  async search(
    vector: VectorPoint["vector"],
    { limit = 10, filter = {}, table }: SearchOptions = {},
  ): Promise<SearchHit[]> {
    this.#vectorCopier()(vector);
    const wanted = Object.entries(filter);
    return this.points()
      .filter(({ id, payload }) =>
        (table === undefined || this.#rows.get(id)?.table === table) &&
        wanted.every(([name, value]) => Object.hasOwn(payload, name) && payload[name] === value)
      )
      .map(({ id, vector: other, payload }) => ({ id, score: cosine(vector, other), payload }))
      .sort((a, b) => b.score - a.score)
      .slice(0, limit);
  }

  /**
   * All or, where one of them cannot be stored, none.
   *
   * @throws {SinkError} as `upsertMany`; `sink-unconfirmed` where a vector that was said to be there is not.
   */
  // deno-lint-ignore require-await -- what it throws must reject
  async apply(rows: readonly RowWrite[], position: StreamPosition | null): Promise<void> {
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

  /** The position that `apply` stored last. */
  position(source: { systemId: string; slotName: string }): Promise<StreamPosition | null> {
    return Promise.resolve(this.#positions.get(slotOf(source)) ?? null);
  }

  /** What there is under these ids of rows; plain points are left out. */
  fingerprints(ids: readonly string[]): Promise<Map<string, RowState>> {
    const points = ids.flatMap((id) => this.#rows.get(id) ?? []);
    return Promise.resolve(new Map(points.map((point) => [point.id, this.#state(point)])));
  }

  /** The vectors of points of rows. */
  vectors(ids: readonly string[]): Promise<Map<string, RowVector>> {
    const found = ids.flatMap((id) => this.#rows.get(id) ?? []).map((
      { id, fingerprint },
    ) => [id, { fingerprint, vector: this.get(id)!.vector }] as const);
    return Promise.resolve(new Map(found));
  }

  /** Points of a table, in the order in which they first came. */
  scan(
    table: string,
    { after, limit }: { after: string | null; limit: number },
  ): Promise<RowPage> {
    const { points, next } = this.#rows.page(table, after, limit);
    return Promise.resolve({ points: points.map((point) => this.#state(point)), next });
  }

  /** Removes all points of a table but those from a later position of the same system. */
  deleteTable(table: string, position: SourcePosition): Promise<void> {
    this.#remove(this.#rows.removeTable(table, position));
    return Promise.resolve();
  }

  /** The model of any point of the table that was made by another one. */
  otherModel(table: string, model: string): Promise<string | null> {
    for (const point of this.#rows.of(table)) {
      if (point.model !== model) return Promise.resolve(point.model);
    }
    return Promise.resolve(null);
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

  /** What checks and copies the vectors of one call. */
  #vectorCopier(): (vector: Vector) => Vector {
    let dimensions = this.#dimensions();
    return (vector) => {
      checkVector(vector, "memory");
      dimensions ??= vector.length;
      if (vector.length === dimensions) return vector.slice();
      throw dimensionError("memory", "MemorySink", dimensions, vector.length);
    };
  }

  #dimensions(): number | undefined {
    return this.#points.values().next().value?.vector.length;
  }
}

function slotOf({ systemId, slotName }: { systemId: string; slotName: string }): string {
  return JSON.stringify([systemId, slotName]);
}

/** 0 where one of them has no direction. */
function cosine(a: Vector, b: Vector): number {
  let dot = 0;
  let lengthA = 0;
  let lengthB = 0;
  for (let index = 0; index < a.length; index++) {
    dot += a[index]! * b[index]!;
    lengthA += a[index]! ** 2;
    lengthB += b[index]! ** 2;
  }
  return dot === 0 ? 0 : dot / Math.sqrt(lengthA * lengthB);
}
