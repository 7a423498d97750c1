/** Against the stand-in, or the server at `QDRANT_URL` (with `QDRANT_API_KEY`). */

import { after, before, describe, test } from "node:test";
import process from "node:process";
import { assertEquals, assertFalse, assertRejects, assertStringIncludes } from "@std/assert";
import { QdrantClient } from "@qdrant/js-client-rest";
import { QDRANT_ID_PROPERTY, QdrantSink, type QdrantSinkOptions } from "../../src/sinks/qdrant.ts";
import { qdrantId } from "../../src/sinks/qdrant_ids.ts";
import { SinkError } from "../../src/sinks/sink.ts";
import { sinkContract, type SinkUnderTest } from "../contract/sink_contract.ts";
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

function makeSink(name: string, options: Partial<QdrantSinkOptions> = {}): QdrantSink {
  const collectionName = `pgstream-test-${RUN}-${name}`;
  if (!collections.includes(collectionName)) collections.push(collectionName);
  return new QdrantSink({
    url,
    collectionName,
    ...(API_KEY === undefined ? {} : { apiKey: API_KEY }),
    ...options,
  });
}

// Under Dot vectors are stored as they are given; Cosine makes their length 1.
const createCollection = { size: 3, distance: "Dot" } as const;

sinkContract("QdrantSink", async (): Promise<SinkUnderTest> => {
  const sink = makeSink("contract", { createCollection });
  const name = collections.at(-1)!;
  await sink.delete("makes the collection");
  return {
    sink,
    async read(text) {
      const { id, derived } = await qdrantId(text);
      const [point] = await client.retrieve(name, { ids: [id], with_vector: true });
      if (point === undefined) return null;
      const { [QDRANT_ID_PROPERTY]: kept, ...payload } = point.payload!;
      assertEquals(kept, derived ? text : undefined);
      return { vector: point.vector as number[], payload: derived ? payload : point.payload! };
    },
    async count() {
      return (await client.count(name)).count;
    },
    release: () => Promise.resolve(),
  };
});

describe("QdrantSink", () => {
  const point = { id: "1", vector: [1, 2, 3], payload: { title: "one" } };
  async function refusal(act: () => Promise<unknown>): Promise<SinkError> {
    return await assertRejects(act, SinkError);
  }

  test("a missing collection is named, with the way out", async () => {
    for (const act of ["upsert", "delete", "search"] as const) {
      const sink = makeSink("missing");
      collections.pop();
      const error = await refusal(() =>
        act === "upsert" ? sink.upsert(point) : act === "delete" ? sink.delete(1) : sink.search([1])
      );
      assertEquals([error.kind, error.retryable], ["sink-collection-missing", false]);
      assertStringIncludes(error.message, `pgstream-test-${RUN}-missing`);
      assertStringIncludes(error.hint!, "createCollection");
    }
  });

  test("sinks that make one collection at once all succeed, and again later", async () => {
    const sinks = [1, 2, 3, 4].map(() => makeSink("raced", { createCollection }));
    await Promise.all(sinks.map((sink, id) => sink.upsert({ ...point, id })));
    await makeSink("raced", { createCollection }).upsert({ ...point, id: 4 });
    assertEquals((await client.count(collections.at(-1)!)).count, 5);
  });

  test("a collection of another size or distance is refused", async () => {
    await makeSink("other", { createCollection }).delete(1);
    for (const other of [{ size: 4, distance: "Dot" }, { size: 3, distance: "Cosine" }] as const) {
      const error = await refusal(() => makeSink("other", { createCollection: other }).delete(1));
      assertEquals(error.kind, "sink-collection-mismatch");
      assertStringIncludes(error.message, "size 3, distance Dot");
    }
  });

  test("ids that Qdrant cannot take are kept in the payload, others not", async () => {
    const sink = makeSink("ids", { createCollection });
    await sink.upsertMany([
      { id: "user@example.com", vector: [3, 0, 0], payload: { a: 1 } },
      { id: 7n, vector: [2, 0, 0], payload: { a: 2 } },
      { id: "550E8400-e29b-41d4-a716-446655440000", vector: [1, 0, 0], payload: { a: 3 } },
      { id: "8", vector: [0.5, 0, 0], payload: { pgstream_id: "the user's own" } },
    ]);
    assertEquals((await sink.search([1, 0, 0])).map(({ id, payload }) => [id, payload]), [
      ["user@example.com", { a: 1 }],
      ["7", { a: 2 }],
      ["550e8400-e29b-41d4-a716-446655440000", { a: 3 }],
      ["8", { pgstream_id: "the user's own" }],
    ]);
    const { points } = await client.scroll(collections.at(-1)!);
    assertEquals(
      points.filter((found) => found.payload!.pgstream_id === "user@example.com").length,
      1,
    );
  });

  test("a client of one's own is used as it is", async () => {
    const name = `pgstream-test-${RUN}-own`;
    collections.push(name);
    const sink = new QdrantSink({ client, collectionName: name, createCollection });
    await sink.upsert(point);
    await sink.close();
    assertEquals((await refusal(() => sink.upsert(point))).kind, "sink-closed");
    assertEquals((await client.count(name)).count, 1);
  });

  test("more points than one request may hold go in several", async () => {
    const sink = makeSink("large", { createCollection });
    const text = "🐘".repeat(1_500_000);
    await sink.upsertMany([1, 2, 3, 4, 5, 6].map((id) => ({ ...point, id, payload: { text } })));
    assertEquals((await client.count(collections.at(-1)!)).count, 6);
  });

  test("no server at the url is worth another try, and shows no key", async () => {
    const sink = new QdrantSink({ url: "http://127.0.0.1:1", apiKey: "canary" });
    const error = await refusal(() => sink.upsert(point));
    assertEquals([error.kind, error.retryable], ["sink-unreachable", true]);
    assertFalse(`${error.message}${error.hint}${error.stack}${error.cause}`.includes("canary"));
  });
});

