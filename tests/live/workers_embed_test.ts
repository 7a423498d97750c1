/** Embedding on the real runtime of Cloudflare Workers, without Node's modules. */

import { assertEquals } from "@std/assert";
import { after, before, test } from "node:test";
import { type OpenAiServer, startOpenAi, vectorOf } from "../support/servers/open_ai.ts";
import { startWorker, type Worker } from "../support/workerd.ts";
import type { EmbedAnswer, EmbedOrder } from "../support/workers/embed.ts";

let server: OpenAiServer;
let worker: Worker;
before(async () => {
  server = await startOpenAi({ apiKey: "key" });
  worker = await startWorker("tests/support/workers/embed.ts");
});
after(async () => {
  await worker?.stop();
  await server?.[Symbol.asyncDispose]();
});

test("a Worker cuts a text, embeds it past a rate limit, and fingerprints it", async () => {
  server.fail({ status: 429, headers: { "retry-after-ms": "10" } });
  const order: EmbedOrder = {
    text: "One two. Three four. Five six. 👨‍👩‍👧",
    maxChars: 12,
    embedder: { model: "m", url: server.url, apiKey: "key" },
  };
  const { chunks, vectors, fingerprint, error } = await worker.call<EmbedAnswer>(order);
  assertEquals(error, null);
  assertEquals(chunks, ["One two. ", "Three four. ", "Five six. ", "👨‍👩‍👧"]);
  assertEquals(vectors, chunks.map((chunk) => vectorOf(chunk)));
  assertEquals(fingerprint.length, 32);
});

test("a Worker tells a server that hangs, a wrong key and no server apart", async () => {
  const order = async (apiKey: string, url = server.url, timeoutMs = 5000) => {
    const embedder = { model: "m", url, apiKey, timeoutMs };
    const { error } = await worker.call<EmbedAnswer>({ text: "a", maxChars: 10, embedder });
    return error?.kind;
  };
  assertEquals(await order("wrong"), "embed-refused");
  server.fail({ hang: "answer" });
  server.fail({ hang: "body" });
  assertEquals(await order("key", server.url, 200), "embed-unavailable");
  assertEquals(await order("key", "http://127.0.0.1:1/v1"), "embed-unavailable");
});
