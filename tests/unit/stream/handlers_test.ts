import { assertEquals, assertStrictEquals } from "@std/assert";
import { test } from "node:test";
import type { ChangeEvent } from "../../../src/change.ts";
import { MemorySink } from "../../../src/sinks/memory.ts";
import { Handlers } from "../../../src/stream/handlers.ts";

const event = { key: "1" } as ChangeEvent;
const context = { signal: new AbortController().signal, attempt: 3 };

test("handlers are called in the order in which they were added, with the sink and what they return", async () => {
  const handlers = new Handlers();
  const calls: unknown[][] = [];
  handlers.add((...args) => {
    calls.push(["single", ...args]);
    return "one";
  });
  handlers.addBatch((...args) => {
    calls.push(["batch", ...args]);
    return "two";
  }, { maxEvents: 1, maxBytes: 1, maxDelayMs: 1 });
  assertEquals(handlers.count, 2);

  const sink = new MemorySink();
  const [single, batch] = handlers.bind(sink);
  assertEquals([single!.batch, batch!.batch], [false, true]);
  assertEquals(single!.call(event as never, context), "one");
  assertEquals(batch!.call([event] as never, context), "two");
  assertEquals(calls.map(([kind]) => kind), ["single", "batch"]);
  for (const [kind, given, sinkGiven, contextGiven] of calls) {
    assertStrictEquals(kind === "single" ? given : (given as unknown[])[0], event);
    assertStrictEquals(sinkGiven, sink);
    assertStrictEquals(contextGiven, context);
  }
  await sink.close();
});

test("without a handler of batches there are none; of several the smallest limits count", () => {
  const handlers = new Handlers();
  handlers.add(() => {});
  assertStrictEquals(handlers.batch, null);
  handlers.addBatch(() => {}, { maxEvents: 10, maxBytes: 500, maxDelayMs: 70 });
  assertEquals(handlers.batch, { maxEvents: 10, maxBytes: 500, maxDelayMs: 70 });
  handlers.addBatch(() => {}, { maxEvents: 20, maxBytes: 400, maxDelayMs: 0 });
  assertEquals(handlers.batch, { maxEvents: 10, maxBytes: 400, maxDelayMs: 0 });
});
