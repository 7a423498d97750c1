/** Rows in Qdrant: against the stand-in, or the server at `QDRANT_URL` (with `QDRANT_API_KEY`). */

import { after, before, describe, test } from "node:test";
import process from "node:process";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { QdrantClient } from "@qdrant/js-client-rest";
import {
  QDRANT_ID_PROPERTY,
  QDRANT_ROW_PROPERTY,
  type QdrantCreateCollection,
  QdrantSink,
  type QdrantSinkClient,
  type QdrantSinkOptions,
} from "../../src/sinks/qdrant.ts";
import { qdrantId } from "../../src/sinks/qdrant_ids.ts";
import { rowPointId, type RowWrite } from "../../src/sinks/rows.ts";
import { SinkError } from "../../src/sinks/sink.ts";
import { at, canonical, row, scanAll, statesOf } from "../contract/row_sink/rows.ts";
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
const createCollection = { size: 3, distance: "Dot" } satisfies QdrantCreateCollection;

/** @param createCollection null: the collection is there */
function makeSink(
  name: string,
  { createCollection: create = createCollection, ...options }:
    & Omit<QdrantSinkOptions, "createCollection">
    & { createCollection?: QdrantCreateCollection | null } = {},
): QdrantSink {
  const collectionName = `pgstream-test-${RUN}-${name}`;
  if (!collections.includes(collectionName)) collections.push(collectionName);
  return new QdrantSink({
    collectionName,
    ...(options.client === undefined ? { url } : {}),
    ...(create === null ? {} : { createCollection: create }),
    ...(API_KEY === undefined ? {} : { apiKey: API_KEY }),
    ...options,
  });
}

/** As in Qdrant's cloud by default. */
const STRICT = {
  enabled: true,
  unindexed_filtering_retrieve: false,
  unindexed_filtering_update: false,
};

/** A collection that the user made. */
async function makeCollection(name: string, strict_mode_config?: typeof STRICT): Promise<void> {
  const collection = `pgstream-test-${RUN}-${name}`;
  if (!collections.includes(collection)) collections.push(collection);
  const config = strict_mode_config === undefined ? {} : { strict_mode_config };
  await client.createCollection(collection, { vectors: createCollection, ...config });
}

