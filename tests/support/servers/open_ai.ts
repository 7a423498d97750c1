/**
 * A strict stand-in for the embeddings endpoint of OpenAI's API, in this process: it takes what the
 * reference says and nothing else, and can be told to fail.
 * https://platform.openai.com/docs/api-reference/embeddings/create
 */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

export interface OpenAiServerOptions {
  /** Refuse requests without it. */
  apiKey?: string;
  /** What stands before `/embeddings`. Default: `/v1`. */
  prefix?: string;
  /** What it makes of `encoding_format: "base64"`: a server may refuse it, or not know it. Default: yes. */
  base64?: "yes" | "refused" | "ignored";
  /** Elements of a vector where none are asked for. Default: 4. */
  dimensions?: number;
}

/** What happens to one request instead of what it asks for. */
export interface OpenAiFailure {
  /** Default: 200, with `body`. */
  status?: number;
  headers?: Record<string, string>;
  /** Text as it is, else JSON. */
  body?: unknown;
  /** Changes an answer that is otherwise right. */
  change?: (answer: OpenAiAnswer) => unknown;
  /** `answer`: never; `body`: begins, and never ends. */
  hang?: "answer" | "body";
  /** Cut the connection in the middle of the answer. */
  drop?: boolean;
}

export interface OpenAiAnswer {
  object: "list";
  data: { object: "embedding"; index: number; embedding: number[] | string }[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}

export interface OpenAiRequest {
  input: string[];
  model: string;
  encoding_format: string;
  dimensions?: number;
}

export interface OpenAiServer extends AsyncDisposable {
  /** With the prefix. */
  url: string;
  /** What it was asked, refused requests included where they could be read. */
  requests: OpenAiRequest[];
  /** Of the requests that it has seen. */
  headers: IncomingMessage["headers"][];
  /** How many connections were closed by the other side before their answer was sent. */
  abandoned: number;
  /** Queues a failure: each request takes one. */
  fail(next: OpenAiFailure): void;
  /** Those that no request has taken. */
  failures: OpenAiFailure[];
}

/** The vector of a text: the same for the same text, exact as 32-bit floats. */
export function vectorOf(text: string, dimensions = 4): number[] {
  let hash = 2166136261;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 16777619);
  return Array.from({ length: dimensions }, (_, at) => ((hash >>> (at % 16)) & 0xffff) / 256 - 128);
}

const MOST_INPUTS = 2048;
const FIELDS = ["dimensions", "encoding_format", "input", "model", "user"];

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export async function startOpenAi(options: OpenAiServerOptions = {}): Promise<OpenAiServer> {
  const { prefix = "/v1", base64 = "yes" } = options;
  const failures: OpenAiFailure[] = [];
  const sockets = new Set<Socket>();
  const handle: OpenAiServer = {
    url: "",
    requests: [],
    headers: [],
    abandoned: 0,
    failures,
    fail: (next) => void failures.push(next),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };

  function answer(incoming: IncomingMessage, text: string): OpenAiAnswer {
    if (incoming.url !== `${prefix}/embeddings`) throw new Refusal(404, "Invalid URL");
    if (incoming.method !== "POST") throw new Refusal(405, "Not allowed");
    if (options.apiKey !== undefined) {
      const sent = incoming.headers.authorization;
      // As OpenAI does: a part of the key is said again.
      if (sent !== `Bearer ${options.apiKey}`) throw new Refusal(401, `Incorrect API key: ${sent}`);
    }
    if (incoming.headers["content-type"] !== "application/json") {
      throw new Refusal(415, "Unsupported content type");
    }
    const request = JSON.parse(text) as OpenAiRequest;
    handle.requests.push(request);
    for (const name of Object.keys(request)) {
      if (!FIELDS.includes(name)) throw new Refusal(400, `Unrecognized argument: ${name}`);
    }
    const { input, model, encoding_format, dimensions = options.dimensions ?? 4 } = request;
    if (typeof model !== "string") throw new Refusal(400, "you must provide a model parameter");
    if (!Array.isArray(input) || input.length === 0 || input.length > MOST_INPUTS) {
      throw new Refusal(400, "'$.input' is invalid");
    }
    for (const text of input) {
      if (typeof text !== "string" || text === "") throw new Refusal(400, `invalid: ${text}`);
    }
    if (!["float", "base64", undefined].includes(encoding_format)) {
      throw new Refusal(400, "encoding_format");
    }
    if (!(Number.isInteger(dimensions) && dimensions > 0)) throw new Refusal(400, "dimensions");
    if (encoding_format === "base64" && base64 === "refused") {
      throw new Refusal(400, "base64 encoding is not currently supported");
    }
    const encode = (vector: number[]) =>
      encoding_format === "base64" && base64 === "yes"
        ? Buffer.from(Float32Array.from(vector).buffer).toString("base64")
        : vector;
    return {
      object: "list",
      data: input.map((text, index) => ({
        object: "embedding",
        index,
        embedding: encode(vectorOf(text, dimensions)),
      })),
      model,
      usage: { prompt_tokens: 1, total_tokens: 1 },
    };
  }

  function respond(incoming: IncomingMessage, response: ServerResponse, text: string): void {
    const failure = failures.shift();
    let status = failure?.status ?? 200;
    let body: unknown = failure?.body;
    if (failure?.status === undefined && body === undefined) {
      try {
        const right = answer(incoming, text);
        body = failure?.change === undefined ? right : failure.change(right);
      } catch (error) {
        status = error instanceof Refusal ? error.status : 400;
        body = { error: { message: (error as Error).message, type: "invalid_request_error" } };
      }
    }
    if (failure?.hang === "answer") return;
    const sent = typeof body === "string" ? body : JSON.stringify(body ?? {});
    response.writeHead(status, {
      "content-type": "application/json",
      ...(failure?.hang === "body" || failure?.drop ? { "content-length": "100000" } : {}),
      ...failure?.headers,
    });
    if (failure?.drop) response.write("{", () => incoming.socket.destroy());
    else if (failure?.hang === "body") response.write("{");
    else response.end(sent);
  }

  const server = createServer((incoming, response) => {
    handle.headers.push(incoming.headers);
    let text = "";
    incoming.setEncoding("utf8").on("data", (part: string) => text += part);
    incoming.on("end", () => respond(incoming, response, text));
    response.on("close", () => {
      if (!response.writableEnded) handle.abandoned++;
    });
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  handle.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}${prefix}`;
  return handle;
}
