/** An embedder in front of another one, which asks it for the texts of many callers at once. */

import type { RetryLimits } from "../backoff.ts";
import type { Vector } from "../values/vector.ts";
import { BatchQueue } from "./batch_queue.ts";
import { type Embedder, optionsError } from "./embedder.ts";
import { systemTimers, type Timers } from "./timers.ts";

/** How texts are gathered, and what happens where a call fails. */
export interface BatchEmbedderOptions {
  /** Texts of a call, at most. Default: the embedder's own, else 96. */
  maxTexts?: number;
  /** UTF-16 units of a call, at most; a longer text goes alone. Default: the embedder's own, else 300,000. */
  maxChars?: number;
  /** How long a call that is not full waits for more texts. Default: 5. */
  maxDelayMs?: number;
  /** Calls at once. Default: 4. */
  parallel?: number;
  /** How long a call may take before it is given up and tried again. Default: 60,000. */
  timeoutMs?: number;
  /** How often a batch is tried, the first time included. Default: 5, with pauses from 200 to 30,000 ms. */
  retry?: Partial<RetryLimits>;
  /** From 0 to below 1. Default: `Math.random`. */
  random?: () => number;
  /** Default: the runtime's own. */
  timers?: Timers;
}

/** An embedder that any number of callers may call at once. */
export interface BatchEmbedder extends Embedder {
  /**
   * As many vectors as texts, in their order. Callers that asked for the same text share its vector: it
   * must not be changed.
   *
   * @param context where `signal` is aborted, the texts are taken out, unless others want them, too.
   * @throws {EmbedError} what became of the first of the texts that failed for good; `index` is its place.
   */
  (texts: readonly string[], context?: { signal?: AbortSignal }): Promise<readonly Vector[]>;
}

/**
 * Gathers the texts of all its callers into as few calls as the limits allow.
 *
 * - A text that several wait for is embedded once.
 * - What fails is tried again, after pauses that grow. A call that is refused is split until the text
 *   that the server does not take stands alone: who asked for it gets the error, and nobody else.
 * - Where the server asks for patience, nobody calls it until then (`Retry-After`, else a growing pause).
 * - Vectors have as many dimensions as the first answer's, else the answer counts as a failure.
 *
 * On Workers, where one request cannot wait for what another one has begun, make one for each request.
 *
 * @throws {EmbedError} `embed-options`
 *
 * @example
 * ```ts
 * const embed = batchEmbedder(async (texts) => texts.map((text) => [text.length, 1]));
 * const [[a], [b]] = await Promise.all([embed(["one"]), embed(["three"])]); // one call
 * console.log(a, b); // [3, 1] [5, 1]
 * ```
 */
export function batchEmbedder(embed: Embedder, options: BatchEmbedderOptions = {}): BatchEmbedder {
  if (typeof embed !== "function") {
    throw optionsError("The embedder is no function", "Pass one: (texts) => Promise of vectors");
  }
  const { random = Math.random, timers = systemTimers } = options;
  const limits = {
    maxTexts: options.maxTexts ?? embed.maxTexts ?? 96,
    maxChars: options.maxChars ?? embed.maxChars ?? 300_000,
    maxDelayMs: options.maxDelayMs ?? 5,
    parallel: options.parallel ?? 4,
    timeoutMs: options.timeoutMs ?? 60_000,
  };
  const retry = { attempts: 5, minDelayMs: 200, maxDelayMs: 30_000, ...options.retry };
  const { attempts, minDelayMs, maxDelayMs } = retry;
  for (
    const [name, value] of Object.entries({
      ...limits,
      attempts,
      minDelayMs,
      retryMaxDelayMs: maxDelayMs,
    })
  ) {
    const least = /delay/i.test(name) ? 0 : 1;
    if (!(typeof value === "number" && value >= least)) {
      throw optionsError(`${name} is not a number from ${least}`, "Leave it out for the default");
    }
  }
  const queue = new BatchQueue(embed, { ...limits, retry }, timers, random);

  const batched = async (
    texts: readonly string[],
    context: { signal?: AbortSignal } = {},
  ): Promise<readonly Vector[]> => {
    const wrong = Array.isArray(texts) ? texts.findIndex((text) => typeof text !== "string") : 0;
    if (wrong !== -1) {
      throw optionsError(`Text ${wrong}, from 0, is no text`, "Pass an array of strings");
    }
    return await queue.add(texts, context.signal);
  };
  made.add(batched);
  return Object.defineProperties(batched, {
    model: { value: embed.model, enumerable: true },
    dimensions: { get: () => queue.dimensions, enumerable: true },
  }) as BatchEmbedder;
}

const made = new WeakSet<Embedder>();

/** True for what `batchEmbedder` made: another queue in front of its own would only wait longer. */
export function isBatchEmbedder(embed: Embedder): embed is BatchEmbedder {
  return made.has(embed);
}
