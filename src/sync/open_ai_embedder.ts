/**
 * A client of the embeddings endpoint of OpenAI's API, which many servers speak: OpenAI, Ollama, vLLM,
 * llama.cpp, LM Studio. https://platform.openai.com/docs/api-reference/embeddings/create
 */

import { LONGEST_TIMER_MS } from "../backoff.ts";
import type { Vector } from "../values/vector.ts";
import { variables } from "../wire/environment.ts";
import {
  answerError,
  checkVectors,
  type Embedder,
  EmbedError,
  optionsError,
  retryAfter,
  statusError,
} from "./embedder.ts";

const OPEN_AI_URL = "https://api.openai.com/v1";
/** Beyond that an answer is none: 16,384 dimensions as text, and something around them. */
const MAX_BYTES_PER_TEXT = 512 * 1024;
const MAX_BYTES = 1024 * 1024;

/** Which model, and where. */
export interface OpenAiEmbedderOptions {
  /** As the server calls it: `"text-embedding-3-small"`. */
  model: string;
  /** What stands before `/embeddings`. Default: OpenAI's own, `https://api.openai.com/v1`. */
  url?: string;
  /**
   * Sent as `Authorization: Bearer …`; a function is asked for each request. Default: `OPENAI_API_KEY` for
   * OpenAI's own host, where the runtime has an environment; none for other hosts.
   */
  apiKey?: string | (() => string | Promise<string>);
  /** Elements of a vector, for models that can be asked for fewer. Default: the model's own. */
  dimensions?: number;
  /** How long a request may take. Default: 30,000. */
  timeoutMs?: number;
  /** What requests are made with. Default: the runtime's own. */
  fetch?: typeof fetch;
  /** More of them, for each request: those of a proxy. */
  headers?: Record<string, string>;
}

/**
 * An embedder that asks a server for one call's texts in one request, once. Put `batchEmbedder` around it
 * for batches and for what is to be tried again.
 *
 * @throws {EmbedError} `embed-options`, at once; every other kind, from a call.
 *
 * @example
 * ```ts
 * const local = openAiEmbedder({ model: "nomic-embed-text", url: "http://localhost:11434/v1" });
 * const [vector] = await local(["a text"], { signal: AbortSignal.timeout(5000) });
 * ```
 */
export function openAiEmbedder(options: OpenAiEmbedderOptions): Embedder {
  const client = new OpenAiClient(options);
  const embed = (texts: readonly string[], context: { signal: AbortSignal }) =>
    client.embed(texts, context?.signal);
  return Object.defineProperties(embed, {
    model: { value: options.model, enumerable: true },
    dimensions: { value: options.dimensions, enumerable: true },
  }) as Embedder;
}

class OpenAiClient {
  readonly #options: OpenAiEmbedderOptions;
  readonly #url: URL;
  readonly #timeoutMs: number;
  readonly #apiKey: OpenAiEmbedderOptions["apiKey"];
  /** Half the bytes, and no digits to read; but some servers refuse to be asked for it. */
  #base64: "unknown" | "yes" | "no" = "unknown";

  constructor(options: OpenAiEmbedderOptions) {
    const { model, url = OPEN_AI_URL, dimensions, timeoutMs = 30_000 } = options;
    if (typeof model !== "string" || model === "") {
      throw optionsError("No model is named", 'Pass model: "text-embedding-3-small", for one');
    }
    if (dimensions !== undefined && !(Number.isInteger(dimensions) && dimensions > 0)) {
      throw optionsError(
        "dimensions is no whole number from 1",
        "Leave it out for the model's own",
      );
    }
    if (!(timeoutMs > 0)) throw optionsError("timeoutMs is no number above 0", "Leave it out");
    this.#url = embeddingsUrl(url);
    this.#options = options;
    this.#timeoutMs = timeoutMs;
    // A key of OpenAI's is nobody else's business.
    const isOpenAi = this.#url.hostname === new URL(OPEN_AI_URL).hostname;
    this.#apiKey = options.apiKey ??
      (isOpenAi ? variables(["OPENAI_API_KEY"])["OPENAI_API_KEY"] : undefined);
  }

