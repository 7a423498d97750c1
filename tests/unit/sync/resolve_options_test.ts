import { assertEquals, assertStrictEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { test } from "node:test";
import { PgStreamError } from "../../../src/errors.ts";
import { MemorySink } from "../../../src/sinks/memory.ts";
import { type BatchEmbedder, batchEmbedder } from "../../../src/sync/batched_embedder.ts";
import { chunkText } from "../../../src/sync/chunk_text.ts";
import type { Embedder } from "../../../src/sync/embedder.ts";
import type { SyncOptions } from "../../../src/sync/options.ts";
import { resolveSync, type SyncDefaults } from "../../../src/sync/resolve_options.ts";
import { FakeTimers } from "../../support/fake_timers.ts";
import { PlainSink } from "./synced.ts";

const TABLE = { schema: "blog", table: "articles" };
const embedder = (model?: string): Embedder =>
  Object.assign(
    (texts: readonly string[]) => Promise.resolve(texts.map(() => [1])),
    model === undefined ? {} : { model },
  );

const defaults = (): SyncDefaults => ({ sink: new MemorySink(), embedders: new WeakMap() });
const options = (fields: Record<string, unknown> = {}): SyncOptions =>
  ({ text: () => "t", embed: embedder("m"), ...fields }) as unknown as SyncOptions;

test("options that cannot be used are refused before anything starts, naming the table and the option", () => {
  const named = (name: string) => Object.defineProperty(() => [], "name", { value: name });
  const wrong: [fields: Record<string, unknown>, option: string][] = [
    [{ text: undefined }, "text is"],
    [{ text: "body" }, "text is"],
    [{ embed: undefined }, "embed is"],
    [{ embed: [1, 2] }, "embed is"],
    [{ embed: embedder() }, "model is missing"],
    [{ model: "" }, "model is"],
    [{ model: 7 }, "model is"],
    [{ model: "m\0" }, "model is"],
    [{ embed: embedder("m\0") }, "model is"],
    [{ chunk: {} }, "chunk is"],
    [{ chunk: named("") }, "chunk is"],
    [{ chunk: named("a\0b") }, "chunk is"],
    [{ payload: "title" }, "payload is"],
    [{ payload: { title: true } }, "payload is"],
    [{ payload: ["title", 7] }, "payload is"],
    [{ backfill: "always" }, "backfill is"],
    [{ onModelChange: "ignore" }, "onModelChange is"],
    [{ sink: { upsert: () => {} } }, "sink lacks"],
    [{ batch: { maxTexts: 0 } }, "batch: maxTexts"],
    [{ batch: {}, embed: batchEmbedder(embedder("m")) }, "batch is given twice"],
  ];
  for (const [fields, option] of wrong) {
    const error = assertThrows(
      () => resolveSync(TABLE, options(fields), defaults()),
      PgStreamError,
    );
    assertEquals(error.kind, "sync-options", option);
    assertStringIncludes(error.message, `Cannot sync blog.articles: ${option}`);
    assertEquals(typeof error.hint, "string");
  }
  for (const nothing of [undefined, null]) {
    assertThrows(
      () => resolveSync(TABLE, nothing as unknown as SyncOptions, defaults()),
      PgStreamError,
      "it has no options",
    );
  }
});

test("a table without a sink of its own has the stream's, and one is needed", () => {
  const stream = defaults();
  const own = new MemorySink();
  assertStrictEquals(resolveSync(TABLE, options(), stream).sink, stream.sink);
  assertStrictEquals(resolveSync(TABLE, options({ sink: own }), stream).sink, own);
  assertThrows(
    () => resolveSync(TABLE, options(), { ...stream, sink: null }),
    PgStreamError,
    "it has no sink",
  );
});

test("a backfill is made, and another model refused, unless told otherwise", () => {
  const { backfill, onModelChange, table } = resolveSync(TABLE, options(), defaults());
  assertEquals({ backfill, onModelChange, table }, {
    backfill: "initial",
    onModelChange: "error",
    table: "blog.articles",
  });
  const told = resolveSync(
    TABLE,
    options({ backfill: "never", onModelChange: "rebuild" }),
    defaults(),
  );
  assertEquals([told.backfill, told.onModelChange], ["never", "rebuild"]);
});

test("tables that share an embedder share its queue, and one that gathers already is taken as it is", () => {
  const stream = defaults();
  const shared = embedder("m");
  const gathers: BatchEmbedder = batchEmbedder(embedder("m"));
  const of = (embed: Embedder, table: string) =>
    resolveSync({ schema: "public", table }, options({ embed }), stream).embed;
  assertStrictEquals(of(shared, "a"), of(shared, "b"));
  assertEquals(of(embedder("m"), "a") === of(shared, "a"), false);
  assertStrictEquals(of(gathers, "a"), gathers);
  // Streams have queues of their own.
  assertEquals(
    resolveSync(TABLE, options({ embed: shared }), defaults()).embed === of(shared, "a"),
    false,
  );
});

test("the model's label tells the chunker, so that another one is seen", () => {
  const model = (fields: Record<string, unknown>) =>
    resolveSync(TABLE, options(fields), defaults()).maker.model;
  assertEquals(model({}), "m");
  assertEquals(model({ model: "m@2" }), "m@2");
  assertEquals(
    model({ chunk: chunkText({ maxChars: 10, overlap: 1 }) }),
    "m + chunkText@1(10,1)",
  );
});

test("chunks into a sink of two methods are refused: what is left of a text that shrank would stay", () => {
  const error = assertThrows(
    () => resolveSync(TABLE, options({ chunk: chunkText(), sink: new PlainSink() }), defaults()),
    PgStreamError,
    "apply",
  );
  assertEquals(error.kind, "unsupported");
});

test("a stream that asks alone waits for no more texts, unless it is told to; one of several waits", async () => {
  // A clock that stands still: whoever waits by it waits for ever.
  const timers = new FakeTimers();
  const asked = async (alone: boolean, batch: Record<string, unknown> = {}): Promise<number> => {
    let calls = 0;
    const embed = Object.assign(
      (texts: readonly string[]) => {
        calls++;
        return Promise.resolve(texts.map(() => [1]));
      },
      { model: "m" },
    );
    const given = options({ embed, batch: { timers, ...batch } });
    const sync = resolveSync(TABLE, given, { ...defaults(), alone });
    void sync.embed(["a", "b"]);
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    return calls;
  };
  assertEquals(await asked(true), 1);
  assertEquals(await asked(true, { maxDelayMs: 5 }), 0);
  assertEquals(await asked(false), 0);
});
