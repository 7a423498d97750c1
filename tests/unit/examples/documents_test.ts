/** The examples' table becomes vectors: a test as users write them, with no server. */

import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { MemorySink, PgStream } from "@pgstream/pgstream";
import { insert, remove, TestServer, truncate, update } from "@pgstream/pgstream/testing";
import { documents, type Tables } from "../../../examples/documents.ts";

/** The stream, its store, and what the model was asked. */
function setUp(): { server: TestServer<Tables>; sink: MemorySink; texts: string[] } {
  const sink = new MemorySink();
  const texts: string[] = [];
  const embed = (asked: readonly string[]) => {
    texts.push(...asked);
    return Promise.resolve(asked.map((text) => [text.length, 1]));
  };
  const stream = new PgStream<Tables>().sink(sink);
  stream.sync("documents", { ...documents(embed), model: "length@1" });
  return { server: new TestServer(stream), sink, texts };
}

const bread = insert("documents", { id: 1n, content: "bread" });
const stored = (sink: MemorySink) =>
  sink.points().map(({ payload, vector }) => [payload.id, payload.content, vector[0]]);

test("a text that changes is embedded anew, and one that is deleted is gone", async () => {
  const { server, sink } = setUp();
  await server.feed([bread, insert("documents", { id: 2n, content: "a comet" })]);
  await server.feed([update("documents", { id: 1n, content: "cheese" })]);
  await server.feed([remove("documents", { id: 2n })]);
  assertEquals(stored(sink), [[1, "cheese", 6]]);
});

test("rows that were there are stored as well", async () => {
  const { server, sink } = setUp();
  await server.feed([insert("documents", { id: 1n, content: "bread" }, { backfill: true })]);
  assertEquals(stored(sink), [[1, "bread", 5]]);
});

test("a key that changes leaves nothing behind under the old one", async () => {
  const { server, sink } = setUp();
  const moved = update("documents", { id: 7n, content: "bread" }, { oldRow: { id: 1n } });
  await server.feed([bread, moved]);
  assertEquals(stored(sink), [[7, "bread", 5]]);
});

test("a text that becomes NULL, or empty, has no vector any more", async () => {
  for (const content of [null, ""]) {
    const { server, sink } = setUp();
    await server.feed([bread, update("documents", { id: 1n, content })]);
    assertEquals(sink.size, 0);
  }
});

test("a long text has a vector for each chunk, and those of a shorter one are not left over", async () => {
  const { server, sink, texts } = setUp();
  const content = Array.from({ length: 200 }, (_, n) => `Sentence ${n}. `).join("");
  await server.feed([insert("documents", { id: 1n, content })]);
  assertEquals([sink.size, texts.length], [3, 3]);
  await server.feed([update("documents", { id: 1n, content: "bread" })]);
  assertEquals(stored(sink), [[1, "bread", 5]]);
});

test("a table that is emptied has no vectors any more", async () => {
  const { server, sink } = setUp();
  await server.feed([bread, truncate("documents")]);
  assertEquals(sink.size, 0);
});

test("all of it twice is the same as once, and costs no call of the model", async () => {
  const { server, sink, texts } = setUp();
  await server.feed([
    [bread, insert("documents", { id: 2n, content: "a comet" })],
    [update("documents", { id: 3n, content: "a comet" }, { oldRow: { id: 2n } })],
    [remove("documents", { id: 1n })],
  ]);
  const once = stored(sink);
  texts.splice(0);
  await server.replay();
  assertEquals([stored(sink), texts], [once, []]);
});
