/** The contract of what turns texts into vectors, and its errors. */

import { PgStreamError, type PgStreamErrorOptions } from "../errors.ts";
import { type Vector, vectorFault } from "../values/vector.ts";

/**
 * Turns texts into vectors. Any function of this shape is one; the properties tell what it is.
 *
 * @example
 * ```ts
 * const embed: Embedder = async (texts) => texts.map((text) => [text.length, 1]);
 * ```
 */
export interface Embedder {
  /**
   * As many vectors as texts, in their order, all of one length.
   *
   * @param context `signal` is aborted where nobody waits for the answer any more.
   */
  (texts: readonly string[], context: { signal: AbortSignal }): Promise<readonly Vector[]>;
  /** What makes the vectors: those of two models are not to be compared. */
  readonly model?: string;
  /** Elements of each vector, where that is known beforehand. */
  readonly dimensions?: number;
  /** Texts that one call takes at most. */
  readonly maxTexts?: number;
  /** UTF-16 units that the texts of one call have at most, all together. */
  readonly maxChars?: number;
}

/** What an `EmbedError` is made of, beside its message. */
export interface EmbedErrorOptions extends PgStreamErrorOptions {
  /** How long the server asked to be left alone. Milliseconds. */
  retryAfterMs?: number;
  /** The status of the server's answer, where there was one. */
  status?: number;
  /** The place of the text that it is about, in the call that fails, from 0. */
  index?: number;
}

/**
 * Texts could not be turned into vectors. Kinds:
 *
 * | kind | what happened |
 * |---|---|
 * | `embed-refused` | the server will not take it, now or later: a text, the key, the model, the url |
 * | `embed-rate-limited` | too much at a time (429): retryable; `retryAfterMs` where the server said |
 * | `embed-unavailable` | no connection, no answer in time, or the server failed: retryable |
 * | `embed-answer` | not as many vectors as texts, not each once, not numbers, or of another length |
 * | `embed-failed` | a function of yours threw an error that tells nothing of the above |
 * | `embed-options` | options that cannot be used, or texts that are none |
 *
 * Neither message nor `cause` holds a text, a key, or what a server answered, since that may quote them.
 */
export class EmbedError extends PgStreamError {
  /** `"EmbedError"`. */
  override name = "EmbedError";
  /** How long the server asked to be left alone. Milliseconds. */
  readonly retryAfterMs?: number;
  /** The status of the server's answer, where there was one. */
  readonly status?: number;
  /** The place of the text that it is about, in the call that fails, from 0. */
  readonly index?: number;

  /** The message names the thing; the way out goes into `options.hint`. */
  constructor(message: string, options: EmbedErrorOptions) {
    super(message, options);
    if (options.retryAfterMs !== undefined) this.retryAfterMs = options.retryAfterMs;
    if (options.status !== undefined) this.status = options.status;
    if (options.index !== undefined) this.index = options.index;
  }
}

/** The error for options that cannot be used. */
export function optionsError(message: string, hint: string): EmbedError {
  return new EmbedError(message, { kind: "embed-options", hint });
}

/** The error for an answer that cannot be one. */
export function answerError(message: string, index?: number): EmbedError {
  return new EmbedError(`The answer of the embedding model cannot be used: ${message}`, {
    kind: "embed-answer",
    hint: "Look at what it answers, and whether it is the model that was meant",
    ...(index === undefined ? {} : { index }),
  });
}

/**
 * Refuses vectors that are not what was asked for.
 *
 * @param dimensions those that they have to have; left out: all the same.
 * @throws {EmbedError} `embed-answer`, naming the vector by its place.
 */
export function checkVectors(
  vectors: readonly Vector[],
  texts: number,
  dimensions?: number,
): void {
  // Functions without types may give anything.
  if (!Array.isArray(vectors)) throw answerError("it is no array of vectors");
  if (vectors.length !== texts) {
    throw answerError(`${vectors.length} vectors for ${texts} texts`);
  }
  let expected = dimensions;
  for (let index = 0; index < vectors.length; index++) {
    const vector = vectors[index] as Vector;
    const fault = vectorFault(vector);
    if (fault !== null) throw answerError(`vector ${index}, from 0: ${fault}`, index);
    expected ??= vector.length;
    if (vector.length !== expected) {
      throw answerError(
        `vector ${index}, from 0, has ${vector.length} dimensions, not ${expected}`,
        index,
      );
    }
  }
}

