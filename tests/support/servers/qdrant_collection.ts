/** A collection of the Qdrant stand-in: its points, what it refuses, filters and nearness. */

/** What Qdrant answers instead of a result. */
export class QdrantRefusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };
export type QdrantPointId = number | string;

export interface QdrantPoint {
  id: QdrantPointId;
  vector: Float32Array;
  payload: JsonObject;
}

const DISTANCES = ["Cosine", "Dot", "Euclid", "Manhattan"];
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const UUID_SIMPLE = /^[0-9a-f]{32}$/i;

/** Qdrant's own words for an id that is neither an unsigned integer nor a UUID. */
export function readPointId(id: Json | undefined): QdrantPointId {
  if (typeof id === "number" && Number.isInteger(id) && id >= 0) return id;
  const text = typeof id === "string" ? id.replace(/^urn:uuid:/, "") : "";
  if (UUID.test(text)) return text.toLowerCase();
  if (UUID_SIMPLE.test(text)) {
    return text.toLowerCase().replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  }
  throw new QdrantRefusal(
    400,
    `Format error in JSON body: value ${
      typeof id === "string" ? id : JSON.stringify(id)
    } is not a ` +
      "valid point ID, valid values are either an unsigned integer or a UUID",
  );
}

export class QdrantCollection {
  readonly config: { size: number; distance: string };
  readonly #points = new Map<QdrantPointId, QdrantPoint>();

  /** @param vectors of the request; collections of named vectors are beyond the stand-in. */
  constructor(vectors: Json | undefined) {
    const { size, distance } = (vectors ?? {}) as { size?: Json; distance?: Json };
    if (!Number.isInteger(size) || typeof distance !== "string" || !DISTANCES.includes(distance)) {
      throw new QdrantRefusal(
        400,
        "Format error in JSON body: data did not match any variant of untagged enum VectorsConfig",
      );
    }
    if (Number(size) < 1 || Number(size) > 65536) {
      throw new QdrantRefusal(
        422,
        `Validation error in JSON body: [vectors.size: value ${size} invalid, must be from 1 to 65536]`,
      );
    }
    this.config = { size: Number(size), distance };
  }

  get size(): number {
    return this.#points.size;
  }

  /** All or none: the first point that is wrong refuses the request. */
  upsert(points: JsonObject[], updateFilter: Json | undefined): void {
    const read = points.map((point): QdrantPoint => ({
      id: readPointId(point.id),
      vector: this.#readVector(point.vector),
      payload: readPayload(point.payload),
    }));
    for (const point of read) {
      const old = this.#points.get(point.id);
      if (old !== undefined && updateFilter != null && !matches(old, updateFilter)) continue;
      this.#points.set(point.id, point);
    }
  }

  select(selector: JsonObject): QdrantPoint[] {
    if (Array.isArray(selector.points)) {
      return selector.points.flatMap((id) => this.get(readPointId(id)) ?? []);
    }
    if (selector.filter != null) return this.filter(selector.filter);
    throw new QdrantRefusal(
      400,
      "Format error in JSON body: data did not match any variant of untagged enum PointsSelector",
    );
  }

  delete(selector: JsonObject): void {
    for (const { id } of this.select(selector)) this.#points.delete(id);
  }

  get(id: QdrantPointId): QdrantPoint | undefined {
    return this.#points.get(id);
  }