describe("QdrantSink beside a Qdrant in trouble", { skip: REAL_URL !== undefined }, () => {
  const point = { id: "1", vector: [1, 2, 3] };
  let troubled: QdrantServer;
  let sink: QdrantSink;

  before(async () => {
    troubled = await startQdrant({ prefix: "/behind/a/proxy", apiKey: "key" });
    sink = new QdrantSink({
      url: troubled.url + "/",
      apiKey: "key",
      timeoutMs: 500,
      createCollection: { size: 3, distance: "Cosine" },
    });
    await sink.upsert(point);
  });
  after(() => troubled.close());

  async function refusal(): Promise<[string, boolean, number | undefined]> {
    const error = await assertRejects(() => sink.upsert(point), SinkError);
    return [error.kind, error.retryable, error.retryAfterMs];
  }

  test("every write waits, with the order said", () => {
    const writes = troubled.requests.filter(({ path }) => path.includes("/points"));
    assertEquals(writes.map(({ query }) => query), ["?wait=true&ordering=strong"]);
  });

  test("a write that is only acknowledged is not taken for done", async () => {
    const body = { result: { operation_id: 1, status: "acknowledged" }, status: "ok", time: 0 };
    troubled.fail({ status: 200, body });
    assertEquals(await refusal(), ["sink-unconfirmed", true, undefined]);
  });

  test("cut connections, silence, failures and limits are worth another try", async () => {
    troubled.fail({ drop: true });
    assertEquals(await refusal(), ["sink-unreachable", true, undefined]);
    troubled.fail({ hang: true });
    assertEquals(await refusal(), ["sink-unreachable", true, undefined]);
    troubled.fail({ status: 500 });
    assertEquals(await refusal(), ["sink-unreachable", true, undefined]);
    troubled.fail({ status: 429, headers: { "retry-after": "2" } });
    assertEquals(await refusal(), ["sink-overloaded", true, 2000]);
    troubled.fail({ status: 429 });
    assertEquals(await refusal(), ["sink-overloaded", true, undefined]);
    await sink.upsert(point);
  });

  test("a write whose answer was lost is done once more with the same result", async () => {
    troubled.fail({ afterWrite: true, drop: true });
    assertEquals(await refusal(), ["sink-unreachable", true, undefined]);
    await sink.upsert(point);
    assertEquals((await sink.search([1, 2, 3])).map(({ id }) => id), ["1"]);
  });

  test("a collection that could not be looked at is looked at again", async () => {
    const later = new QdrantSink({
      url: troubled.url,
      apiKey: "key",
      createCollection: { size: 3, distance: "Cosine" },
    });
    troubled.fail({ status: 500 });
    await assertRejects(() => later.upsert(point), SinkError);
    await later.upsert(point);
  });

  test("a wrong key is refused as such", async () => {
    const other = new QdrantSink({ url: troubled.url, apiKey: "canary" });
    const error = await assertRejects(() => other.upsert(point), SinkError);
    assertEquals(error.kind, "sink-unauthorized");
    assertFalse(`${error.message}${error.stack}${error.cause}`.includes("canary"));
  });
});
