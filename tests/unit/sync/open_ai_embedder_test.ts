import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import process from "node:process";
import { describe, test } from "node:test";
import { EmbedError } from "../../../src/sync/embedder.ts";
import { openAiEmbedder, type OpenAiEmbedderOptions } from "../../../src/sync/open_ai_embedder.ts";
import { assertNoCanary, CANARY } from "../../support/canary.ts";
import {
  type OpenAiFailure,
  type OpenAiServer,
  type OpenAiServerOptions,
  startOpenAi,
  vectorOf,
} from "../../support/servers/open_ai.ts";

const KEY = "canary-Zq7-key";
const TEXT = `a text of ${CANARY}`;
const TEXTS = [TEXT, "two", "three"];
const context = () => ({ signal: new AbortController().signal });

async function withServer(
  options: OpenAiServerOptions,
  run: (server: OpenAiServer) => Promise<void>,
): Promise<void> {
  const server = await startOpenAi(options);
  try {
    await run(server);
  } finally {
    await server[Symbol.asyncDispose]();
  }
}

function embedderOf(server: OpenAiServer, options: Partial<OpenAiEmbedderOptions> = {}) {
  return openAiEmbedder({ model: "m", url: server.url, apiKey: KEY, ...options });
}

function numbers(vectors: readonly (readonly number[] | Float32Array)[]): number[][] {
  return vectors.map((vector) => Array.from(vector));
}

describe("an embedder for OpenAI's API", () => {
  for (const base64 of ["yes", "refused", "ignored"] as const) {
    test(`gives each text its vector, base64 ${base64}`, async () => {
      await withServer({ apiKey: KEY, base64 }, async (server) => {
        const embed = embedderOf(server);
        for (let times = 0; times < 2; times++) {
          assertEquals(numbers(await embed(TEXTS, context())), TEXTS.map((t) => vectorOf(t)));
        }
        assertEquals(
          server.requests.map(({ encoding_format }) => encoding_format),
          base64 === "refused" ? ["base64", "float", "float"] : ["base64", "base64"],
        );
        assertEquals([embed.model, embed.dimensions], ["m", undefined]);
      });
    });
  }

  test("does not ask twice for a text that is refused, once the server has shown what it knows", async () => {
    await withServer({}, async (server) => {
      const embed = embedderOf(server);
      await embed(["one"], context());
      const error = await assertRejects(() => embed([""], context()), EmbedError);
      assertEquals([error.kind, error.status, server.requests.length], ["embed-refused", 400, 2]);
    });
  });

  test("asks for the dimensions that it is told, and tells them", async () => {
    await withServer({}, async (server) => {
      const embed = embedderOf(server, { dimensions: 7 });
      assertEquals(numbers(await embed(["one"], context())), [vectorOf("one", 7)]);
      assertEquals([server.requests[0]!.dimensions, embed.dimensions], [7, 7]);
    });
  });

  test("sorts by index what comes in another order", async () => {
    await withServer({}, async (server) => {
      server.fail({ change: (answer) => ({ ...answer, data: answer.data.reverse() }) });
      const vectors = await embedderOf(server)(TEXTS, context());
      assertEquals(numbers(vectors), TEXTS.map((text) => vectorOf(text)));
    });
  });

  test("sends no request for no text, and none once it is aborted", async () => {
    await withServer({}, async (server) => {
      const embed = embedderOf(server);
      assertEquals(await embed([], context()), []);
      const reason = new Error("not wanted");
      const error = await assertRejects(() => embed(["a"], { signal: AbortSignal.abort(reason) }));
      assert(error === reason && server.headers.length === 0);
    });
  });

  test("asks a function for the key each time, and sends headers of the user's", async () => {
    await withServer({ prefix: "/base/v1" }, async (server) => {
      let calls = 0;
      const embed = embedderOf(server, {
        url: `${server.url}/`,
        apiKey: () => Promise.resolve(`key-${++calls}`),
        headers: { "x-proxy": "p" },
      });
      await embed(["a"], context());
      await embed(["b"], context());
      assertEquals(
        server.headers.map((sent) => [sent.authorization, sent["x-proxy"]]),
        [["Bearer key-1", "p"], ["Bearer key-2", "p"]],
      );
    });
  });

  test("sends OPENAI_API_KEY to OpenAI, and to no other server", async () => {
    const before = process.env.OPENAI_API_KEY;
    process.env.OPENAI_API_KEY = KEY;
    try {
      const sent: [string, string | null][] = [];
      const options = {
        model: "m",
        fetch: ((url: URL, init: RequestInit) => {
          sent.push([String(url), new Headers(init.headers).get("authorization")]);
          return Promise.resolve(Response.json({ data: [{ index: 0, embedding: [1] }] }));
        }) as typeof fetch,
      };
      await openAiEmbedder(options)(["a"], context());
      await openAiEmbedder({ ...options, url: "http://localhost:1/v1?version=2" })(
        ["a"],
        context(),
      );
      assertEquals(sent, [
        ["https://api.openai.com/v1/embeddings", `Bearer ${KEY}`],
        ["http://localhost:1/v1/embeddings?version=2", null],
      ]);
    } finally {
      if (before === undefined) delete process.env.OPENAI_API_KEY;
      else process.env.OPENAI_API_KEY = before;
    }
  });
});

