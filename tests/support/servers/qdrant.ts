/**
 * A strict stand-in for Qdrant, in this process: it keeps points, answers with Qdrant's own statuses
 * and texts, checks each request against Qdrant's OpenAPI document where that is at hand, and can be
 * told to fail.
 */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import {
  beyond,
  type Json,
  type JsonObject,
  QdrantCollection,
  type QdrantPoint,
  QdrantRefusal,
  readPayload,
  readPointId,
} from "./qdrant_collection.ts";
import { loadQdrantOpenApi } from "./qdrant_openapi.ts";

export interface QdrantServerOptions {
  /** Refuse requests without it. */
  apiKey?: string;
  /** Serve under this path, as a proxy would: `/vectors`. */
  prefix?: string;
  /** When a write that was not waited for is applied. Default 100. */
  applyDelayMs?: number;
}

/** What happens to one request instead of, or after, what it asks for. */
export interface QdrantFailure {
  /** Answer with this status. */
  status?: number;
  /** Default: an error in Qdrant's form. */
  body?: unknown;
  headers?: Record<string, string>;
  /** Do what was asked first, so that only the answer is lost. */
  afterWrite?: boolean;
  /** Never answer. */
  hang?: boolean;
  /** Cut the connection. */
  drop?: boolean;
}

export interface QdrantServer extends AsyncDisposable {
  url: string;
  /** Every request so far, refused ones too. */
  requests: { method: string; path: string; query: string }[];
  /** Queues a failure: each request takes one. */
  fail(next: QdrantFailure): void;
  close(): Promise<void>;
}

interface Request {
  method: string;
  path: string;
  query: URLSearchParams;
  body: JsonObject;
}

const MAX_BODY_BYTES = 33_554_432;
const WRITES = /^(PUT|POST) \/points(\/delete|\/payload(\/delete|\/clear)?)?$/;