  /** In the order of their ids, as a scroll goes: numbers first. */
  filter(filter: Json | undefined): QdrantPoint[] {
    return [...this.#points.values()]
      .filter((point) => filter == null || matches(point, filter))
      .sort((a, b) => compareIds(a.id, b.id));
  }

  /** The nearest first. */
  query(
    vector: Json | undefined,
    filter: Json | undefined,
  ): { point: QdrantPoint; score: number }[] {
    const nearest = this.#readVector(vector);
    const sign = ["Cosine", "Dot"].includes(this.config.distance) ? -1 : 1;
    return this.filter(filter)
      .map((point) => ({ point, score: score(this.config.distance, nearest, point.vector) }))
      .sort((a, b) => sign * (a.score - b.score));
  }

  #readVector(vector: Json | undefined): Float32Array {
    if (!Array.isArray(vector) || vector.some((element) => typeof element !== "number")) {
      throw new QdrantRefusal(
        400,
        "Format error in JSON body: data did not match any variant of untagged enum VectorStruct",
      );
    }
    if (vector.length !== this.config.size) {
      throw new QdrantRefusal(
        400,
        `Wrong input: Vector dimension error: expected dim: ${this.config.size}, got ${vector.length}`,
      );
    }
    const stored = Float32Array.from(vector as number[]);
    // As Qdrant does: under Cosine a vector is stored with length 1.
    return this.config.distance === "Cosine" ? normalized(stored) : stored;
  }
}

export function readPayload(payload: Json | undefined): JsonObject {
  if (payload == null) return {};
  if (typeof payload === "object" && !Array.isArray(payload)) return payload;
  throw new QdrantRefusal(400, "Format error in JSON body: invalid type, expected a map");
}

function compareIds(a: QdrantPointId, b: QdrantPointId): number {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

function normalized(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  return length === 0 ? vector : vector.map((element) => element / length);
}

function score(distance: string, a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let index = 0; index < a.length; index++) {
    const [x, y] = [a[index]!, b[index]!];
    sum += distance === "Euclid"
      ? (x - y) ** 2
      : distance === "Manhattan"
      ? Math.abs(x - y)
      : x * y;
  }
  return distance === "Euclid" ? Math.sqrt(sum) : sum;
}

/** `must`, `should`, `must_not` over match, range, has_id, is_empty, is_null and nested filters. */
function matches(point: QdrantPoint, filter: Json): boolean {
  const { must, should, must_not: mustNot, ...rest } = filter as JsonObject;
  if (Object.keys(rest).length > 0) beyond(`filter clause ${Object.keys(rest)}`);
  const holds = (condition: Json) => meets(point, condition as JsonObject);
  return listOf(must).every(holds) && !listOf(mustNot).some(holds) &&
    (should == null || listOf(should).some(holds));
}

function listOf(conditions: Json | undefined): Json[] {
  return conditions == null ? [] : Array.isArray(conditions) ? conditions : [conditions];
}

function meets(point: QdrantPoint, condition: JsonObject): boolean {
  if (Array.isArray(condition.has_id)) return condition.has_id.map(readPointId).includes(point.id);
  if (condition.is_empty != null) return valuesAt(point, keyOf(condition.is_empty)).length === 0;
  if (condition.is_null != null) return rawAt(point, keyOf(condition.is_null)) === null;
  if (typeof condition.key !== "string") return matches(point, condition);
  const values = valuesAt(point, condition.key);
  if (condition.match != null) {
    const { value, any, except } = condition.match as JsonObject;
    if (value !== undefined) return values.includes(value);
    if (Array.isArray(any)) return values.some((found) => any.includes(found));
    if (Array.isArray(except)) return values.some((found) => !except.includes(found));
  }
  if (condition.range != null) {
    const { gt, gte, lt, lte } = condition.range as { [bound: string]: number | null };
    return values.some((found) =>
      typeof found === "number" && (gt == null || found > gt) && (gte == null || found >= gte) &&
      (lt == null || found < lt) && (lte == null || found <= lte)
    );
  }
  beyond(`condition ${JSON.stringify(condition)}`);
}

function keyOf(condition: Json): string {
  return String((condition as JsonObject).key);
}

function rawAt(point: QdrantPoint, key: string): Json | undefined {
  let found: Json | undefined = point.payload;
  for (const part of key.split(".")) found = (found as JsonObject | null | undefined)?.[part];
  return found;
}

function valuesAt(point: QdrantPoint, key: string): Json[] {
  const found = rawAt(point, key);
  return found == null ? [] : Array.isArray(found) ? found : [found];
}

/** Rather no answer than one that Qdrant would not give. */
export function beyond(what: string): never {
  throw new QdrantRefusal(501, `The stand-in has no ${what}`);
}