/** The error for an answer of this status, other than 2xx. @param place what was asked, for people */
export function statusError(
  status: number,
  place: string,
  { retryAfterMs, exhausted = false }: { retryAfterMs?: number | undefined; exhausted?: boolean } =
    {},
): EmbedError {
  const fail = (kind: string, text: string, hint: string, retryable: boolean): EmbedError =>
    new EmbedError(`${place} ${text}`, {
      kind,
      hint,
      retryable,
      status,
      ...(retryAfterMs === undefined || !retryable ? {} : { retryAfterMs }),
    });
  if (exhausted) {
    return fail("embed-refused", "says that the quota is used up", "Look at your plan", false);
  }
  if (status === 429) {
    return fail("embed-rate-limited", "asks for patience: status 429", "Ask less at a time", true);
  }
  if (status >= 500 || status === 408 || status === 409 || status === 425) {
    return fail("embed-unavailable", `failed with status ${status}`, "Try again later", true);
  }
  return fail("embed-refused", `refused the request with status ${status}`, refusal(status), false);
}

function refusal(status: number): string {
  if (status === 401 || status === 403) return "Check the apiKey";
  if (status === 404 || status === 405 || status < 400) {
    return "Check the url, which ends with /v1 on most servers, and the model";
  }
  return "A text may be empty or longer than the model takes (see chunkText), " +
    "or the model takes no dimensions";
}

/** True where fewer or other texts may be taken: not where the key, the url or the quota is wrong. */
export function concernsTexts({ kind, status }: EmbedError): boolean {
  return kind === "embed-answer" || kind === "embed-failed" ||
    kind === "embed-refused" &&
      (status === undefined || status === 400 || status === 413 || status === 422);
}

/** An `EmbedError` for whatever an embedder threw. */
export function embedError(error: unknown): EmbedError {
  if (error instanceof EmbedError) return error;
  const { name, status, headers, retryAfterMs } = (error ?? {}) as {
    name?: unknown;
    status?: unknown;
    headers?: unknown;
    retryAfterMs?: unknown;
  };
  const asked = typeof retryAfterMs === "number" && retryAfterMs >= 0
    ? retryAfterMs
    : headers instanceof Headers
    ? retryAfter(headers)
    : undefined;
  // Errors of most HTTP clients and SDKs carry the status.
  if (typeof status === "number" && status >= 300 && status < 600) {
    return statusError(status, "The embedding model", { retryAfterMs: asked });
  }
  const called = typeof name === "string" && /^\w{1,60}$/.test(name) ? name : "no Error";
  const retryable = error instanceof PgStreamError ? error.retryable : asked !== undefined;
  return new EmbedError(`The embedder threw: ${called}`, {
    kind: retryable ? "embed-unavailable" : "embed-failed",
    hint: "Catch and print it there: its message may quote a text, and is not repeated",
    retryable,
    ...(asked === undefined ? {} : { retryAfterMs: asked }),
  });
}

/**
 * How long these headers ask to wait: `retry-after-ms`, or `Retry-After`, in seconds or as a date.
 * https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
 *
 * @returns milliseconds; undefined where they do not say, or not so that it can be read.
 */
export function retryAfter(headers: Headers, now: number = Date.now()): number | undefined {
  const ms = headers.get("retry-after-ms")?.trim();
  if (ms !== undefined && /^\d+(\.\d+)?$/.test(ms)) return Number(ms);
  const after = headers.get("retry-after")?.trim() ?? "";
  if (/^\d+(\.\d+)?$/.test(after)) return Number(after) * 1000;
  // Dates have names of days or months; what is else, such as -5, some runtimes read as a date, too.
  const date = /^[A-Za-z]{3}/.test(after) ? Date.parse(after) : NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
