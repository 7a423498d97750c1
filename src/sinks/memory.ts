/** A sink that keeps its points in memory: for tests, examples and small tools. */

import type { MemoryRowSink } from "./memory_row_sink.ts";
import type { StoredPoint } from "./memory_rows.ts";
import { copyPayload } from "./payload.ts";
import type {
  RowPage,
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
  type VectorPoint,
} from "./sink.ts";
import type { Vector } from "../values/vector.ts";

export type { StoredPoint } from "./memory_rows.ts";

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
  /** Null before any row came. */
  #rows: MemoryRowSink | null = null;
  #loading: Promise<MemoryRowSink> | null = null;

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
      this.#rows?.remove(point.id);
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
        (table === undefined || this.#rows?.tableOf(id) === table) &&
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
  async apply(rows: readonly RowWrite[], position: StreamPosition | null): Promise<void> {
    (await this.#rowSink()).apply(rows, position);
  }

  /** The position that `apply` stored last. */
  async position(source: { systemId: string; slotName: string }): Promise<StreamPosition | null> {
    return (await this.#rowSink()).position(source);
  }

  /** What there is under these ids of rows; plain points are left out. */
  async fingerprints(ids: readonly string[]): Promise<Map<string, RowState>> {
    return (await this.#rowSink()).fingerprints(ids);
  }

  /** The vectors of points of rows. */
  async vectors(ids: readonly string[]): Promise<Map<string, RowVector>> {
    return (await this.#rowSink()).vectors(ids);
  }

  /** Points of a table, in the order in which they first came. */
  async scan(
    table: string,
    { after, limit }: { after: string | null; limit: number },
  ): Promise<RowPage> {
    return (await this.#rowSink()).scan(table, after, limit);
  }

  /** Removes all points of a table but those from a later position of the same system. */
  async deleteTable(table: string, position: SourcePosition): Promise<void> {
    (await this.#rowSink()).deleteTable(table, position);
  }

  /** The model of any point of the table that was made by another one. */
  async otherModel(table: string, model: string): Promise<string | null> {
    return (await this.#rowSink()).otherModel(table, model);
  }

  /** All calls wait for the same promise, and so go on in their order. */
  #rowSink(): Promise<MemoryRowSink> {
    return this.#loading ??= import("./memory_row_sink.ts").then(({ MemoryRowSink }) =>
      this.#rows = new MemoryRowSink(this.#points, () => this.#vectorCopier())
    );
  }

  #remove(ids: readonly string[]): void {
    for (const id of ids) {
      this.#points.delete(id);
      this.#rows?.remove(id);
    }
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