  async embed(
    texts: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<readonly Vector[]> {
    signal?.throwIfAborted();
    if (texts.length === 0) return [];
    const request = new AbortController();
    const end = () => request.abort(signal!.reason);
    signal?.addEventListener("abort", end);
    const timer = this.#timeoutMs > LONGEST_TIMER_MS
      ? undefined
      : setTimeout(() => request.abort(), this.#timeoutMs);
    try {
      return await this.#ask(texts, request.signal);
    } catch (error) {
      signal?.throwIfAborted();
      if (request.signal.aborted) {
        throw this.#unavailable(`did not answer within ${this.#timeoutMs} ms`, "Raise timeoutMs");
      }
      if (error instanceof EmbedError) throw error;
      // Its message may quote what was sent.
      const { name, code, cause } = error as {
        name?: string;
        code?: unknown;
        cause?: { code?: unknown };
      };
      const said = [cause?.code, code, name].find((word) => /^\w{1,60}$/.test(`${word ?? ""}`));
      throw this.#unavailable(
        `cannot be reached: ${said ?? "unknown error"}`,
        "Check that the server runs, and the url",
      );
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
    }
  }

  async #ask(texts: readonly string[], signal: AbortSignal): Promise<readonly Vector[]> {
    let response = await this.#post(texts, this.#base64 !== "no", signal);
    let isRefusal = response.status === 400 || response.status === 422;
    if (isRefusal && this.#base64 === "unknown") {
      await response.body?.cancel();
      response = await this.#post(texts, false, signal);
      isRefusal = response.status === 400 || response.status === 422;
      if (response.ok) this.#base64 = "no";
    } else if (response.ok && this.#base64 === "unknown") {
      this.#base64 = "yes";
    }
    if (!response.ok) throw await this.#refused(response);
    const text = await readText(response, MAX_BYTES + texts.length * MAX_BYTES_PER_TEXT);
    if (text === null) throw answerError("it is larger than any can be");
    const vectors = readAnswer(text, texts.length);
    checkVectors(vectors, texts.length, this.#options.dimensions);
    return vectors;
  }

  async #post(
    input: readonly string[],
    base64: boolean,
    signal: AbortSignal,
  ): Promise<Response> {
    const { model, dimensions } = this.#options;
    const request = this.#options.fetch ?? globalThis.fetch;
    return await request(this.#url, {
      method: "POST",
      headers: await this.#headers(),
      body: JSON.stringify({
        model,
        input,
        encoding_format: base64 ? "base64" : "float",
        ...(dimensions === undefined ? {} : { dimensions }),
      }),
      // Who is redirected to would be told the key, where it is in a header of the user's.
      redirect: "manual",
      signal,
    });
  }

  async #headers(): Promise<Headers> {
    let key: string | undefined;
    try {
      key = typeof this.#apiKey === "function" ? await this.#apiKey() : this.#apiKey;
    } catch {
      throw new EmbedError("The function that gives the apiKey failed", {
        kind: "embed-unavailable",
        hint: "Catch and print its error there: it is not repeated, since it may hold the key",
        retryable: true,
      });
    }
    try {
      const headers = new Headers(this.#options.headers);
      headers.set("content-type", "application/json");
      headers.set("accept", "application/json");
      if (key) headers.set("authorization", `Bearer ${key}`);
      return headers;
    } catch {
      throw optionsError(
        "The apiKey, or one of the headers, cannot be sent",
        "Look for line ends and for characters that are not ASCII",
      );
    }
  }

  async #refused(response: Response): Promise<EmbedError> {
    const { status, headers } = response;
    const retryAfterMs = retryAfter(headers);
    // The one refusal that has the status of something that passes.
    let exhausted = false;
    if (status === 429) {
      const said = await readText(response, 64 * 1024).catch(() => null);
      exhausted = said !== null && /"insufficient_quota"/.test(said);
    } else {
      await response.body?.cancel();
    }
    return statusError(status, this.#place, { retryAfterMs, exhausted });
  }

  #unavailable(text: string, hint: string): EmbedError {
    return new EmbedError(`${this.#place} ${text}`, {
      kind: "embed-unavailable",
      hint,
      retryable: true,
    });
  }

  get #place(): string {
    return `The embedding model ${JSON.stringify(this.#options.model)} at ${this.#url.host}`;
  }
}

function embeddingsUrl(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.username + parsed.password) {
    // Not repeated: it may hold a password.
    throw optionsError(
      "Cannot read the url of the embedding model",
      "Write it as https://host/v1; credentials go into apiKey",
    );
  }
  parsed.pathname = `${parsed.pathname.replace(/\/+$/, "")}/embeddings`;
  return parsed;
}

/** The body; null where it is larger. */
async function readText(response: Response, maxBytes: number): Promise<string | null> {
  if (response.body === null) return "";
  const decoder = new TextDecoder();
  const parts: string[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > maxBytes) return null;
    parts.push(decoder.decode(chunk, { stream: true }));
  }
  parts.push(decoder.decode());
  return parts.join("");
}

/** The vectors in the order of the texts, which `index` says. */
function readAnswer(text: string, count: number): Vector[] {
  let data: unknown;
  try {
    data = (JSON.parse(text) as { data?: unknown } | null)?.data;
  } catch {
    throw answerError("it is not JSON");
  }
  if (!Array.isArray(data)) throw answerError("it has no array data");
  if (data.length !== count) throw answerError(`${data.length} vectors for ${count} texts`);
  const vectors: Vector[] = new Array(count);
  for (const entry of data) {
    const { index, embedding } = (entry ?? {}) as { index?: unknown; embedding?: unknown };
    if (!Number.isInteger(index) || !(Number(index) >= 0 && Number(index) < count)) {
      throw answerError(`an index is none of 0 to ${count - 1}`);
    }
    if (vectors[Number(index)] !== undefined) throw answerError(`index ${index} comes twice`);
    vectors[Number(index)] = readEmbedding(embedding);
  }
  return vectors;
}

/** An array of numbers, or base64 of 32-bit floats, little endian. What is neither is left to be refused. */
function readEmbedding(embedding: unknown): Vector {
  if (typeof embedding !== "string") return embedding as Vector;
  let binary: string;
  try {
    binary = atob(embedding);
  } catch {
    throw answerError("a vector is not base64");
  }
  if (binary.length % 4 !== 0) throw answerError("a vector is no base64 of 32-bit floats");
  const view = new DataView(new ArrayBuffer(binary.length));
  for (let at = 0; at < binary.length; at++) view.setUint8(at, binary.charCodeAt(at));
  const vector = new Float32Array(binary.length / 4);
  for (let at = 0; at < vector.length; at++) vector[at] = view.getFloat32(at * 4, true);
  return vector;
}
