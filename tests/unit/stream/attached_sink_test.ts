import { assert, assertEquals, assertRejects } from "@std/assert";
import { test } from "node:test";
import { PgStreamError } from "../../../src/errors.ts";
import { NoSink } from "../../../src/stream/attached_sink.ts";

test("a handler that uses a sink where none was attached is told so, and what to call", async () => {
  const sink = new NoSink();
  const uses: Record<string, () => Promise<unknown>> = {
    upsert: () => sink.upsert({ id: 1, vector: [1] }),
    delete: () => sink.delete(1),
    upsertMany: () => sink.upsertMany([]),
    deleteMany: () => sink.deleteMany([]),
  };
  for (const [name, use] of Object.entries(uses)) {
    const error = await assertRejects(use, PgStreamError, "none was attached");
    assertEquals(error.kind, "no-sink", name);
    assert(error.hint!.includes("stream.sink("), name);
  }
});

test("a stream without a sink can be closed all the same, and twice", async () => {
  const sink = new NoSink();
  await sink.close();
  await sink[Symbol.asyncDispose]();
});
