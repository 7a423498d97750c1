/** What happens to `changes()` before it has anything to give. */

import { assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { PgStream, PgStreamError } from "../../../mod.ts";
import { insert, TestServer } from "../../../src/testing/mod.ts";

function pulled(): { stream: PgStream; server: TestServer } {
  const stream = new PgStream({ logger: false }).watch("documents");
  return { stream, server: new TestServer(stream) };
}

function pull(stream: PgStream, signal?: AbortSignal): Promise<IteratorResult<unknown>> {
  return stream.changes(signal && { signal })[Symbol.asyncIterator]().next();
}

describe("changes() that was only just asked", () => {
  test("runs already, for whoever starts the stream meanwhile", async () => {
    const { stream } = pulled();
    stream.onChange(() => {});
    const first = pull(stream);
    const error = await assertRejects(() => stream.start(), PgStreamError);
    assertEquals(error.kind, "already-running");
    const second = await assertRejects(() => pull(stream), PgStreamError);
    assertEquals(second.kind, "already-running");
    await stream.stop();
    assertEquals(await first, { done: true, value: undefined });
  });

  test("ends where it is told to stop before anything came, and the stream can be used again", async () => {
    const { stream, server } = pulled();
    const first = pull(stream);
    await stream.stop();
    assertEquals(await first, { done: true, value: undefined });
    assertEquals(stream.status().queueBytes, 0);
    stream.onChange(() => {});
    const { handled } = await server.feed([[insert("documents", { id: 1 })]]);
    assertEquals(handled.length, 1);
  });

  test("ends where its signal was aborted before", async () => {
    const { stream } = pulled();
    assertEquals(await pull(stream, AbortSignal.abort()), { done: true, value: undefined });
  });
});
