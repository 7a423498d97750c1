/** A sink that keeps its points in memory: for tests, examples and small tools. */

import { copyPayload } from "./payload.ts";
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
 * does: what it is given is copied, payloads go through JSON, all vectors have one length.
 *
 * @example
 * ```ts
 * const sink = new MemorySink();
 * await sink.upsert({ id: 7, vector: [1, 0], payload: { title: "Seven" } });
 * sink.get("7")?.payload.title; // "Seven"
 * (await sink.search([1, 0.1]))[0]?.id; // "7"
 * ```
 */
export class MemorySink extends Sink {
  readonly #points = new Map<string, StoredPoint>();

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
    let dimensions = this.#dimensions();
    const stored = points.map((point): StoredPoint => {
      checkVector(point.vector, "memory");
      dimensions ??= point.vector.length;
      if (point.vector.length !== dimensions) {
        throw dimensionError("memory", "MemorySink", dimensions, point.vector.length);
      }
      return {
        id: pointIdText(point.id, "memory"),
        vector: point.vector.slice(),
        payload: copyPayload(point.payload, "memory"),
      };
    });
    for (const point of stored) this.#points.set(point.id, point);
  }

  /** Missing ids are no error. */
  // deno-lint-ignore require-await -- what it throws must reject
  override async deleteMany(ids: readonly PointId[]): Promise<void> {
    for (const id of ids.map((id) => pointIdText(id, "memory"))) this.#points.delete(id);
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

  /** The nearest points by cosine similarity, the nearest first. `limit` is 10 by default. */
  // deno-lint-ignore require-await -- what it throws must reject
  async search(
    vector: VectorPoint["vector"],
    options: { limit?: number } = {},
  ): Promise<SearchHit[]> {
    checkVector(vector, "memory");
    const dimensions = this.#dimensions();
    if (dimensions !== undefined && vector.length !== dimensions) {
      throw dimensionError("memory", "MemorySink", dimensions, vector.length);
    }
    return this.points()
      .map(({ id, vector: other, payload }) => ({ id, score: cosine(vector, other), payload }))
      .sort((a, b) => b.score - a.score)
      .slice(0, options.limit ?? 10);
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
