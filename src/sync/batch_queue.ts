/**
 * Texts of many callers, in calls of an embedder: who waits for which vector, which texts go together,
 * when, and what becomes of those whose call failed.
 *
 * A text is in one place at a time: among those that wait (`#fresh`), in a batch that is tried again
 * (`#again`), or in a call. Who asks for it meanwhile waits for the same vector.
 */

import { backoffMs, LONGEST_TIMER_MS, type RetryLimits } from "../backoff.ts";
import type { Vector } from "../values/vector.ts";
import { checkVectors, concernsTexts, type Embedder, EmbedError, embedError } from "./embedder.ts";
import type { Timers } from "./timers.ts";

/** What holds for all calls. */
export interface QueueLimits {
  /** Texts of a call, at most. */
  maxTexts: number;
  /** UTF-16 units of a call, at most, unless one text alone has more. */
  maxChars: number;
  /** How long a call that is not full waits for more. */
  maxDelayMs: number;
  /** Calls at once. */
  parallel: number;
  /** How long a call may take. */
  timeoutMs: number;
  /** How often a batch is tried, and the pauses between. */
  retry: RetryLimits;
}

interface Text {
  readonly text: string;
  readonly sinceMs: number;
  /** Who waits for it, and at which of his places. Empty: nobody any more. */
  wants: { caller: Caller; place: number }[];
  batch: Batch | null;
}

interface Batch {
  texts: Text[];
  failures: number;
  dueMs: number;
  /** Of a larger one that failed as often as it may. */
  isPart: boolean;
  /** While it is in a call. */
  call: AbortController | null;
}

interface Caller {
  vectors: Vector[];
  missing: number;
  texts: Set<Text>;
  settle(error?: unknown): void;
}

/** The queue in front of one embedder. */
export class BatchQueue {
  /** Of every vector; the first answer says it where nobody did before. */
  dimensions: number | undefined;
  readonly #embed: Embedder;
  readonly #limits: QueueLimits;
  readonly #timers: Timers;
  readonly #random: () => number;
  readonly #texts = new Map<string, Text>();
  readonly #fresh = new Set<Text>();
  /** One for all callers of a signal: a thousand texts come with the same, and listeners are dear. */
  readonly #listeners = new Map<AbortSignal, { callers: Set<Caller>; abort: () => void }>();
  #freshChars = 0;
  readonly #again: Batch[] = [];
  #running = 0;
  /** No call before: the server asked for patience. */
  #closedUntilMs = -Infinity;
  #limitedInARow = 0;
  #timer: unknown = null;

  constructor(embed: Embedder, limits: QueueLimits, timers: Timers, random: () => number) {
    this.#embed = embed;
    this.#limits = limits;
    this.#timers = timers;
    this.#random = random;
    this.dimensions = embed.dimensions;
  }

