/** What the Qdrant stand-in does with a request: collections, writes and reads of their points. */

import { QdrantCollection } from "./qdrant_collection.ts";
import { readPath, valueAt } from "./qdrant_filter.ts";
import {
  beyond,
  type Json,
  type JsonObject,
  type QdrantPoint,
  QdrantRefusal,
  readPayload,
  readPointId,
} from "./qdrant_point.ts";
import { showVectors } from "./qdrant_vectors.ts";

export interface QdrantRequest {
  method: string;
  path: string;
  query: URLSearchParams;
  body: JsonObject;
}

export interface QdrantStoreOptions {
  /** When a write that was not waited for is applied. */
  applyDelayMs: number;
  /** Be a server of before 1.16, which knows no `update_filter` and passes over it. */
  ignoresUpdateFilter: boolean;
}

const WRITES =
  /^(PUT|POST) \/(index|points\/batch|points(\/delete|\/payload(\/delete|\/clear)?)?)$/;

/** Operations of a batch, each as the request that does the same. */
const OPERATIONS: { [name: string]: string } = {
  upsert: "PUT /points",
  delete: "POST /points/delete",
  set_payload: "POST /points/payload",
  overwrite_payload: "PUT /points/payload",
  delete_payload: "POST /points/payload/delete",
  clear_payload: "POST /points/payload/clear",
};

/** The collections, and the writes that nobody waited for. */
export class QdrantStore {
  readonly #collections = new Map<string, QdrantCollection>();
  readonly #options: QdrantStoreOptions;
  #pending: (() => void)[] = [];
  #operation = 0;

  constructor(options: QdrantStoreOptions) {
    this.#options = options;
  }

  flush(): void {
    const pending = this.#pending;
    this.#pending = [];
    for (const apply of pending) apply();
  }

