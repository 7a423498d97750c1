/** From a configuration to stores and embedders: those that say the same are the same. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { MemorySink } from "../../../mod.ts";
import { Embedders } from "../../../src/cli/embedders.ts";
import { CliError } from "../../../src/cli/errors.ts";
import { sinkOf, Stores } from "../../../src/cli/stores.ts";
import { PgVectorSink } from "../../../src/sinks/pgvector.ts";
import { QdrantSink } from "../../../src/sinks/qdrant.ts";

const SETTINGS = { dsn: "postgresql://user:canary@localhost/app" };

describe("a store", () => {
  test("is one for all tables that say the same, whatever the order", async () => {
    const stores = new Stores(SETTINGS);
    const one = await stores.of({ type: "pgvector", table: "a", dimensions: 4 }, "sink");
    assert(one instanceof PgVectorSink);
    assert(await stores.of({ dimensions: 4, table: "a", type: "pgvector" }, "sink") === one);
    assert(await stores.of({ type: "pgvector", table: "b", dimensions: 4 }, "sink") !== one);
  });

  test("that is a sink already is that very one", async () => {
    const stores = new Stores(SETTINGS);
    const sink = new MemorySink();
    assert(await stores.of(sink, "sink") === sink);
    const plain = { upsert: () => Promise.resolve(), delete: () => Promise.resolve() };
    assert(await sinkOf(plain, SETTINGS) === plain);
  });

  test("is Qdrant's where the file says so", async () => {
    assert(await sinkOf({ type: "qdrant" }, SETTINGS) instanceof QdrantSink);
  });

  for (
    const [sink, message] of [
      [{ type: "pgvector", dsn: "canary" }, "tables.a.sink: Cannot read the dsn"],
      [{ type: "qdrant", url: "canary" }, "tables.a.sink: "],
      [{ type: "pgvector", dimensions: 3000 }, "tables.a.sink: "],
    ] as const
  ) {
    test(`that cannot be is told by its place: ${JSON.stringify(sink)}`, async () => {
      const error = await assertRejects(() => sinkOf(sink, SETTINGS, "tables.a.sink"), CliError);
      assert(error.summary.startsWith(message), error.summary);
      assert(!error.message.includes("canary"), error.message);
    });
  }
});

describe("an embedder", () => {
  test("is one for all tables that say the same, so that they share its limits", () => {
    const embedders = new Embedders();
    const one = embedders.of({ model: "m", url: "http://h/v1" }, "embedder");
    assert(embedders.of({ url: "http://h/v1", model: "m" }, "embedder") === one);
    for (
      const other of [
        { model: "n", url: "http://h/v1" },
        { model: "m", url: "http://h/v1", apiKey: "k" },
        { model: "m", url: "http://h/v1", batch: { parallel: 1 } },
      ]
    ) assert(embedders.of(other, "embedder") !== one);
    assertEquals(one.model, "m");
  });

  test("that is a function is that very one", () => {
    const embed = () => Promise.resolve([[1]]);
    assert(new Embedders().of(embed, "embedder") === embed);
  });

  test("that cannot be is told by its place", () => {
    const wrong = { model: "m", url: "canary" };
    const error = assertThrows(() => new Embedders().of(wrong, "tables.a.embedder"), CliError);
    assert(error.summary.startsWith("tables.a.embedder: Cannot read the url"), error.summary);
    assert(!error.message.includes("canary"));
  });
});