export async function startQdrant(options: QdrantServerOptions = {}): Promise<QdrantServer> {
  const openApi = loadQdrantOpenApi();
  const store = new Store(options.applyDelayMs ?? 100);
  const failures: QdrantFailure[] = [];
  const requests: QdrantServer["requests"] = [];
  const sockets = new Set<Socket>();

  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const text = await readText(incoming);
    const url = new URL(incoming.url!, "http://localhost");
    const prefix = options.prefix ?? "";
    requests.push({ method: incoming.method!, path: url.pathname, query: url.search });
    const failure = failures.shift();
    const answer = failure !== undefined && !failure.afterWrite ? null : respond(() => {
      authorize(incoming, options.apiKey);
      if (!url.pathname.startsWith(prefix)) throw new QdrantRefusal(404, "");
      const request: Request = {
        method: incoming.method!,
        path: url.pathname.slice(prefix.length),
        query: url.searchParams,
        body: readBody(incoming, text),
      };
      // First by hand, in Qdrant's own words; then by the document what was not looked at.
      checkIds(request);
      openApi?.check(request.method, request.path, request.query, request.body);
      return store.handle(request);
    });
    if (failure?.drop) {
      // In the middle of an answer: a request on a reused connection that was cut before it is sent
      // again by some runtimes' fetch, unseen.
      response.writeHead(200, { "content-length": "100" });
      response.write("{", () => incoming.socket.destroy());
      return;
    }
    if (failure?.hang) return;
    const { status, body } = failure === undefined ? answer! : {
      status: failure.status ?? 500,
      body: failure.body ?? errorBody("Service internal error: told to fail"),
    };
    const isText = typeof body === "string";
    response.writeHead(status, {
      "content-type": isText ? "text/plain" : "application/json",
      ...failure?.headers,
    });
    response.end(isText ? body : JSON.stringify(body));
  }

  const server = createServer((incoming, response) => {
    handle(incoming, response).catch((error) => {
      response.writeHead(500);
      response.end(String(error));
    });
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  let closed: Promise<void> | undefined;
  const close = () =>
    closed ??= new Promise<void>((resolve) => {
      store.flush();
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}${options.prefix ?? ""}`,
    requests,
    fail: (next) => void failures.push(next),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** The collections, and the writes that nobody waited for. */
class Store {
  readonly #collections = new Map<string, QdrantCollection>();
  readonly #applyDelayMs: number;
  #pending: (() => void)[] = [];
  #operation = 0;

  constructor(applyDelayMs: number) {
    this.#applyDelayMs = applyDelayMs;
  }

  flush(): void {
    const pending = this.#pending;
    this.#pending = [];
    for (const apply of pending) apply();
  }

  handle(request: Request): Json {
    if (request.path === "/") {
      return { title: "qdrant - vector search engine", version: "1.19.0" };
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
        this.#collections.set(name, new QdrantCollection(request.body.vectors));
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

  #write(request: Request, route: string, name: string): Json {
    const collection = this.#collection(name);
    const operation_id = this.#operation++;
    const apply = () => write(collection, route, request.body);
    if (request.query.get("wait") === "true") {
      this.flush();
      apply();
      return { operation_id, status: "completed" };
    }
    // What Qdrant finds wrong later is only in its log.
    this.#pending.push(() => respond(() => (apply(), null)));
    const timer = setTimeout(() => this.flush(), this.#applyDelayMs);
    if (typeof timer === "object") timer.unref();
    return { operation_id, status: "acknowledged" };
  }
}

function write(collection: QdrantCollection, route: string, body: JsonObject): void {
  switch (route) {
    case "PUT /points":
      return collection.upsert(pointsOf(body), body.update_filter);
    case "POST /points/delete":
      return collection.delete(body);
  }
  for (const point of collection.select(body)) {
    if (route === "POST /points/payload") Object.assign(point.payload, readPayload(body.payload));
    else if (route === "PUT /points/payload") point.payload = readPayload(body.payload);
    else if (route === "POST /points/payload/clear") point.payload = {};
    else for (const key of body.keys as string[]) delete point.payload[key];
  }
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
  // Unlike the other reads, a query shows payloads only where it is asked to.
  const withPayload = body.with_payload ?? !route.endsWith("/query");
  const show = (point: QdrantPoint) => ({
    id: point.id,
    ...(withPayload === true ? { payload: point.payload } : {}),
    ...(body.with_vector === true ? { vector: [...point.vector] } : {}),
  });
  if (Array.isArray(body.with_payload) || Array.isArray(body.with_vector)) beyond("selectors");
  switch (route) {
    case "POST /points":
      return collection.select({ points: body.ids ?? null }).map(show);
    case "POST /points/count":
      return { count: collection.filter(body.filter).length };
    case "POST /points/scroll": {
      const all = collection.filter(body.filter);
      const from = body.offset == null ? 0 : all.findIndex(({ id }) => id === body.offset);
      const next = all[from + limit];
      return {
        points: all.slice(from, from + limit).map(show),
        next_page_offset: next?.id ?? null,
      };
    }
    case "POST /points/query": {
      const query = (body.query as JsonObject | undefined)?.nearest ?? body.query;
      const threshold = body.score_threshold as number | undefined;
      const found = collection.query(query, body.filter)
        .filter(({ score }) => threshold === undefined || score >= threshold)
        .slice(Number(body.offset ?? 0), Number(body.offset ?? 0) + limit);
      return { points: found.map(({ point, score }) => ({ version: 0, score, ...show(point) })) };
    }
  }
  const id = /^GET \/points\/([^/]+)$/.exec(route)?.[1];
  if (id === undefined) beyond(`endpoint ${route}`);
  const point = collection.get(readPointId(/^\d+$/.test(id) ? Number(id) : id));
  if (point !== undefined) {
    return { id: point.id, payload: point.payload, vector: [...point.vector] };
  }
  throw new QdrantRefusal(404, `Not found: Point with id ${id} does not exists!`);
}

function describe({ config, size }: QdrantCollection): Json {
  return {
    status: "green",
    optimizer_status: "ok",
    indexed_vectors_count: 0,
    points_count: size,
    segments_count: 1,
    config: {
      params: { vectors: config, shard_number: 1, replication_factor: 1, on_disk_payload: true },
      hnsw_config: { m: 16, ef_construct: 100, full_scan_threshold: 10_000 },
      optimizer_config: { default_segment_number: 0, flush_interval_sec: 5 },
    },
    payload_schema: {},
  };
}

function respond(handle: () => Json): { status: number; body: unknown } {
  try {
    return { status: 200, body: { result: handle(), status: "ok", time: 0.0001 } };
  } catch (error) {
    if (!(error instanceof QdrantRefusal)) throw error;
    const isText = error.status === 401 || error.message === "";
    return { status: error.status, body: isText ? error.message : errorBody(error.message) };
  }
}

function errorBody(error: string): unknown {
  return { status: { error }, time: 0 };
}

function authorize({ headers }: IncomingMessage, apiKey: string | undefined): void {
  if (apiKey === undefined) return;
  const given = headers["api-key"] ?? headers.authorization?.replace(/^Bearer /, "");
  if (given === undefined) {
    throw new QdrantRefusal(401, "Must provide an API key or an Authorization bearer token");
  }
  if (given !== apiKey) throw new QdrantRefusal(401, "Invalid API key or JWT");
}

function checkIds({ path, body }: Request): void {
  if (!path.includes("/points")) return;
  if (Array.isArray(body.ids)) body.ids.forEach(readPointId);
  if (!Array.isArray(body.points)) return;
  for (const point of body.points) {
    const isPoint = typeof point === "object" && point !== null && !Array.isArray(point);
    readPointId(isPoint ? point.id : point);
  }
}

async function readText(incoming: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const decoder = new TextDecoder();
  return chunks.map((chunk) => decoder.decode(chunk, { stream: true })).join("") + decoder.decode();
}

function readBody({ headers }: IncomingMessage, text: string): JsonObject {
  if (text === "") return {};
  const bytes = Number(headers["content-length"] ?? text.length);
  if (bytes > MAX_BODY_BYTES) {
    throw new QdrantRefusal(
      400,
      `Payload error: JSON payload (${bytes} bytes) is larger than allowed (limit: ${MAX_BODY_BYTES} bytes).`,
    );
  }
  if (!headers["content-type"]?.includes("application/json")) {
    throw new QdrantRefusal(400, "Content type error");
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new QdrantRefusal(400, `Format error in JSON body: ${(error as Error).message}`);
  }
}
