/** Rows in Qdrant: against the stand-in, or the server at `QDRANT_URL` (with `QDRANT_API_KEY`). */

import { after, before, describe, test } from "node:test";
import process from "node:process";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { QdrantClient } from "@qdrant/js-client-rest";
import {
  QDRANT_ID_PROPERTY,
  QDRANT_ROW_PROPERTY,
  QdrantSink,
  type QdrantSinkOptions,
} from "../../src/sinks/qdrant.ts";
import { qdrantId } from "../../src/sinks/qdrant_ids.ts";
import { rowSinkContract } from "../contract/row_sink_contract.ts";
import { type QdrantServer, startQdrant } from "../support/servers/qdrant.ts";

const REAL_URL = process.env.QDRANT_URL;
const API_KEY = process.env.QDRANT_API_KEY;
const RUN = crypto.randomUUID().slice(0, 8);

let server: QdrantServer | undefined;
let url: string;
let client: QdrantClient;
const collections: string[] = [];

before(async () => {
  if (REAL_URL === undefined) server = await startQdrant();
  url = REAL_URL ?? server!.url;
  client = new QdrantClient({
    url,
    checkCompatibility: false,
    ...(API_KEY === undefined ? {} : { apiKey: API_KEY }),
  });
});
after(async () => {
  for (const name of collections) await client.deleteCollection(name);
  await server?.close();
});

// Under Dot vectors are stored as they are given; Cosine makes their length 1.
const createCollection = { size: 3, distance: "Dot" } as const;

function makeSink(name: string, options: Partial<QdrantSinkOptions> = {}): QdrantSink {
  const collectionName = `pgstream-test-${RUN}-${name}`;
  if (!collections.includes(collectionName)) collections.push(collectionName);
  return new QdrantSink({
    url,
    collectionName,
    createCollection,
    ...(API_KEY === undefined ? {} : { apiKey: API_KEY }),
    ...options,
  });
}

for (const vectorName of [undefined, "text"]) {
  const name = vectorName === undefined ? "rows" : "named-rows";
  const options = vectorName === undefined ? {} : { vectorName };
  rowSinkContract(`QdrantSink, ${name}`, async () => {
    const sink = makeSink(name, options);
    const collection = collections.at(-1)!;
    await sink.delete("makes the collection");
    return {
      sink,
      async read(text) {
        const { id, derived } = await qdrantId(text);
        const [point] = await client.retrieve(collection, { ids: [id], with_vector: true });
        if (point === undefined) return null;
        const { [QDRANT_ID_PROPERTY]: kept, [QDRANT_ROW_PROPERTY]: _, ...payload } = point
          .payload!;
        assertEquals(kept, derived ? text : undefined);
        const vector = vectorName === undefined
          ? point.vector
          : (point.vector as { [name: string]: number[] })[vectorName];
        return { vector: vector as number[], payload };
      },
      async count() {
        return (await client.count(collection)).count;
      },
      reopen: () => Promise.resolve(makeSink(name, options)),
      release: () => Promise.resolve(),
    };
  }, {
    members: [
      "prepareRows",
      "apply",
      "fingerprints",
      "scan",
      "deleteTable",
      "otherModel",
      "search",
    ],
    atomic: false,
  });
}