  /** The vectors of one caller's texts, in their order. */
  add(texts: readonly string[], signal: AbortSignal | undefined): Promise<readonly Vector[]> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (texts.length === 0) return resolve([]);
      const caller: Caller = {
        vectors: new Array(texts.length),
        missing: texts.length,
        texts: new Set(),
        settle: (error) => {
          if (signal !== undefined) this.#unlisten(signal, caller);
          if (caller.missing === 0) return resolve(caller.vectors);
          this.#leave(caller);
          reject(error);
        },
      };
      if (signal !== undefined) this.#listen(signal, caller);
      for (let place = 0; place < texts.length; place++) {
        const text = this.#wait(texts[place]!);
        text.wants.push({ caller, place });
        caller.texts.add(text);
      }
      this.#pump();
    });
  }

  #listen(signal: AbortSignal, caller: Caller): void {
    let listener = this.#listeners.get(signal);
    if (listener === undefined) {
      const callers = new Set<Caller>();
      const abort = () => {
        for (const caller of [...callers]) caller.settle(signal.reason);
      };
      this.#listeners.set(signal, listener = { callers, abort });
      signal.addEventListener("abort", abort);
    }
    listener.callers.add(caller);
  }

  #unlisten(signal: AbortSignal, caller: Caller): void {
    const listener = this.#listeners.get(signal);
    // Who has left may be told again.
    if (listener === undefined) return;
    listener.callers.delete(caller);
    if (listener.callers.size > 0) return;
    this.#listeners.delete(signal);
    signal.removeEventListener("abort", listener.abort);
  }

  #wait(text: string): Text {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    const added: Text = { text, sinceMs: this.#timers.now(), wants: [], batch: null };
    this.#texts.set(text, added);
    this.#fresh.add(added);
    this.#freshChars += text.length;
    return added;
  }

  /** Takes a caller's texts out; those that others want, too, stay. */
  #leave(caller: Caller): void {
    const batches = new Set<Batch>();
    for (const text of caller.texts) {
      text.wants = text.wants.filter((want) => want.caller !== caller);
      if (text.wants.length > 0) continue;
      if (text.batch === null) this.#forget(text);
      else batches.add(text.batch);
    }
    caller.texts.clear();
    for (const batch of batches) {
      const isWanted = batch.texts.some(({ wants }) => wants.length > 0);
      // One that is in a call yields its vectors all the same, to who asks for it until then.
      for (const text of batch.texts) {
        if (text.wants.length === 0 && (batch.call === null || !isWanted)) this.#forget(text);
      }
      if (!isWanted) batch.call?.abort();
    }
    this.#pump();
  }

  #forget(text: Text): void {
    if (this.#texts.get(text.text) === text) this.#texts.delete(text.text);
    if (this.#fresh.delete(text)) this.#freshChars -= text.text.length;
  }

  /** Starts what can be started, and sees to it that what cannot yet is looked at again. */
  #pump(): void {
    this.#timers.clearTimeout(this.#timer);
    while (this.#running < this.#limits.parallel) {
      const now = this.#timers.now();
      const dueMs = Math.max(this.#closedUntilMs, this.#nextDueMs());
      if (dueMs === Infinity) return;
      if (dueMs > now) {
        const waitMs = Math.min(Math.ceil(dueMs - now), LONGEST_TIMER_MS);
        this.#timer = this.#timers.setTimeout(() => this.#pump(), waitMs);
        return;
      }
      const batch = this.#takeAgain(now) ?? this.#takeFresh();
      if (batch.texts.length > 0) this.#run(batch);
    }
  }

  #nextDueMs(): number {
    let dueMs = Infinity;
    for (const batch of this.#again) dueMs = Math.min(dueMs, batch.dueMs);
    const [first] = this.#fresh;
    if (first === undefined) return dueMs;
    const { maxTexts, maxChars, maxDelayMs } = this.#limits;
    const isFull = this.#fresh.size >= maxTexts || this.#freshChars >= maxChars;
    return Math.min(dueMs, isFull ? -Infinity : first.sinceMs + maxDelayMs);
  }

  #takeAgain(now: number): Batch | undefined {
    const at = this.#again.findIndex(({ dueMs }) => dueMs <= now);
    if (at === -1) return undefined;
    const [batch] = this.#again.splice(at, 1);
    batch!.texts = batch!.texts.filter(({ wants }) => wants.length > 0);
    return batch;
  }

  #takeFresh(): Batch {
    const { maxTexts, maxChars } = this.#limits;
    const batch: Batch = { texts: [], failures: 0, dueMs: 0, isPart: false, call: null };
    let chars = 0;
    for (const text of this.#fresh) {
      chars += text.text.length;
      if (batch.texts.length > 0 && (batch.texts.length === maxTexts || chars > maxChars)) break;
      this.#fresh.delete(text);
      this.#freshChars -= text.text.length;
      text.batch = batch;
      batch.texts.push(text);
    }
    return batch;
  }

  async #run(batch: Batch): Promise<void> {
    this.#running++;
    batch.call = new AbortController();
    const { signal } = batch.call;
    let vectors: readonly Vector[] | null = null;
    let error: unknown;
    try {
      vectors = await this.#call(batch.texts.map(({ text }) => text), batch.call);
      checkVectors(vectors, batch.texts.length, this.dimensions);
      this.dimensions ??= vectors[0]!.length;
    } catch (caught) {
      vectors = null;
      error = signal.aborted ? signal.reason : caught;
    }
    batch.call = null;
    this.#running--;
    if (vectors !== null) this.#deliver(batch, vectors);
    else this.#failed(batch, embedError(error));
    this.#pump();
  }

  /** One call of the embedder, which ends in time whatever the embedder does. */
  async #call(texts: string[], call: AbortController): Promise<readonly Vector[]> {
    const { timeoutMs } = this.#limits;
    const { signal } = call;
    const timer = timeoutMs > LONGEST_TIMER_MS
      ? null
      : this.#timers.setTimeout(() => call.abort(timeoutError(timeoutMs)), timeoutMs);
    const over = Promise.withResolvers<never>();
    const end = () => over.reject(signal.reason);
    signal.addEventListener("abort", end);
    try {
      const vectors = (async () => await this.#embed(texts, { signal }))();
      return await Promise.race([vectors, over.promise]);
    } finally {
      signal.removeEventListener("abort", end);
      this.#timers.clearTimeout(timer);
    }
  }

  #deliver(batch: Batch, vectors: readonly Vector[]): void {
    this.#limitedInARow = 0;
    for (let index = 0; index < vectors.length; index++) {
      const text = batch.texts[index]!;
      this.#forget(text);
      for (const { caller, place } of text.wants) {
        caller.vectors[place] = vectors[index]!;
        if (--caller.missing === 0) caller.settle();
      }
    }
  }

  #failed(batch: Batch, error: EmbedError): void {
    const { attempts } = this.#limits.retry;
    const now = this.#timers.now();
    if (error.kind === "embed-rate-limited" || error.retryAfterMs !== undefined) {
      this.#closeFor(error.retryAfterMs, now);
    }
    // Of a call of many texts nobody knows which was meant, even if all but one are not wanted any more.
    const wasAlone = batch.texts.length === 1;
    for (const text of batch.texts) if (text.wants.length === 0) this.#forget(text);
    batch.texts = batch.texts.filter(({ wants }) => wants.length > 0);
    if (batch.texts.length === 0) return;
    batch.failures++;
    // A part of what failed that often is tried once, unless the failure is one that passes.
    const mayPass = error.retryable ||
      !batch.isPart && (error.kind === "embed-answer" || error.kind === "embed-failed");
    if (mayPass && batch.failures < attempts) {
      batch.dueMs = now + this.#backoffMs(batch.failures);
      this.#again.push(batch);
    } else if (!error.retryable && concernsTexts(error) && !wasAlone) {
      // A server that says what it does not take is none that has to be spared.
      const isRefused = error.kind === "embed-refused";
      this.#split(batch, isRefused ? now : now + this.#backoffMs(1), !isRefused);
    } else {
      this.#giveUp(batch, error, wasAlone && concernsTexts(error));
    }
  }

  #split({ texts }: Batch, dueMs: number, isPart: boolean): void {
    const middle = texts.length >> 1;
    const halves = middle === 0 ? [texts] : [texts.slice(0, middle), texts.slice(middle)];
    const parts = halves.map((texts): Batch => {
      const part: Batch = { texts, failures: 0, dueMs, isPart, call: null };
      for (const text of texts) text.batch = part;
      return part;
    });
    this.#again.unshift(...parts);
  }

  #giveUp({ texts }: Batch, error: EmbedError, isAboutText: boolean): void {
    for (const text of texts) this.#forget(text);
    // Each of them leaves, and takes his other texts out.
    for (const { caller, place } of texts.flatMap(({ wants }) => wants)) {
      const { kind, hint, retryable, status, retryAfterMs, summary } = error;
      const message = isAboutText ? `Text ${place} of the call, from 0: ${summary}` : summary;
      caller.settle(
        new EmbedError(message, {
          kind,
          retryable,
          ...(hint === undefined ? {} : { hint }),
          ...(status === undefined ? {} : { status }),
          ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
          ...(isAboutText ? { index: place } : {}),
        }),
      );
    }
  }

  /** For all callers. A little more than was asked for: others were told the same. */
  #closeFor(askedMs: number | undefined, now: number): void {
    // Calls that were under way when it closed are no further refusals.
    if (now >= this.#closedUntilMs) this.#limitedInARow++;
    const waitMs = askedMs === undefined
      ? this.#backoffMs(this.#limitedInARow)
      : askedMs + this.#random() * this.#limits.retry.minDelayMs;
    this.#closedUntilMs = Math.max(this.#closedUntilMs, now + waitMs);
  }

  #backoffMs(failures: number): number {
    return backoffMs(failures, this.#limits.retry, this.#random);
  }
}

function timeoutError(timeoutMs: number): EmbedError {
  return new EmbedError(`The embedding model did not answer within ${timeoutMs} ms`, {
    kind: "embed-unavailable",
    hint: "Raise timeoutMs, or ask for less at a time: maxTexts, maxChars",
    retryable: true,
  });
}
