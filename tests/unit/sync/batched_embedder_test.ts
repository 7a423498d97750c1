import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { batchEmbedder, type BatchEmbedderOptions } from "../../../src/sync/batched_embedder.ts";
import { type Embedder, EmbedError } from "../../../src/sync/embedder.ts";
import { openAiEmbedder } from "../../../src/sync/open_ai_embedder.ts";
import type { Vector } from "../../../src/values/vector.ts";
import { assertNoCanary, CANARY } from "../../support/canary.ts";
import { FakeTimers } from "../../support/fake_timers.ts";
import { startOpenAi, vectorOf } from "../../support/servers/open_ai.ts";

type Answer = (texts: readonly string[], signal: AbortSignal) => unknown;

const right = (texts: readonly string[]) => texts.map((text) => vectorOf(text));
const plain: Embedder = (texts) => Promise.resolve(right(texts));
const refused = (status = 400) =>
  new EmbedError("no", { kind: "embed-refused", hint: "another", status });
const limited = (retryAfterMs?: number) =>
  new EmbedError("slower", {
    kind: "embed-rate-limited",
    retryable: true,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
const unavailable = () => new EmbedError("down", { kind: "embed-unavailable", retryable: true });

/** An embedder that takes 10 ms, answers by the answers given, and then rightly; and what it was asked when. */
function scene(answers: (Answer | Error)[] = [], options: BatchEmbedderOptions = {}) {
  const timers = new FakeTimers();
  const calls: { texts: readonly string[]; atMs: number; signal: AbortSignal }[] = [];
  const inner: Embedder = async (texts, { signal }) => {
    calls.push({ texts, atMs: timers.now(), signal });
    const answer = answers.shift() ?? right;
    await timers.sleep(10);
    if (answer instanceof Error) throw answer;
    return await answer(texts, signal) as Vector[];
  };
  // Pauses without their random half.
  const embed = batchEmbedder(inner, { timers, random: () => 0, ...options });
  return { timers, calls, embed, texts: () => calls.map(({ texts }) => texts.join(" ")) };
}

/** Lets time pass until all is done. @returns what came of each. */
async function all<T>(timers: FakeTimers, ...promises: Promise<T>[]) {
  const settled = Promise.allSettled(promises);
  await timers.run();
  assertEquals(timers.pending, 0);
  return (await settled).map((result) =>
    result.status === "fulfilled" ? result.value : result.reason
  );
}

/** What came of it; it may be rejected before anybody looks. */
function outcome<T>(promise: Promise<T>): Promise<T | unknown> {
  return promise.catch((error) => error);
}

const vectors = (...texts: string[]) => texts.map((text) => vectorOf(text));

describe("a batching embedder", () => {
  test("puts texts of many callers into one call, and gives each his vectors", async () => {
    const { timers, embed, texts } = scene();
    const results = await all(
      timers,
      embed(["a", "b"]),
      embed([]),
      embed(["c"]),
      embed(["d", "e"]),
    );
    assertEquals(results, [vectors("a", "b"), [], vectors("c"), vectors("d", "e")]);
    assertEquals(texts(), ["a b c d e"]);
  });

  test("waits for more no longer than it is told, and not at all where a call is full", async () => {
    const { timers, embed, calls } = scene([], { maxTexts: 2, maxDelayMs: 7 });
    const results = [embed(["a"])];
    await timers.run(5);
    results.push(embed(["b", "c"]));
    await all(timers, ...results);
    assertEquals(calls.map(({ texts, atMs }) => [texts, atMs]), [[["a", "b"], 5], [["c"], 12]]);
  });

  test("keeps to the bounds of a call; a text beyond them goes alone", async () => {
    const { timers, embed, texts } = scene([], { maxTexts: 3, maxChars: 5, parallel: 1 });
    await all(timers, embed(["aa", "bb", "cc", "longer than any", "d", "e", "f", "g"]));
    assertEquals(texts(), ["aa bb", "cc", "longer than any", "d e f", "g"]);
  });

  test("takes the bounds, the model and the dimensions from the embedder that has them", async () => {
    const inner: Embedder = plain;
    const embed = batchEmbedder(async (...args) => await inner(...args));
    assertEquals([embed.model, embed.dimensions], [undefined, undefined]);
    await embed(["a"]);
    assertEquals(embed.dimensions, 4);
    let calls = 0;
    const counted = Object.assign(
      async (...args: Parameters<Embedder>) => (calls++, await inner(...args)),
      { model: "m", maxTexts: 1, dimensions: 4 },
    );
    const other: Embedder = batchEmbedder(counted);
    assertEquals([other.model, other.dimensions], ["m", 4]);
    await other(["a", "b", "c"], { signal: new AbortController().signal });
    assertEquals(calls, 3);
  });

  test("has no more calls under way than it is told", async () => {
    const { timers, embed, calls } = scene([], { maxTexts: 1, parallel: 2 });
    await all(timers, embed(["a", "b", "c", "d", "e"]));
    assertEquals(calls.map(({ atMs }) => atMs), [0, 0, 10, 10, 20]);
  });

  test("embeds a text once that several wait for, also where it is under way", async () => {
    const { timers, embed, texts } = scene();
    const results = [embed(["a", "b", "a"]), embed(["b"])];
    await timers.run(8);
    results.push(embed(["c", "a"]));
    assertEquals(await all(timers, ...results), [
      vectors("a", "b", "a"),
      vectors("b"),
      vectors("c", "a"),
    ]);
    assertEquals(texts(), ["a b", "c"]);
    await all(timers, embed(["a"]));
    assertEquals(texts(), ["a b", "c", "a"]);
  });

  test("lets a text that is refused fail alone, and says at which place it was", async () => {
    const poison: Answer = (texts) => {
      if (texts.includes("poison")) throw refused();
      return right(texts);
    };
    const { timers, embed, texts } = scene(Array(20).fill(poison), { parallel: 1 });
    const [a, b, c, d] = await all(
      timers,
      embed(["a", "b"]),
      embed(["c", "poison", "d"]),
      embed(["e", "d", "f"]),
      embed(["poison"]),
    );
    assertEquals([a, c], [vectors("a", "b"), vectors("e", "d", "f")]);
    assert(b instanceof EmbedError && d instanceof EmbedError && b !== d);
    assertEquals([b.kind, b.index, b.status, b.retryable], ["embed-refused", 1, 400, false]);
    assertEquals([d.kind, d.index, d.hint], ["embed-refused", 0, "another"]);
    assertEquals(texts(), [
      "a b c poison d e f",
      "a b c",
      "poison d e f",
      "poison d",
      "poison",
      "d",
      "e f",
    ]);
  });

  test("does not blame a text for another one, which is not wanted any more when the refusal comes", async () => {
    const { timers, embed, texts } = scene([refused()]);
    const controller = new AbortController();
    const results = [outcome(embed(["poison"], controller)), outcome(embed(["a"]))];
    await timers.run(7);
    controller.abort("enough");
    assertEquals(await all(timers, ...results), ["enough", vectors("a")]);
    assertEquals(texts(), ["poison a", "a"]);
  });

  test("does not split what is refused for another reason than the texts", async () => {
    const { timers, embed, texts } = scene([refused(401)]);
    const results = await all(timers, embed(["a", "b"]), embed(["c"]));
    assertEquals(results.map(({ kind, index }) => [kind, index]), [
      ["embed-refused", undefined],
      ["embed-refused", undefined],
    ]);
    assertEquals(texts(), ["a b c"]);
  });

  test("tries again what is unavailable, after pauses that grow, as often as it is told", async () => {
    const failures = [unavailable(), new TypeError("x"), unavailable()];
    const once = scene([...failures], { retry: { attempts: 4 } });
    assertEquals(await all(once.timers, once.embed(["a", "b"])), [vectors("a", "b")]);
    // Half of 200, 400 and 800 ms.
    assertEquals(once.calls.map(({ atMs }) => atMs), [5, 115, 325, 735]);

    const { timers, embed, calls } = scene([...failures], { retry: { attempts: 3 } });
    const [error] = await all(timers, embed(["a", "b"]));
    assertEquals([error.kind, error.retryable, calls.length], ["embed-unavailable", true, 3]);
  });

  test("a rate limit holds back all callers until it is over", async () => {
    const { timers, embed, calls } = scene([limited(1000), right], { maxTexts: 1, parallel: 2 });
    const results = [embed(["a", "b", "c"])];
    await timers.run(500);
    results.push(embed(["d"]));
    assertEquals(await all(timers, ...results), [vectors("a", "b", "c"), vectors("d")]);
    assertEquals(calls.map(({ texts, atMs }) => [texts[0], atMs]), [
      ["a", 0],
      ["b", 0],
      ["a", 1010],
      ["c", 1010],
      ["d", 1020],
    ]);
  });

  test("a rate limit that says nothing grows with each call, not with each of those under way", async () => {
    const answers = [limited(), limited(), limited(), limited()];
    const { timers, embed, calls } = scene(answers, { maxTexts: 1, parallel: 2 });
    assertEquals(await all(timers, embed(["a", "b"])), [vectors("a", "b")]);
    assertEquals(calls.map(({ atMs }) => atMs), [0, 0, 110, 110, 320, 320]);
  });

  test("pauses are short again once a call got through", async () => {
    const answers = [limited(), limited(), right, limited()];
    const { timers, embed, calls } = scene(answers);
    await all(timers, embed(["a"]));
    await all(timers, embed(["b"]));
    const [, , third, fourth, fifth] = calls.map(({ atMs }) => atMs);
    assertEquals([fourth! - third!, fifth! - fourth!], [15, 110]);
  });

  test("gives up a rate limit that does not end, and passes on how long it would have been", async () => {
    const { timers, embed, calls } = scene(Array.from({ length: 9 }, () => limited(50)));
    const [error] = await all(timers, embed(["a", "b"]));
    assertEquals(
      [error.kind, error.retryable, error.retryAfterMs, calls.length],
      ["embed-rate-limited", true, 50, 5],
    );
  });

  test("understands the errors of an SDK: a status, and headers", async () => {
    const sdkError = Object.assign(new Error(`429 ${CANARY}`), {
      status: 429,
      headers: new Headers({ "retry-after": "3" }),
    });
    const { timers, embed, calls } = scene([sdkError, Object.assign(new Error(), { status: 422 })]);
    assertEquals(await all(timers, embed(["a", "b"])), [vectors("a", "b")]);
    assertEquals(calls.map(({ atMs }) => atMs), [5, 3015, 3025, 3025]);
  });

  test("ends a call that hangs, and tries again", async () => {
    const hang = () => new Promise(() => {});
    const { timers, embed, calls } = scene([hang, hang], {
      timeoutMs: 1000,
      retry: { attempts: 2 },
    });
    const [error] = await all(timers, embed(["a"]));
    assertEquals([error.kind, error.retryable], ["embed-unavailable", true]);
    assertEquals(calls.map(({ signal }) => signal.aborted), [true, true]);
    assertEquals(await all(timers, embed(["a"])), [vectors("a")]);
    assert(!calls[2]!.signal.aborted);
  });

  test("an answer that is none is tried again, and then an error", async () => {
    const wrong: Record<string, Answer> = {
      "too few": () => [[1, 2, 3, 4]],
      "no array": () => "vectors",
      "nothing": () => undefined,
      "two dimensions": () => [[1, 2], [1, 2, 3]],
      "no numbers": () => [[1, CANARY], [1, 2]],
      "NaN": () => [[1, NaN], [1, 2]],
      "promises": () => [Promise.resolve([1]), Promise.resolve([1])],
    };
    for (const [what, answer] of Object.entries(wrong)) {
      const passing = scene([answer, answer]);
      assertEquals(await all(passing.timers, passing.embed(["a", "b"])), [vectors("a", "b")], what);
      const { timers, embed } = scene(Array(50).fill(answer));
      const [error] = await all(timers, embed(["a", CANARY]));
      // One vector is enough for one text: that is what is left of a batch that keeps failing.
      if (what === "too few") assertEquals(error, [[1, 2, 3, 4], [1, 2, 3, 4]]);
      else assertEquals(error.kind, "embed-answer", what);
      assertNoCanary(what, error);
    }
  });

  test("the first answer says how many dimensions there are, and no other is taken", async () => {
    const { timers, embed } = scene([right, ...Array(9).fill(() => [[1, 2]])]);
    const [, error] = [
      ...await all(timers, embed(["a"])),
      ...await all(timers, embed(["b"])),
    ] as [unknown, EmbedError];
    assertEquals([error.kind, error.index, embed.dimensions], ["embed-answer", 0, 4]);
    const told = scene(Array(9).fill(() => [[1, 2]]));
    const inner: Embedder = Object.assign(() => Promise.resolve([[1, 2]]), { dimensions: 3 });
    const strict = batchEmbedder(inner, { timers: told.timers, retry: { attempts: 1 } });
    const [refusal] = await all(told.timers, strict(["a"]));
    assertEquals(refusal.kind, "embed-answer");
  });

  test("who is aborted gets his reason, and takes his texts out; others do not notice", async () => {
    const { timers, embed, texts } = scene([], { parallel: 1 });
    const [waiting, underWay] = [new AbortController(), new AbortController()];
    const results = [
      outcome(embed(["a", "b"], waiting)),
      outcome(embed(["c", "b"])),
      outcome(embed(["d"], { signal: AbortSignal.abort("before") })),
    ];
    waiting.abort("waiting");
    await timers.run(7);
    results.push(outcome(embed(["c", "e"], underWay)), outcome(embed(["f"])));
    underWay.abort("under way");
    assertEquals(await all(timers, ...results), [
      "waiting",
      vectors("c", "b"),
      "before",
      "under way",
      vectors("f"),
    ]);
    assertEquals(texts(), ["b c", "f"]);
  });

  test("a call that nobody waits for any more is ended, and makes room", async () => {
    const hang = () => new Promise(() => {});
    const { timers, embed, calls } = scene([hang], { parallel: 1, timeoutMs: 1000 });
    const [first, second] = [new AbortController(), new AbortController()];
    const results = [outcome(embed(["a", "b"], first))];
    await timers.run(100);
    results.push(outcome(embed(["c"])), outcome(embed(["a"], second)));
    first.abort("first");
    await timers.run(100);
    // The second one still waits for the same text.
    assert(!calls[0]!.signal.aborted && calls.length === 1);
    second.abort("second");
    assertEquals(await all(timers, ...results, embed(["a"])), [
      "first",
      vectors("c"),
      "second",
      vectors("a"),
    ]);
    assert(calls[0]!.signal.aborted);
    assertEquals(calls.map(({ texts, atMs }) => [texts, atMs]), [
      [["a", "b"], 5],
      [["c", "a"], 200],
    ]);
  });

  test("a text that is not wanted any more is not tried again, nor waited for", async () => {
    const { timers, embed, texts } = scene([unavailable()]);
    const controller = new AbortController();
    const results = [outcome(embed(["a", "b"], controller)), outcome(embed(["c"]))];
    await timers.run(50);
    controller.abort("enough");
    results.push(outcome(embed(["b"])));
    assertEquals(await all(timers, ...results), ["enough", vectors("c"), vectors("b")]);
    assertEquals(texts(), ["a b c", "b", "c"]);
  });

  test("texts that were taken out do not fill a call", async () => {
    const { timers, embed, calls } = scene([], { maxChars: 10 });
    const controller = new AbortController();
    const taken = outcome(embed(["123456789"], controller));
    controller.abort("enough");
    await all(timers, taken, embed(["ab"]));
    assertEquals(calls.map(({ texts, atMs }) => [texts, atMs]), [[["ab"], 5]]);
  });

  test("a signal that outlives many calls gathers nothing of them", async () => {
    const { timers, embed } = scene([right, ...Array(5).fill(unavailable())]);
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...args: unknown[]) => {
      listeners++;
      addEventListener.apply(signal, args as Parameters<typeof addEventListener>);
    };
    signal.removeEventListener = (...args: unknown[]) => {
      listeners--;
      removeEventListener.apply(signal, args as Parameters<typeof removeEventListener>);
    };
    await all(timers, embed(["a"], { signal }));
    const [error] = await all(timers, embed(["b"], { signal }));
    assertEquals([error.kind, listeners], ["embed-unavailable", 0]);
  });

  test("no text is in an error, whatever the embedder throws", async () => {
    const thrown = [
      new Error(CANARY),
      Object.assign(new Error(CANARY), { name: CANARY, status: 400, cause: CANARY }),
      Object.assign(new TypeError(CANARY), { status: 200 }),
      new EmbedError("no", { kind: "embed-refused", cause: new Error(CANARY) }),
      new EmbedError("no", { kind: "embed-refused", status: 403, cause: new Error(CANARY) }),
    ];
    for (const error of thrown) {
      const { timers, embed } = scene(Array(30).fill(error));
      for (const result of await all(timers, embed([CANARY, "a"]), embed(["b"]))) {
        assert(result instanceof EmbedError);
        assertNoCanary("an error", result);
      }
    }
  });

  test("options that cannot be used are refused, and texts that are none", async () => {
    const wrong: BatchEmbedderOptions[] = [
      { maxTexts: 0 },
      { maxChars: NaN },
      { parallel: 0 },
      { timeoutMs: 0 },
      { maxDelayMs: -1 },
      { retry: { attempts: 0 } },
      { retry: { minDelayMs: -1 } },
    ];
    for (const options of wrong) {
      const error = assertThrows(() => batchEmbedder(plain, options), EmbedError);
      assertEquals(error.kind, "embed-options");
    }
    assertThrows(() => batchEmbedder("embed" as unknown as Embedder), EmbedError);
    const { embed } = scene();
    for (const texts of ["text", ["a", undefined], [null], undefined]) {
      const error = await assertRejects(() => embed(texts as string[]), EmbedError);
      assertEquals(error.kind, "embed-options");
    }
  });

  test("in front of a real client: a text that the server refuses, a rate limit, a wrong answer", async () => {
    const server = await startOpenAi();
    try {
      server.fail({ status: 429, headers: { "retry-after-ms": "20" } });
      server.fail({ status: 500 });
      server.fail({ change: (answer) => ({ ...answer, data: answer.data.slice(1) }) });
      const embed = batchEmbedder(openAiEmbedder({ model: "m", url: server.url }), {
        retry: { minDelayMs: 1, maxDelayMs: 5 },
      });
      const [first, second] = await Promise.allSettled([embed(["a", "b"]), embed(["c", "", "d"])]);
      assert(first.status === "fulfilled" && second.status === "rejected");
      assertEquals(first.value.map((vector) => Array.from(vector)), vectors("a", "b"));
      assertEquals([second.reason.kind, second.reason.index], ["embed-refused", 1]);
      assertEquals([embed.model, embed.dimensions], ["m", 4]);
    } finally {
      await server[Symbol.asyncDispose]();
    }
  });
});