describe("what goes wrong in an embedder for OpenAI's API", () => {
  const later = (ms: number) => new Date(Date.now() + ms).toUTCString();
  type Case = [string, OpenAiFailure, string, boolean];
  const body = { error: { message: `You sent ${TEXT} with ${KEY}`, code: TEXT } };
  const data = (...data: unknown[]): OpenAiFailure => ({ body: { data } });
  const entry = (index: unknown, embedding: unknown = [1, 2]) => ({ index, embedding });
  const cases: Case[] = [
    ["a wrong key", { status: 401, body }, "embed-refused", false],
    ["a wrong model", { status: 404, body }, "embed-refused", false],
    ["too large", { status: 413, body }, "embed-refused", false],
    ["a redirect", { status: 302, headers: { location: "/v2" } }, "embed-refused", false],
    [
      "a quota that is used up",
      { status: 429, body: { error: { ...body.error, code: "insufficient_quota" } } },
      "embed-refused",
      false,
    ],
    ["a rate limit", { status: 429, body }, "embed-rate-limited", true],
    ["a conflict", { status: 409, body }, "embed-unavailable", true],
    ["a failing server", { status: 500, body }, "embed-unavailable", true],
    ["a failing proxy", { status: 503, body: `<html>${TEXT}` }, "embed-unavailable", true],
    ["a connection that is cut", { drop: true }, "embed-unavailable", true],
    ["no answer", { hang: "answer" }, "embed-unavailable", true],
    ["half of an answer", { hang: "body" }, "embed-unavailable", true],
    ["no JSON", { body: `${TEXT} {` }, "embed-answer", false],
    ["no array", { body: "null" }, "embed-answer", false],
    ["too few", data(entry(0), entry(1)), "embed-answer", false],
    ["too many", data(entry(0), entry(1), entry(2), entry(3)), "embed-answer", false],
    ["one twice", data(entry(0), entry(1), entry(1)), "embed-answer", false],
    ["no index", data(entry(0), entry(1), { embedding: [1, 2] }), "embed-answer", false],
    ["a wrong index", data(entry(0), entry(1), entry(3)), "embed-answer", false],
    ["a fraction", data(entry(0), entry(1), entry(0.5)), "embed-answer", false],
    ["text for numbers", data(entry(0), entry(1), entry(2, [TEXT, 1])), "embed-answer", false],
    ["null for numbers", data(entry(0), entry(1), entry(2, [null, 1])), "embed-answer", false],
    ["no vector", data(entry(0), entry(1), entry(2, null)), "embed-answer", false],
    ["an empty vector", data(entry(0), entry(1), entry(2, [])), "embed-answer", false],
    ["another length", data(entry(0), entry(1), entry(2, [1])), "embed-answer", false],
    ["no base64", data(entry(0, "AAA*"), entry(1), entry(2)), "embed-answer", false],
    ["half of a float", data(entry(0, "AAAA"), entry(1), entry(2)), "embed-answer", false],
    ["NaN", data(entry(0, "AADAfwAAgD8="), entry(1), entry(2)), "embed-answer", false],
    [
      "an endless answer",
      {
        body: " ".repeat(3_000_000) + JSON.stringify(data(entry(0), entry(1), entry(2)).body),
      },
      "embed-answer",
      false,
    ],
  ];
  for (const [what, failure, kind, retryable] of cases) {
    test(`${what} is ${kind}, and the error repeats nothing`, async () => {
      await withServer({}, async (server) => {
        server.fail(failure);
        const embed = embedderOf(server, { timeoutMs: failure.hang ? 100 : 20_000 });
        const error = await assertRejects(() => embed(TEXTS, context()), EmbedError);
        assertEquals([error.kind, error.retryable], [kind, retryable], error.message);
        assert(error.hint !== undefined);
        assertEquals(error.cause, undefined);
        assertEquals(server.headers.length, 1);
        assertNoCanary(what, error, embed);
      });
    });
  }

  test("a vector of other dimensions than were asked for is refused, with its place", async () => {
    await withServer({}, async (server) => {
      server.fail(data(entry(0, [1])));
      const embed = embedderOf(server, { dimensions: 2 });
      const error = await assertRejects(() => embed(["a"], context()), EmbedError);
      assertEquals([error.kind, error.index], ["embed-answer", 0]);
    });
  });

  test("how long to wait is read in seconds, in milliseconds and from a date", async () => {
    const forms: [Record<string, string>, number | undefined, number][] = [
      [{ "retry-after": "7" }, 7000, 0],
      [{ "retry-after": "0.5" }, 500, 0],
      [{ "retry-after": "9", "retry-after-ms": "250" }, 250, 0],
      [{ "retry-after": later(60_000) }, 60_000, 3000],
      [{ "retry-after": later(-60_000) }, 0, 0],
      [{ "retry-after": "-5" }, undefined, 0],
      [{ "retry-after": "soon" }, undefined, 0],
      [{}, undefined, 0],
    ];
    await withServer({}, async (server) => {
      for (const [headers, expected, off] of forms) {
        for (const status of [429, 503]) {
          server.fail({ status, headers });
          const { retryAfterMs } = await assertRejects(
            () => embedderOf(server)(["a"], context()),
            EmbedError,
          );
          if (expected === undefined) assertEquals(retryAfterMs, undefined);
          else assert(Math.abs(retryAfterMs! - expected) <= off, `${retryAfterMs}, ${expected}`);
        }
      }
    });
  });

  test("who is aborted gets his reason at once, and the server is left", async () => {
    await withServer({}, async (server) => {
      for (const hang of ["answer", "body"] as const) {
        server.fail({ hang });
        const reason = new Error("not wanted");
        const controller = new AbortController();
        setTimeout(() => controller.abort(reason), 50);
        const error = await assertRejects(() =>
          embedderOf(server)(TEXTS, { signal: controller.signal })
        );
        assert(error === reason);
      }
      while (server.abandoned < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    });
  });

  test("a server that is not there is embed-unavailable", async () => {
    const server = await startOpenAi();
    await server[Symbol.asyncDispose]();
    const error = await assertRejects(() => embedderOf(server)(TEXTS, context()), EmbedError);
    assertEquals([error.kind, error.retryable], ["embed-unavailable", true]);
    assertNoCanary("an error", error);
  });

  test("a key that cannot be sent, or cannot be had, is in no error", async () => {
    await withServer({}, async (server) => {
      const keys: [NonNullable<OpenAiEmbedderOptions["apiKey"]>, string][] = [
        [`${KEY}\nx: y`, "embed-options"],
        [() => `${KEY}\0`, "embed-options"],
        [() => Promise.reject(new Error(KEY)), "embed-unavailable"],
      ];
      for (const [apiKey, kind] of keys) {
        const embed = embedderOf(server, { apiKey });
        const error = await assertRejects(() => embed(TEXTS, context()), EmbedError);
        assertEquals(error.kind, kind);
        assertNoCanary("an error", error);
      }
      assertEquals(server.headers, []);
    });
  });

  test("options that cannot be used are refused at once, and a password in the url not repeated", () => {
    const wrong: Partial<OpenAiEmbedderOptions>[] = [
      { model: "" },
      { url: KEY },
      { url: `https://user:${KEY}@host/v1` },
      { url: "ftp://host" },
      { dimensions: 0 },
      { dimensions: 1.5 },
      { timeoutMs: 0 },
      { timeoutMs: NaN },
    ];
    for (const options of wrong) {
      const error = assertThrows(() => openAiEmbedder({ model: "m", ...options }), EmbedError);
      assertEquals(error.kind, "embed-options");
      assertNoCanary("an error", error);
    }
  });
});
