/** Collections that rows go into: vectors, indexes, strict mode, rights. */

import { describe, test } from "node:test";
import { assertEquals, assertStringIncludes } from "@std/assert";
import type { QdrantCreateCollection } from "../../src/sinks/qdrant.ts";
import { at, row, scanAll } from "../contract/row_sink/rows.ts";
import {
  createCollection,
  QdrantCollections,
  refusal,
  STRICT,
} from "../support/qdrant_collections.ts";

const qdrant = new QdrantCollections();

describe("collections of QdrantSink", () => {
  const table = "public.documents";

  test("a collection of one's own gets the indexes that are missing, once, beside those asked for", async () => {
    await qdrant.make("indexes");
    const collection = qdrant.name("indexes");
    let made: string[] = [];
    const sink = qdrant.sink("indexes", {
      client: qdrant.clientBut({
        createPayloadIndex(name, request) {
          made.push(request.field_name);
          return qdrant.client.createPayloadIndex(name, request);
        },
      }),
      createCollection: null,
      payloadIndexes: { author_id: "integer", name: { type: "keyword", is_tenant: true } },
    });
    await sink.prepareRows();
    const own = ["pgstream.model", "pgstream.row", "pgstream.table"];
    assertEquals(made.sort(), ["author_id", "name", ...own]);
    const { payload_schema } = await qdrant.client.getCollection(collection);
    assertEquals(
      Object.entries(payload_schema).map(([field, index]) => [field, index?.data_type]).sort(),
      [["author_id", "integer"], ["name", "keyword"], ...own.map((field) => [field, "keyword"])],
    );
    made = [];
    await sink.prepareRows();
    assertEquals(made, []);
    // Qdrant would put the new one in its place.
    const other = qdrant.sink("indexes", { payloadIndexes: { author_id: "keyword" } });
    const error = await refusal(() => other.prepareRows());
    assertEquals([error.kind, error.retryable], ["sink-collection-mismatch", false]);
    assertStringIncludes(error.message, "author_id of type integer");
    assertEquals(
      (await qdrant.client.getCollection(collection)).payload_schema.author_id?.data_type,
      "integer",
    );
  });

  test("who may not make an index is told what to run, and needs no right where it is there", async () => {
    const forbidden = () =>
      Promise.reject({ status: 403, data: { status: { error: "Forbidden" } } });
    const sink = qdrant.sink("forbidden", {
      client: qdrant.clientBut({ createPayloadIndex: forbidden }),
    });
    const error = await refusal(() => sink.prepareRows());
    assertEquals([error.kind, error.code], ["sink-unauthorized", "403"]);
    assertStringIncludes(
      error.hint!,
      `PUT /collections/${qdrant.name("forbidden")}/index ` +
        '{"field_name":"pgstream.table","field_schema":"keyword"}',
    );
    await qdrant.sink("forbidden").prepareRows();
    await sink.prepareRows();
  });

  test("a collection is made as it was asked for", async () => {
    const sink = qdrant.sink("made", {
      vectorName: "text",
      createCollection: {
        ...createCollection,
        onDisk: true,
        quantization: { scalar: { type: "int8", always_ram: true } },
        hnsw: { m: 32 },
      },
    });
    await sink.prepareRows();
    const { config } = await qdrant.client.getCollection(qdrant.name("made"));
    assertEquals(config.params.vectors, { text: { size: 3, distance: "Dot", on_disk: true } });
    assertEquals(config.quantization_config, { scalar: { type: "int8", always_ram: true } });
    assertEquals(config.hnsw_config.m, 32);
  });

  test("vectors of another name, size or distance are refused", async () => {
    await qdrant.sink("vectors", { vectorName: "text" }).prepareRows();
    for (
      const options of [
        { vectorName: "image" },
        {},
        { vectorName: "text", createCollection: { size: 4, distance: "Dot" } },
        { vectorName: "text", createCollection: { size: 3, distance: "Cosine" } },
      ] as { vectorName?: string; createCollection?: QdrantCreateCollection }[]
    ) {
      const error = await refusal(() => qdrant.sink("vectors", options).prepareRows());
      assertEquals(error.kind, "sink-collection-mismatch");
      assertStringIncludes(error.message, '"text": size 3, distance Dot');
    }
    for (const options of [{}, { vectorName: "image" }]) {
      const sink = qdrant.sink("vectors", { ...options, createCollection: null });
      for (
        const act of [
          () => sink.upsert({ id: 1, vector: [1, 2, 3] }),
          () => sink.apply([row(table, "1", at("0/1"), ["a"])]),
          () => sink.search([1, 2, 3]),
        ]
      ) {
        const error = await refusal(act);
        assertEquals(error.kind, "sink-collection-mismatch");
        assertStringIncludes(error.hint!, "vectorName");
      }
    }
  });

  test("in strict mode a filter without an index is told of", async () => {
    await qdrant.make("strict", STRICT);
    const sink = qdrant.sink("strict", { payloadIndexes: { n: "integer" } });
    const acts = [
      () => sink.apply([row(table, "1", at("0/1"), ["a"], { payload: { n: 1 } })]),
      () => scanAll(sink, table),
      () => sink.otherModel(table, "m"),
      () => sink.search([1, 1, 1], { table, filter: { n: 1 } }),
      () => sink.deleteTable(table, at("0/1")),
    ];
    for (const act of acts) {
      const error = await refusal(act);
      assertEquals([error.kind, error.retryable], ["sink-collection-mismatch", false]);
      assertStringIncludes(error.message, "no index of ");
      assertStringIncludes(error.hint!, "prepareRows()");
    }
    await sink.prepareRows();
    for (const act of acts) await act();
  });
});
