/** A collection of the Qdrant stand-in: its points, its payload indexes, and what it refuses. */

import { compileFilter, type FilteredField } from "./qdrant_filter.ts";
import {
  beyond,
  compareIds,
  type Json,
  type JsonObject,
  type QdrantPoint,
  type QdrantPointId,
  QdrantRefusal,
  readPayload,
  readPointId,
} from "./qdrant_point.ts";
import { QdrantPoints } from "./qdrant_points.ts";
import {
  checkQuantization,
  greaterIsNearer,
  paramsOf,
  readVector,
  readVectors,
  readVectorsConfig,
  score,
  type VectorParams,
} from "./qdrant_vectors.ts";

/** What a collection is made with. */
const CREATE = ["vectors", "quantization_config", "hnsw_config", "strict_mode_config"];

export class QdrantCollection {
  /** As it was made. */
  readonly config: JsonObject;
  readonly #vectors: Map<string, VectorParams>;
  readonly #ignoresUpdateFilter: boolean;
  readonly #points = new QdrantPoints();

  /** @param config body of the request that makes it. */
  constructor(config: JsonObject, ignoresUpdateFilter: boolean) {
    const others = Object.keys(config).filter((name) => !CREATE.includes(name));
    if (others.length > 0) beyond(`collection with ${others}`);
    checkQuantization(config.quantization_config);
    this.#vectors = readVectorsConfig(config.vectors);
    this.config = config;
    this.#ignoresUpdateFilter = ignoresUpdateFilter;
  }

  get size(): number {
    return this.#points.size;
  }

  /** All or none: the first point that is wrong refuses the request. */
  upsert(points: JsonObject[], updateFilter: Json | undefined): void {
    const read = points.map((point): QdrantPoint => ({
      id: readPointId(point.id),
      vectors: readVectors(point.vector, this.#vectors),
      payload: readPayload(point.payload),
    }));
    const filtered = updateFilter != null && !this.#ignoresUpdateFilter;
    const mayReplace = filtered ? this.#compile(updateFilter, "update") : () => true;
    // As Qdrant does: it looks at what is there before the first point is written.
    const left = new Set(
      read.flatMap(({ id }) => this.#points.get(id) ?? []).filter((old) => !mayReplace(old)),
    );
    const written = read.filter(({ id }) => !left.has(this.#points.get(id)!));
    for (const point of written) this.#points.set(point);
  }

  /** The points that an update is for. As Qdrant does: a list of ids wins over a filter. */
  select(selector: JsonObject): QdrantPoint[] {
    if (Array.isArray(selector.points)) {
      return selector.points.flatMap((id) => this.get(readPointId(id)) ?? []);
    }
    if (selector.filter != null) {
      const matches = this.#compile(selector.filter, "update");
      return [...this.#points.candidates(selector.filter)].filter(matches);
    }
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

  setPayload(point: QdrantPoint, payload: JsonObject): void {
    this.#points.setPayload(point, payload);
  }

  /** From an id on, in the order of ids. @param limit no more than these */
  scroll(filter: Json | undefined, from: QdrantPointId | null, limit = Infinity): QdrantPoint[] {
    const matches = filter == null ? () => true : this.#compile(filter, "retrieve");
    const found: QdrantPoint[] = [];
    for (const point of this.#points.inOrder()) {
      if (found.length >= limit) break;
      if ((from === null || compareIds(point.id, from) >= 0) && matches(point)) found.push(point);
    }
    return found;
  }

  /** The nearest first. */
  query(
    { query, using, filter }: JsonObject,
  ): { point: QdrantPoint; score: number }[] {
    const name = typeof using === "string" ? using : "";
    const params = paramsOf(this.#vectors, name);
    const nearest = readVector((query as JsonObject | undefined)?.nearest ?? query, params);
    const sign = greaterIsNearer(params.distance) ? -1 : 1;
    return this.scroll(filter, null)
      .filter(({ vectors }) => vectors.has(name))
      .map((point) => ({ point, score: score(params.distance, nearest, point.vectors.get(name)!) }))
      .sort((a, b) => sign * (a.score - b.score));
  }

  /** As Qdrant does: an index of another type gives way to the new one. */
  createIndex({ field_name, field_schema }: JsonObject): void {
    if (field_schema == null) beyond("index of a type that is guessed");
    this.#points.createIndex(String(field_name), field_schema);
  }

  /** `payload_schema` of what tells about a collection. */
  payloadSchema(): Json {
    return Object.fromEntries(Array.from(this.#points.indexes, ([field, { schema }]) => [field, {
      data_type: indexType(schema),
      points: this.size,
      ...(typeof schema === "string" ? {} : { params: schema }),
    }]));
  }

  #compile(filter: Json, use: "update" | "retrieve"): (point: QdrantPoint) => boolean {
    const fields: FilteredField[] = [];
    const matches = compileFilter(filter, fields);
    const strict = this.config.strict_mode_config as JsonObject | null | undefined;
    if (strict?.enabled === true && strict[`unindexed_filtering_${use}`] === false) {
      for (const { key, types } of fields) this.#requireIndex(key, types);
    }
    return matches;
  }

  #requireIndex(key: string, types: readonly string[]): void {
    const schema = this.#points.indexes.get(key)?.schema;
    if (schema !== undefined && types.includes(indexType(schema))) return;
    throw new QdrantRefusal(
      400,
      `Bad request: Index required but not found for "${key}" of one of the following types: ` +
        `[${types.join(", ")}]. Help: Create an index for this key or use a different filter.`,
    );
  }
}

function indexType(schema: Json): string {
  return String(typeof schema === "string" ? schema : (schema as JsonObject).type);
}
