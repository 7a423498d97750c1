/** The points of a collection of the Qdrant stand-in, found by id, by indexed values, and in order. */

import { readPath, valuesAt } from "./qdrant_filter.ts";
import {
  compareIds,
  type Json,
  type JsonObject,
  type QdrantPoint,
  type QdrantPointId,
  readPointId,
} from "./qdrant_point.ts";

/** An index of a payload field. */
interface FieldIndex {
  path: readonly string[];
  schema: Json;
  points: Map<Json, Set<QdrantPoint>>;
}

export class QdrantPoints {
  readonly #points = new Map<QdrantPointId, QdrantPoint>();
  readonly #indexes = new Map<string, FieldIndex>();
  #order: QdrantPoint[] | null = null;

  get size(): number {
    return this.#points.size;
  }

  get indexes(): ReadonlyMap<string, { schema: Json }> {
    return this.#indexes;
  }

  get(id: QdrantPointId): QdrantPoint | undefined {
    return this.#points.get(id);
  }

  set(point: QdrantPoint): void {
    this.delete(point.id);
    this.#points.set(point.id, point);
    this.#order = null;
    for (const index of this.#indexes.values()) add(index, point);
  }

  setPayload(point: QdrantPoint, payload: JsonObject): void {
    for (const index of this.#indexes.values()) remove(index, point);
    point.payload = payload;
    for (const index of this.#indexes.values()) add(index, point);
  }

  delete(id: QdrantPointId): void {
    const point = this.#points.get(id);
    if (point === undefined) return;
    this.#points.delete(id);
    this.#order = null;
    for (const index of this.#indexes.values()) remove(index, point);
  }

  createIndex(field: string, schema: Json): void {
    const index: FieldIndex = { path: readPath(field), schema, points: new Map() };
    for (const point of this.#points.values()) add(index, point);
    this.#indexes.set(field, index);
  }

  /** In the order of their ids, as a scroll goes: numbers first. */
  inOrder(): readonly QdrantPoint[] {
    return this.#order ??= [...this.#points.values()].sort((a, b) => compareIds(a.id, b.id));
  }

  /** All points that a filter may match, and few others. */
  candidates(filter: Json): Iterable<QdrantPoint> {
    return this.#candidates(filter as JsonObject) ?? this.#points.values();
  }

  /** null: not known. */
  #candidates(condition: JsonObject): Set<QdrantPoint> | null {
    if (Array.isArray(condition.has_id)) {
      return new Set(condition.has_id.flatMap((id) => this.get(readPointId(id)) ?? []));
    }
    if (typeof condition.key === "string") return this.#indexed(condition.key, condition.match);
    const { must, should } = condition;
    for (const part of Array.isArray(must) ? must : []) {
      const found = this.#candidates(part as JsonObject);
      if (found !== null) return found;
    }
    if (!Array.isArray(should) || should.length === 0) return null;
    const union = new Set<QdrantPoint>();
    for (const part of should) {
      const found = this.#candidates(part as JsonObject);
      if (found === null) return null;
      for (const point of found) union.add(point);
    }
    return union;
  }

  #indexed(key: string, match: Json | undefined): Set<QdrantPoint> | null {
    const index = this.#indexes.get(key);
    const { value, any } = (match ?? {}) as JsonObject;
    if (index === undefined || (value === undefined && !Array.isArray(any))) return null;
    const values = value === undefined ? any as Json[] : [value];
    return new Set(values.flatMap((value) => [...index.points.get(value) ?? []]));
  }
}

function add(index: FieldIndex, point: QdrantPoint): void {
  for (const value of valuesAt(point.payload, index.path)) {
    const points = index.points.get(value) ?? new Set();
    index.points.set(value, points.add(point));
  }
}

function remove(index: FieldIndex, point: QdrantPoint): void {
  for (const value of valuesAt(point.payload, index.path)) {
    const points = index.points.get(value);
    points?.delete(point);
    if (points?.size === 0) index.points.delete(value);
  }
}