for (const what of ["", ", vectors with a name", ", strict mode"]) {
  const vectorName = what.endsWith("name") ? "text" : undefined;
  const name = `rows${what.replaceAll(/[ ,]+/g, "-")}`;
  const options = vectorName === undefined ? {} : { vectorName };
  rowSinkContract(`QdrantSink${what}`, async () => {
    const sink = makeSink(name, options);
    const collection = collections.at(-1)!;
    if (what.endsWith("mode")) {
      // The contract searches by values of types that no one index serves.
      await makeCollection(name, { ...STRICT, unindexed_filtering_retrieve: true });
    }
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

/** The client, but for what is replaced. */
function clientBut(replaced: Partial<QdrantSinkClient>): QdrantSinkClient {
  return {
    upsert: (...given) => client.upsert(...given),
    delete: (...given) => client.delete(...given),
    batchUpdate: (...given) => client.batchUpdate(...given),
    query: (...given) => client.query(...given),
    retrieve: (...given) => client.retrieve(...given),
    scroll: (...given) => client.scroll(...given),
    getCollection: (...given) => client.getCollection(...given),
    createCollection: (...given) => client.createCollection(...given),
    createPayloadIndex: (...given) => client.createPayloadIndex(...given),
    ...replaced,
  };
}

async function refusal(act: () => Promise<unknown>): Promise<SinkError> {
  return await assertRejects(act, SinkError);
}

describe("rows in Qdrant", () => {
  const table = "public.documents";

  test("a row of many requests that is cut off in between is mended when it comes again", async () => {
    const text = "🐘".repeat(1_500_000);
    let requests = 0;
    let failAt = Infinity;
    const sink = makeSink("cut", {
      client: clientBut({
        batchUpdate(...given) {
          if (++requests > failAt) throw new TypeError("cut");
          return client.batchUpdate(...given);
        },
      }),
    });
    const before = row(table, "1", at("0/1"), ["a", "b", "c", "d", "e", "f", "g"]);
    await sink.apply([before]);
    const large = row(table, "1", at("0/2"), ["v", "w", "x", "y"], { payload: { text } });
    const points = large.points.map((point, index) => ({ ...point, payload: { text, index } }));
    for (failAt = 0; failAt < 4; failAt++) {
      requests = 0;
      assertEquals((await refusal(() => sink.apply([{ ...large, points }]))).retryable, true);
      // What was written so far cannot be taken for the whole row.
      const states = await scanAll(sink, table, { limit: 2 });
      assertEquals(states.filter(({ position }) => position.lsn === "0/2").length, failAt);
      assertEquals(states.length, failAt === 0 ? 7 : 4);
    }
    failAt = Infinity;
    await sink.apply([{ ...large, points }]);
    assertEquals(
      (await scanAll(sink, table, { limit: 2 })).map(({ chunk, chunks, position }) => [
        ...[chunk, chunks, position.lsn],
      ]).sort(),
      [[0, 4, "0/2"], [1, 4, "0/2"], [2, 4, "0/2"], [3, 4, "0/2"]],
    );
  });

  test("a write that is late is refused by the server, also where the look before it saw nothing", async () => {
    const sink = makeSink("late");
    const late = makeSink("late", {
      client: clientBut({ retrieve: () => Promise.resolve([]) }),
    });
    const newer = row(table, "1", at("1/0", 3), ["a", "b"]);
    await sink.apply([newer]);
    await late.apply([
      row(table, "1", at("0/FFFFFFFF", 9), ["x", "y"]),
      row(table, "1", at("1/0", 2), []),
    ]);
    const states = await scanAll(sink, table);
    assertEquals(states.map(canonical).sort(), statesOf(newer).map(canonical).sort());
  });

  test("a payload is not written beside a vector that somebody else made meanwhile", async () => {
    const sink = makeSink("meanwhile");
    const first = row(table, "1", at("0/1"), ["a"]);
    await sink.apply([first]);
    const stale = await client.retrieve(collections.at(-1)!, {
      ids: [(await qdrantId(first.points[0]!.id)).id],
      with_payload: true,
    });
    const late = makeSink("meanwhile", {
      client: clientBut({ retrieve: () => Promise.resolve(stale) }),
    });
    const second = row(table, "1", at("0/2"), ["b"]);
    await sink.apply([second]);
    await late.apply([
      row(table, "1", at("0/3"), ["a"], { known: ["a"], payload: { late: true } }),
    ]);
    assertEquals((await scanAll(sink, table)).map(canonical), statesOf(second).map(canonical));
  });

  test("a vector that is not there any more is said to be gone, and nothing is written", async () => {
    const sink = makeSink("gone");
    const written = row(table, "1", at("0/1"), ["a", "b"]);
    await sink.apply([written]);
    await sink.delete(written.points[1]!.id);
    const rows = [
      row(table, "2", at("0/2"), ["x"]),
      row(table, "1", at("0/2"), ["a", "b"], { known: ["a", "b"] }),
    ];
    const error = await refusal(() => sink.apply(rows));
    assertEquals([error.kind, error.retryable], ["sink-unconfirmed", true]);
    const replaced = row(table, "1", at("0/2"), ["c", "b"], { known: ["c", "b"] });
    assertEquals((await refusal(() => sink.apply([replaced]))).kind, "sink-unconfirmed");
    assertEquals((await scanAll(sink, table)).map(canonical), [canonical(statesOf(written)[0])]);
  });

  test("ids that are no row's are left out, also those that Qdrant takes as they are", async () => {
    const sink = makeSink("ids");
    const written = row(table, "7", at("0/1"), ["a"]);
    await sink.apply([written]);
    const plain = ["7", "550e8400-e29b-41d4-a716-446655440000", "a"];
    await sink.upsertMany(plain.map((id) => ({ id, vector: [1, 2, 3] })));
    const ids = [...plain, written.points[0]!.id, written.points[0]!.id];
    assertEquals([...(await sink.fingerprints(ids)).keys()], [written.points[0]!.id]);
  });

  test("a property that is the sink's own is refused, and its value not repeated", async () => {
    const sink = makeSink("reserved");
    for (const name of [QDRANT_ROW_PROPERTY, QDRANT_ID_PROPERTY]) {
      const payload = { [name]: "canary" };
      const error = await refusal(() =>
        sink.apply([row(table, "1", at("0/1"), ["a"], { payload })])
      );
      assertEquals([error.kind, error.retryable], ["sink-payload", false]);
      assertStringIncludes(error.message, `"${name}"`);
      assert(!error.message.includes("canary"));
    }
    const plain = { id: 1, vector: [1, 2, 3], payload: { [QDRANT_ROW_PROPERTY]: { table } } };
    assertEquals((await refusal(() => sink.upsert(plain))).kind, "sink-payload");
  });

  test("a search filters by properties of any name, and by lists as Qdrant does", async () => {
    const sink = makeSink("search");
    const payload = {
      "a.b": 1,
      "a b": 2,
      "Ünï-_1": 3,
      "__proto__x": 4,
      "": 5,
      "x[0]": 6,
      "list": ["one", "two"],
      "deep": { "a": 1 },
    };
    await sink.apply([
      row(table, "1", at("0/1"), ["a"], { payload }),
      row(table, "2", at("0/1"), ["b"], { payload: { a: { b: 1 }, deep: { a: 2 } } }),
    ]);
    const keys = async (filter: Record<string, string | number | boolean>) => {
      const hits = await sink.search([1, 1, 1], { filter });
      return hits.map(({ id }) => JSON.parse(id)[1]);
    };
    for (const name of ["a.b", "a b", "Ünï-_1", "__proto__x", "", "x[0]"] as const) {
      assertEquals(await keys({ [name]: payload[name] }), ["1"], name);
    }
    assertEquals(await keys({ list: "two" }), ["1"]);
    assertEquals(await keys({ "deep.a": 2 }), []);
    assertEquals((await refusal(() => keys({ 'a"b': 1 }))).kind, "sink-options");
  });

  test("a collection of one's own gets the indexes that are missing, once, beside those asked for", async () => {
    await makeCollection("indexes");
    const collection = collections.at(-1)!;
    let made: string[] = [];
    const sink = makeSink("indexes", {
      client: clientBut({
        createPayloadIndex(name, request) {
          made.push(request.field_name);
          return client.createPayloadIndex(name, request);
        },
      }),
      createCollection: null,
      payloadIndexes: { author_id: "integer", name: { type: "keyword", is_tenant: true } },
    });
    await sink.prepareRows();
    const own = ["pgstream.model", "pgstream.row", "pgstream.table"];
    assertEquals(made.sort(), ["author_id", "name", ...own]);
    const { payload_schema } = await client.getCollection(collection);
    assertEquals(
      Object.entries(payload_schema).map(([field, index]) => [field, index?.data_type]).sort(),
      [["author_id", "integer"], ["name", "keyword"], ...own.map((field) => [field, "keyword"])],
    );
    made = [];
    await sink.prepareRows();
    assertEquals(made, []);
    // Qdrant would put the new one in its place.
    const other = makeSink("indexes", { payloadIndexes: { author_id: "keyword" } });
    const error = await refusal(() => other.prepareRows());
    assertEquals([error.kind, error.retryable], ["sink-collection-mismatch", false]);
    assertStringIncludes(error.message, "author_id of type integer");
    assertEquals(
      (await client.getCollection(collection)).payload_schema.author_id?.data_type,
      "integer",
    );
  });

  test("who may not make an index is told what to run, and needs no right where it is there", async () => {
    const forbidden = () =>
      Promise.reject({ status: 403, data: { status: { error: "Forbidden" } } });
    const sink = makeSink("forbidden", {
      client: clientBut({ createPayloadIndex: forbidden }),
    });
    const error = await refusal(() => sink.prepareRows());
    assertEquals([error.kind, error.code], ["sink-unauthorized", "403"]);
    assertStringIncludes(
      error.hint!,
      `PUT /collections/${collections.at(-1)}/index ` +
        '{"field_name":"pgstream.table","field_schema":"keyword"}',
    );
    await makeSink("forbidden").prepareRows();
    await sink.prepareRows();
  });

  test("a collection is made as it was asked for", async () => {
    const sink = makeSink("made", {
      vectorName: "text",
      createCollection: {
        ...createCollection,
        onDisk: true,
        quantization: { scalar: { type: "int8", always_ram: true } },
        hnsw: { m: 32 },
      },
    });
    await sink.prepareRows();
    const { config } = await client.getCollection(collections.at(-1)!);
    assertEquals(config.params.vectors, { text: { size: 3, distance: "Dot", on_disk: true } });
    assertEquals(config.quantization_config, { scalar: { type: "int8", always_ram: true } });
    assertEquals(config.hnsw_config.m, 32);
  });

  test("vectors of another name, size or distance are refused", async () => {
    await makeSink("vectors", { vectorName: "text" }).prepareRows();
    for (
      const options of [
        { vectorName: "image" },
        {},
        { vectorName: "text", createCollection: { size: 4, distance: "Dot" } },
        { vectorName: "text", createCollection: { size: 3, distance: "Cosine" } },
      ] as { vectorName?: string; createCollection?: QdrantCreateCollection }[]
    ) {
      const error = await refusal(() => makeSink("vectors", options).prepareRows());
      assertEquals(error.kind, "sink-collection-mismatch");
      assertStringIncludes(error.message, '"text": size 3, distance Dot');
    }
    for (const options of [{}, { vectorName: "image" }]) {
      const sink = makeSink("vectors", { ...options, createCollection: null });
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
    await makeCollection("strict", STRICT);
    const sink = makeSink("strict", { payloadIndexes: { n: "integer" } });
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

  test("a closed sink does nothing of it", async () => {
    const sink = makeSink("closed");
    await sink.close();
    for (
      const act of [
        () => sink.prepareRows(),
        () => sink.apply([]),
        () => sink.fingerprints([]),
        () => sink.scan(table, { after: null, limit: 1 }),
        () => sink.deleteTable(table, at("0/1")),
        () => sink.otherModel(table, "m"),
      ]
    ) {
      assertEquals((await refusal(act)).kind, "sink-closed");
    }
    collections.pop();
  });
});

describe("rows in a Qdrant that is watched", { skip: REAL_URL !== undefined }, () => {
  const table = "public.documents";
  let watched: QdrantServer;
  let sink: QdrantSink;

  before(async () => {
    watched = await startQdrant();
    sink = new QdrantSink({ url: watched.url, createCollection });
    await sink.prepareRows();
  });
  after(() => watched.close());

  async function requestsOf(act: () => Promise<unknown>) {
    const before = watched.requests.length;
    await act();
    return watched.requests.slice(before);
  }
  const keys = (count: number) => Array.from({ length: count }, (_, index) => String(index));

  test("however many rows there are, requests are few, and each write waits in order", async () => {
    const rows = (lsn: string, texts: string[], known: string[] = [], count = 1000) =>
      keys(count).map((key, ordinal) => row(table, key, at(lsn, ordinal), texts, { known }));
    const requests = async (written: RowWrite[]) =>
      (await requestsOf(() => sink.apply(written))).map(({ method, path, query }) =>
        `${method} ${path.replace("/collections/pgstream", "")}${query}`
      );
    const write = "POST /points/batch?wait=true&ordering=strong";
    const read = "POST /points";
    assertEquals(await requests(rows("0/1", ["a"])), [write]);
    assertEquals(await requests(rows("0/2", ["b"], ["b"]).slice(0, 0)), []);
    assertEquals(await requests(rows("0/2", ["a"], ["a"])), [read, write]);
    assertEquals(await requests(rows("0/3", ["a", "b"], [], 500)), [read, write]);
    assertEquals(await requests(rows("0/4", [])), [write]);
    assertEquals(await requests(rows("0/5", ["a"], [], 5000)), Array(5).fill(write));
    assertEquals((await requestsOf(() => sink.deleteTable(table, at("0/9")))).length, 1);
    const ids = keys(1000).map((key) => rowPointId(table, key, 0));
    assertEquals((await requestsOf(() => sink.fingerprints(ids))).length, 1);
    assertEquals((await requestsOf(() => sink.otherModel(table, "m"))).length, 1);
  });

  test("no request comes near what Qdrant takes, whatever the rows hold", async () => {
    const text = "🐘".repeat(1_500_000);
    const large = keys(6).map((key) => row(table, key, at("0/1"), ["a"], { payload: { text } }));
    const longKey = "\u0001".repeat(1_000_000);
    const requests = await requestsOf(async () => {
      await sink.apply(large);
      await sink.apply([row(table, longKey, at("0/1"), ["a"])]);
      await sink.apply([row(table, longKey, at("0/2"), [])]);
    });
    assertEquals(requests.length > 3, true);
    for (const { bytes } of requests) assertEquals(bytes < 33_554_432, true, String(bytes));
    assertEquals((await scanAll(sink, table)).length, 6);
    await sink.deleteTable(table, at("0/9"));
  });

  test("a write of which a part is only acknowledged is not taken for done", async () => {
    const statuses = ["completed", "acknowledged"];
    const result = statuses.map((status, operation_id) => ({ operation_id, status }));
    watched.fail({ status: 200, body: { result, status: "ok", time: 0 } });
    const error = await refusal(() => sink.apply([row(table, "1", at("0/1"), ["a"])]));
    assertEquals([error.kind, error.retryable], ["sink-unconfirmed", true]);
    const acknowledged = { result: result[1], status: "ok", time: 0 };
    watched.fail({ status: 200, body: acknowledged });
    assertEquals(
      (await refusal(() => sink.deleteTable(table, at("0/1")))).kind,
      "sink-unconfirmed",
    );
  });

  test("a write whose answer was lost has the same result when it comes again", async () => {
    const written = [row(table, "1", at("0/1"), ["a"]), row(table, "2", at("0/1"), ["a"])];
    const changed = [row(table, "1", at("0/2"), ["b"]), row(table, "2", at("0/2"), [])];
    await sink.apply(written);
    watched.fail({ afterWrite: true, drop: true });
    assertEquals((await refusal(() => sink.apply(changed))).kind, "sink-unreachable");
    await sink.apply(changed);
    assertEquals((await scanAll(sink, table)).map(canonical), statesOf(changed[0]!).map(canonical));
    await sink.deleteTable(table, at("0/9"));
  });

  test("on a server that passes over update_filter, what is written last wins, and removals are guarded", async () => {
    const old = await startQdrant({ ignoresUpdateFilter: true });
    const sink = new QdrantSink({ url: old.url, createCollection });
    await sink.prepareRows();
    const inOrder = [["a"], ["b", "c"], ["b"], ["d", "e", "f"], ["d"], [], ["g"]];
    for (const [ordinal, texts] of inOrder.entries()) {
      const written = row(table, "1", at("0/1", ordinal), texts);
      await sink.apply([written]);
      const states = (await scanAll(sink, table)).map(canonical).sort();
      assertEquals(states, statesOf(written).map(canonical).sort());
    }
    await sink.apply([row(table, "1", at("0/1", 3), [])]);
    await sink.apply([row(table, "1", at("0/1", 3), ["d", "e", "f"])]);
    await sink.deleteTable(table, at("0/1", 3));
    assertEquals((await scanAll(sink, table)).map(({ fingerprint }) => fingerprint), ["of g"]);
    await sink.apply([row(table, "1", at("0/1", 3), ["d"])]);
    assertEquals((await scanAll(sink, table)).map(({ fingerprint }) => fingerprint), ["of d"]);
    await old.close();
  });
});
