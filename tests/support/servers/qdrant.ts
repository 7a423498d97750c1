/**
 * A strict stand-in for Qdrant, in this process: it keeps points, answers with Qdrant's own statuses
 * and texts, checks each request against Qdrant's OpenAPI document where that is at hand, and can be
 * told to fail.
 */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { loadQdrantOpenApi } from "./qdrant_openapi.ts";
import { type Json, type JsonObject, QdrantRefusal, readPointId } from "./qdrant_point.ts";
import { type QdrantRequest, QdrantStore } from "./qdrant_store.ts";

export interface QdrantServerOptions {
  /** Refuse requests without it. */
  apiKey?: string;
  /** Serve under this path, as a proxy would: `/vectors`. */
  prefix?: string;
  /** When a write that was not waited for is applied. Default 100. */
  applyDelayMs?: number;
  /** Be a server of before 1.16, which knows no `update_filter` and passes over it. Default false. */
  ignoresUpdateFilter?: boolean;
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
  requests: { method: string; path: string; query: string; bytes: number }[];
  /** Queues a failure: each request takes one. */
  fail(next: QdrantFailure): void;
  close(): Promise<void>;
}

const MAX_BODY_BYTES = 33_554_432;

export async function startQdrant(options: QdrantServerOptions = {}): Promise<QdrantServer> {
  const openApi = loadQdrantOpenApi();
  const store = new QdrantStore({
    applyDelayMs: options.applyDelayMs ?? 100,
    ignoresUpdateFilter: options.ignoresUpdateFilter ?? false,
  });
  const failures: QdrantFailure[] = [];
  const requests: QdrantServer["requests"] = [];
  const sockets = new Set<Socket>();

  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const text = await readText(incoming);
    const url = new URL(incoming.url!, "http://localhost");
    const prefix = options.prefix ?? "";
    requests.push({
      method: incoming.method!,
      path: url.pathname,
      query: url.search,
      bytes: Number(incoming.headers["content-length"] ?? 0),
    });
    const failure = failures.shift();
    const answer = failure !== undefined && !failure.afterWrite ? null : respond(() => {
      authorize(incoming, options.apiKey);
      if (!url.pathname.startsWith(prefix)) throw new QdrantRefusal(404, "");
      const request: QdrantRequest = {
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

function checkIds({ path, body }: Pick<QdrantRequest, "path" | "body">): void {
  if (!path.includes("/points")) return;
  if (Array.isArray(body.operations)) {
    for (const operation of body.operations) {
      for (const part of Object.values(operation as JsonObject)) {
        checkIds({ path, body: part as JsonObject });
      }
    }
  }
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
