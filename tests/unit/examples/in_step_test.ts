/** The examples' handler keeps a store in step: a test as users write them, with no server. */

import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { MemorySink, PgStream } from "@pgstream/pgstream";
import { insert, remove, TestServer, update } from "@pgstream/pgstream/testing";
import { keepInStep } from "../../../examples/in_step.ts";

/** The stream, its store, and how often the model was asked. */
function setUp(): { server: TestServer; sink: MemorySink; texts: string[] } {
  const sink = new MemorySink();
  const texts: string[] = [];
  const stream = new PgStream({ concurrency: 4 }).watch("documents").sink(sink);
  stream.onChange(keepInStep((text) => {
    texts.push(text);
    return Promise.resolve([text.length, 1]);
  }));
  return { server: new TestServer(stream), sink, texts };
}

const bread = insert("documents", { id: 1, content: "bread" });
const stored = (sink: MemorySink) => sink.points().map(({ id, payload }) => [id, payload.content]);

test("a text that changes is embedded anew, and one that is deleted is gone", async () => {
  const { server, sink } = setUp();
  await server.feed([bread, insert("documents", { id: 2, content: "a comet" })]);
  await server.feed([update("documents", { id: 1, content: "cheese" })]);
  await server.feed([remove("documents", { id: 2 })]);
  assertEquals(stored(sink), [["1", "cheese"]]);
  assertEquals(sink.get(1)?.vector, [6, 1]);
});

test("rows that were there are stored as well", async () => {
  const { server, sink } = setUp();
  await server.feed([insert("documents", { id: 1, content: "bread" }, { backfill: true })]);
  assertEquals(stored(sink), [["1", "bread"]]);
});

test("a key that changes leaves nothing behind under the old one", async () => {
  const { server, sink } = setUp();
  const moved = update("documents", { id: 7, content: "bread" }, { oldRow: { id: 1 } });
  await server.feed([bread, moved]);
  assertEquals(stored(sink), [["7", "bread"]]);
});

test("a large text that an update leaves alone is kept, and costs no call of the model", async () => {
  const { server, sink, texts } = setUp();
  await server.feed([bread, update("documents", { id: 1 }, { unchanged: ["content"] })]);
  assertEquals([stored(sink), texts], [[["1", "bread"]], ["bread"]]);
});

test("a text that becomes NULL, or empty, has no vector any more", async () => {
  for (const content of [null, ""]) {
    const { server, sink } = setUp();
    await server.feed([bread, update("documents", { id: 1, content })]);
    assertEquals(sink.size, 0);
  }
});

test("all of it twice is the same as once", async () => {
  const { server, sink } = setUp();
  await server.feed([
    [bread, insert("documents", { id: 2, content: "a comet" })],
    [update("documents", { id: 3, content: "a comet" }, { oldRow: { id: 2 } })],
    [remove("documents", { id: 1 })],
  ]);
  const once = stored(sink);
  await server.replay();
  assertEquals(stored(sink), once);
});
