/**
 * Many callers of one embedder that fails in every way, at random: each gets exactly his vectors or a typed
 * error, and nothing is embedded twice. `PGSTREAM_SEED=n` plays a seed again.
 */

import { assert, assertEquals } from "@std/assert";
import process from "node:process";
import { test } from "node:test";
import { batchEmbedder } from "../../../src/sync/batched_embedder.ts";
import { type Embedder, EmbedError } from "../../../src/sync/embedder.ts";
import type { Vector } from "../../../src/values/vector.ts";
import { FakeTimers } from "../../support/fake_timers.ts";
import { seededRandom } from "../../support/random.ts";
import { vectorOf } from "../../support/servers/open_ai.ts";

const ROUNDS = 100;
const CALLERS = 60;
const PASSES = new Set(["embed-unavailable", "embed-rate-limited", "embed-answer", "embed-failed"]);

interface Count {
  /** Who waits for it now. */
  wanted: Set<object>;
  /** How often somebody wanted it whom nobody had before. */
  needed: number;
  embedded: number;
}

async function play(seed: number): Promise<void> {
  const random = seededRandom(seed);
  const below = (n: number) => Math.floor(random() * n);
  const timers = new FakeTimers();
  const maxTexts = 1 + below(12);
  const maxChars = 5 + below(60);
  const parallel = 1 + below(4);
  const timeoutMs = 300;
  // Half of the rounds fail for as long as it takes, so that only what is refused may fail.
  const persists = below(2) === 0;
  const attempts = persists ? 1000 : 1 + below(4);
  const failing = below(3) * 0.15;
  const vocabulary = Array.from(
    { length: 5 + below(60) },
    (_, n) => `${below(8) === 0 ? "poison" : ""}${"t".repeat(below(12))}${n}`,
  );

  const counts = new Map(
    vocabulary.map((
      text,
    ): [string, Count] => [text, { wanted: new Set(), needed: 0, embedded: 0 }]),
  );
  const underWay = new Set<string>();
  let calls = 0;
  let callsAtOnce = 0;
  let notBeforeMs = 0;

  const model: Embedder = async (texts, { signal }) => {
    calls++;
    callsAtOnce++;
    assert(callsAtOnce <= parallel, "more calls at once than allowed");
    assert(timers.now() >= notBeforeMs, "called while the server asked for patience");
    assert(texts.length >= 1 && texts.length <= maxTexts, "too many texts, or none");
    assert(texts.length === 1 || texts.join("").length <= maxChars, "too many characters");
    for (const text of texts) {
      assert(!underWay.has(text), "a text is in two calls");
      underWay.add(text);
    }
    const over = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => over.resolve());
    const fails = random() < failing;
    const way = below(7);
    const isHanging = fails && way === 0;
    try {
      await Promise.race([over.promise, timers.sleep(isHanging ? 10_000 : 1 + below(100))]);
    } finally {
      callsAtOnce--;
      for (const text of texts) underWay.delete(text);
    }
    if (signal.aborted) throw new Error("aborted");
    if (fails && way === 1) throw new TypeError("fetch failed");
    if (fails && way === 2) {
      throw new EmbedError("", { kind: "embed-unavailable", retryable: true });
    }
    if (fails && way === 3) {
      const retryAfterMs = below(500);
      notBeforeMs = Math.max(notBeforeMs, timers.now() + retryAfterMs);
      throw new EmbedError("", { kind: "embed-rate-limited", retryable: true, retryAfterMs });
    }
    if (fails && way === 4) {
      throw new EmbedError("", { kind: "embed-rate-limited", retryable: true });
    }
    const vectors: Vector[] = texts.map((text) => vectorOf(text));
    if (fails && way === 5) return [...vectors, [1, 2, 3, 4]];
    if (fails) return vectors.map(() => [1, 2]);
    if (texts.some((text) => text.startsWith("poison"))) {
      throw new EmbedError("", { kind: "embed-refused", status: 400 });
    }
    for (const text of texts) {
      const count = counts.get(text)!;
      count.embedded++;
      count.wanted.clear();
    }
    return vectors;
  };
  // Told beforehand: else a wrong first answer would be the right one.
  const embed = batchEmbedder(Object.assign(model, { dimensions: 4 }), {
    maxTexts,
    maxChars,
    parallel,
    timeoutMs,
    maxDelayMs: below(20),
    retry: { attempts, minDelayMs: below(100), maxDelayMs: 400 },
    random,
    timers,
  });

  const outcomes: Record<string, number> = {};
  async function caller(): Promise<void> {
    await timers.sleep(below(2000));
    const texts = Array.from({ length: below(10) }, () => vocabulary[below(vocabulary.length)]!);
    const own = new Set(texts);
    for (const text of own) {
      const count = counts.get(text)!;
      if (count.wanted.size === 0) count.needed++;
      count.wanted.add(own);
    }
    const controller = new AbortController();
    const aborts = below(6) === 0;
    const timer = aborts
      ? timers.setTimeout(() => controller.abort("not wanted"), below(300))
      : undefined;
    let result = "vectors";
    try {
      const vectors = await embed(texts, controller);
      assertEquals(vectors, texts.map((text) => vectorOf(text)));
      assert(!texts.some((text) => text.startsWith("poison")));
    } catch (error) {
      if (error === "not wanted") {
        assert(aborts);
        result = error;
      } else if (error instanceof EmbedError) {
        result = error.kind;
        if (error.kind === "embed-refused") {
          assert(texts[error.index!]!.startsWith("poison"), "a text that is none fails as poison");
        } else assert(!persists && PASSES.has(error.kind), error.kind);
      } else throw error;
    } finally {
      timers.clearTimeout(timer);
      for (const text of own) counts.get(text)!.wanted.delete(own);
    }
    outcomes[result] = (outcomes[result] ?? 0) + 1;
  }

  const settled = Promise.allSettled(Array.from({ length: CALLERS }, caller));
  await timers.run();
  for (const result of await settled) if (result.status === "rejected") throw result.reason;
  assertEquals([timers.pending, callsAtOnce, underWay.size], [0, 0, 0]);
  for (const [text, { needed, embedded }] of counts) {
    assert(embedded <= needed, `${text} was embedded ${embedded} times, needed ${needed} times`);
  }
  if (process.env.PGSTREAM_SHOW) console.log(seed, { calls, ...outcomes });
}

test("each caller gets his vectors or a typed error, and no text is embedded more often than needed", async () => {
  const given = process.env.PGSTREAM_SEED;
  const first = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
  for (let seed = first; seed < first + (given === undefined ? ROUNDS : 1); seed++) {
    await play(seed).catch((error) => {
      throw new Error(`PGSTREAM_SEED=${seed}: ${error.message}`, { cause: error });
    });
  }
});