  /** The result. @throws {QdrantRefusal} */
  handle(request: QdrantRequest): Json {
    if (request.path === "/") {
      const version = this.#options.ignoresUpdateFilter ? "1.15.5" : "1.19.0";
      return { title: "qdrant - vector search engine", version };
    }
    if (request.path === "/collections") {
      return { collections: [...this.#collections.keys()].map((name) => ({ name })) };
    }
    const match = /^\/collections\/([^/]+)(\/.*)?$/.exec(request.path);
    if (match === null) beyond(`endpoint ${request.method} ${request.path}`);
    const name = decodeURIComponent(match[1]!);
    const route = `${request.method} ${match[2] ?? ""}`;
    if (WRITES.test(route) && !(route === "POST /points")) return this.#write(request, route, name);
    switch (route) {
      case "PUT ":
        if (this.#collections.has(name)) {
          throw new QdrantRefusal(409, `Wrong input: Collection \`${name}\` already exists!`);
        }
        this.#collections.set(
          name,
          new QdrantCollection(request.body, this.#options.ignoresUpdateFilter),
        );
        return true;
      case "DELETE ":
        return this.#collections.delete(name);
      case "GET /exists":
        return { exists: this.#collections.has(name) };
      case "GET ":
        return describe(this.#collection(name));
    }
    return read(this.#collection(name), route, request.body);
  }

  #collection(name: string): QdrantCollection {
    const collection = this.#collections.get(name);
    if (collection !== undefined) return collection;
    throw new QdrantRefusal(404, `Not found: Collection \`${name}\` doesn't exist!`);
  }

  #write({ query, body }: QdrantRequest, route: string, name: string): Json {
    const collection = this.#collection(name);
    const isBatch = route === "POST /points/batch";
    const writes = isBatch
      ? (body.operations as JsonObject[]).map(readOperation)
      : [{ route, body }];
    const waits = query.get("wait") === "true";
    if (waits) this.flush();
    // Not as a whole: what stands before the operation that is refused is done.
    const results = writes.map(({ route, body }) => {
      const apply = () => write(collection, route, body);
      if (waits) apply();
      else this.#pending.push(() => ignoreRefusal(apply));
      return {
        operation_id: this.#operation++,
        status: waits ? "completed" : "acknowledged",
      };
    });
    if (!waits) {
      const timer = setTimeout(() => this.flush(), this.#options.applyDelayMs);
      if (typeof timer === "object") timer.unref();
    }
    return isBatch ? results : results[0]!;
  }
}

/** What Qdrant finds wrong later is only in its log. */
function ignoreRefusal(apply: () => void): void {
  try {
    apply();
  } catch (error) {
    if (!(error instanceof QdrantRefusal)) throw error;
  }
}

function readOperation(operation: JsonObject): { route: string; body: JsonObject } {
  const names = Object.keys(operation);
  const route = OPERATIONS[names[0]!];
  if (names.length !== 1 || route === undefined) beyond(`operation ${names}`);
  return { route, body: operation[names[0]!] as JsonObject };
}

function write(collection: QdrantCollection, route: string, body: JsonObject): void {
  switch (route) {
    case "PUT /points":
      if (body.update_mode != null) beyond("update_mode");
      return collection.upsert(pointsOf(body), body.update_filter);
    case "POST /points/delete":
      return collection.delete(body);
    case "PUT /index":
      return collection.createIndex(body);
  }
  if (body.key != null) beyond("payload below a key");
  for (const point of collection.select(body)) {
    collection.setPayload(point, changedPayload(point.payload, route, body));
  }
}

function changedPayload(payload: JsonObject, route: string, body: JsonObject): JsonObject {
  const given = () => structuredClone(readPayload(body.payload));
  if (route === "POST /points/payload") return { ...payload, ...given() };
  if (route === "PUT /points/payload") return given();
  if (route === "POST /points/payload/clear") return {};
  const keys = body.keys as string[];
  return Object.fromEntries(Object.entries(payload).filter(([name]) => !keys.includes(name)));
}

/** A list of points, or the columns of a batch. */
function pointsOf(body: JsonObject): JsonObject[] {
  if (Array.isArray(body.points)) return body.points as JsonObject[];
  const { ids, vectors, payloads } = (body.batch ?? {}) as { [column: string]: Json[] };
  if (!Array.isArray(ids) || !Array.isArray(vectors) || ids.length !== vectors.length) {
    throw new QdrantRefusal(
      400,
      "Format error in JSON body: data did not match any variant of untagged enum PointInsertOperations",
    );
  }
  return ids.map((id, index) => ({
    id,
    vector: vectors[index]!,
    payload: payloads?.[index] ?? null,
  }));
}

function read(collection: QdrantCollection, route: string, body: JsonObject): Json {
  const limit = Number(body.limit ?? 10);
  if (Array.isArray(body.with_vector)) beyond("vectors by name");
  // Unlike the other reads, a query shows payloads only where it is asked to.
  const withPayload = body.with_payload ?? !route.endsWith("/query");
  const show = (point: QdrantPoint) => ({
    id: point.id,
    ...(withPayload === false ? {} : { payload: selectPayload(point.payload, withPayload) }),
    ...(body.with_vector === true ? { vector: showVectors(point.vectors) } : {}),
  });
  switch (route) {
    case "POST /points":
      return collection.select({ points: body.ids ?? null }).map(show);
    case "POST /points/count":
      return { count: collection.scroll(body.filter, null).length };
    case "POST /points/scroll": {
      const from = body.offset == null ? null : readPointId(body.offset);
      const found = collection.scroll(body.filter, from, limit + 1);
      return {
        points: found.slice(0, limit).map(show),
        next_page_offset: found[limit]?.id ?? null,
      };
    }
    case "POST /points/query": {
      const threshold = body.score_threshold as number | undefined;
      const found = collection.query(body)
        .filter(({ score }) => threshold === undefined || score >= threshold)
        .slice(Number(body.offset ?? 0), Number(body.offset ?? 0) + limit);
      return { points: found.map(({ point, score }) => ({ version: 0, score, ...show(point) })) };
    }
  }
  const id = /^GET \/points\/([^/]+)$/.exec(route)?.[1];
  if (id === undefined) beyond(`endpoint ${route}`);
  const point = collection.get(readPointId(/^\d+$/.test(id) ? Number(id) : id));
  if (point !== undefined) {
    return { id: point.id, payload: point.payload, vector: showVectors(point.vectors) };
  }
  throw new QdrantRefusal(404, `Not found: Point with id ${id} does not exists!`);
}

function selectPayload(payload: JsonObject, selector: Json): JsonObject {
  if (selector === true) return payload;
  if (!Array.isArray(selector)) beyond("selector by include and exclude");
  const selected: JsonObject = {};
  for (const key of selector.map(String)) {
    const path = readPath(key);
    if (path.length > 1) beyond("selector of a nested field");
    const value = valueAt(payload, path);
    if (value !== undefined) selected[path[0]!] = value;
  }
  return selected;
}

function describe(collection: QdrantCollection): Json {
  const { vectors, hnsw_config, quantization_config, strict_mode_config } = collection.config;
  return {
    status: "green",
    optimizer_status: "ok",
    indexed_vectors_count: 0,
    points_count: collection.size,
    segments_count: 1,
    config: {
      params: {
        vectors: vectors ?? {},
        shard_number: 1,
        replication_factor: 1,
        on_disk_payload: true,
      },
      hnsw_config: {
        m: 16,
        ef_construct: 100,
        full_scan_threshold: 10_000,
        ...(hnsw_config as JsonObject | undefined),
      },
      optimizer_config: { default_segment_number: 0, flush_interval_sec: 5 },
      quantization_config: quantization_config ?? null,
      ...(strict_mode_config == null ? {} : { strict_mode_config }),
    },
    payload_schema: collection.payloadSchema(),
  };
}
