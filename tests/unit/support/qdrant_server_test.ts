/** The stand-in for Qdrant refuses what Qdrant refuses, in its words. */

import { after, before, describe, test } from "node:test";
import { assertEquals, assertStringIncludes } from "@std/assert";
import { type QdrantServer, startQdrant } from "../../support/servers/qdrant.ts";
import { loadQdrantOpenApi } from "../../support/servers/qdrant_openapi.ts";

describe("stand-in for Qdrant", () => {
  let server: QdrantServer;
  before(async () => {
    server = await startQdrant({ applyDelayMs: 60_000 });
    await request("PUT", "/collections/docs", { vectors: { size: 2, distance: "Cosine" } });
  });
  after(() => server.close());

  // deno-lint-ignore no-explicit-any -- answers are JSON of any shape
  async function request(method: string, path: string, body?: unknown): Promise<[number, any]> {
    const response = await fetch(server.url + path, {
      method,
      ...(body === undefined ? {} : {
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      }),
    });
    const text = await response.text();
    const answer = text.startsWith("{") ? JSON.parse(text) : text;
    return [response.status, answer.result ?? answer.status?.error ?? answer];
  }
  const points = (...given: unknown[]) => ({ points: given });
  const PUT_POINTS = "/collections/docs/points?wait=true";

  test("ids are unsigned integers and UUIDs, nothing else", async () => {
    for (const id of ["abc", "7", -1, 1.5, ""]) {
      const [status, error] = await request("PUT", PUT_POINTS, points({ id, vector: [1, 2] }));
      assertEquals([status, error], [
        400,
        `Format error in JSON body: value ${id} is not a valid point ID, valid values are either an ` +
        "unsigned integer or a UUID",
      ]);
      assertEquals((await request("POST", "/collections/docs/points/delete", points(id)))[0], 400);
    }
  });

  test("a vector of another dimension is refused, and the points beside it are not stored", async () => {
    const body = points({ id: 100, vector: [1, 2] }, { id: 101, vector: [1, 2, 3] });
    assertEquals(await request("PUT", PUT_POINTS, body), [
      400,
      "Wrong input: Vector dimension error: expected dim: 2, got 3",
    ]);
    assertEquals(await request("GET", "/collections/docs/points/100"), [
      404,
      "Not found: Point with id 100 does not exists!",
    ]);
  });

  test("what JSON makes of NaN is no vector", async () => {
    const [status] = await request("PUT", PUT_POINTS, points({ id: 1, vector: [1, NaN] }));
    assertEquals(status, 400);
  });

  test("unknown collections, endpoints and doubled collections are refused", async () => {
    const missing = [404, "Not found: Collection `nope` doesn't exist!"] as [number, string];
    assertEquals(await request("GET", "/collections/nope"), missing);
    assertEquals(await request("PUT", "/collections/nope/points?wait=true", points()), missing);
    assertEquals(await request("GET", "/collections/nope/exists"), [200, { exists: false }]);
    assertEquals(
      await request("PUT", "/collections/docs", { vectors: { size: 2, distance: "Dot" } }),
      [409, "Wrong input: Collection `docs` already exists!"],
    );
  });

  test("a write that was not waited for is not there yet", async () => {
    const [, result] = await request(
      "PUT",
      "/collections/docs/points",
      points({ id: 5, vector: [1, 0] }),
    );
    assertEquals(result.status, "acknowledged");
    assertEquals((await request("GET", "/collections/docs/points/5"))[0], 404);
    await request("PUT", PUT_POINTS, points({ id: 6, vector: [3, 4] }));
    assertEquals((await request("GET", "/collections/docs/points/5"))[0], 200);
  });

  test("under Cosine a vector is stored with length 1", async () => {
    await request("PUT", PUT_POINTS, points({ id: 7, vector: [3, 4] }));
    const [, { vector }] = await request("GET", "/collections/docs/points/7");
    assertEquals(vector, [Math.fround(0.6), Math.fround(0.8)]);
  });

  test("filters choose points; clauses that it does not know are refused", async () => {
    await request(
      "PUT",
      PUT_POINTS,
      points(
        { id: 10, vector: [1, 0], payload: { lang: "en", year: 2001 } },
        { id: 11, vector: [1, 1], payload: { lang: ["de", "en"], year: 1999 } },
        { id: 12, vector: [0, 1], payload: { year: null } },
      ),
    );
    const scroll = async (filter: unknown) => {
      const [, result] = await request("POST", "/collections/docs/points/scroll", { filter });
      return result.points?.map(({ id }: { id: number }) => id) ?? result;
    };
    const hasId = { has_id: [10, 11, 12] };
    const lang = { key: "lang", match: { value: "en" } };
    assertEquals(await scroll({ must: [hasId, lang] }), [10, 11]);
    assertEquals(await scroll({ must: [hasId], must_not: [lang] }), [12]);
    assertEquals(await scroll({ must: { key: "year", range: { gte: 2000 } } }), [10]);
    assertEquals(await scroll({ must: [hasId, { is_null: { key: "year" } }] }), [12]);
    assertEquals(await scroll({ should: [{ key: "lang", match: { any: ["de"] } }] }), [11]);
    assertEquals(
      (await request("POST", "/collections/docs/points/scroll", { filter: { most: [] } }))[0] >=
        400,
      true,
    );
  });

  test("payloads are merged, overwritten and cut where that is asked for", async () => {
    const body = points({ id: 20, vector: [1, 0], payload: { a: 1, b: 1 } });
    await request("PUT", PUT_POINTS, body);
    const payload = async () => (await request("GET", "/collections/docs/points/20"))[1].payload;
    const change = (method: string, path: string, body: object) =>
      request(method, `/collections/docs/points/payload${path}?wait=true`, {
        points: [20],
        ...body,
      });
    await change("POST", "", { payload: { b: 2 } });
    assertEquals(await payload(), { a: 1, b: 2 });
    await change("POST", "/delete", { keys: ["a"] });
    assertEquals(await payload(), { b: 2 });
    await change("PUT", "", { payload: { c: 3 } });
    assertEquals(await payload(), { c: 3 });
  });

  test("a scroll goes on where it was, in the order of ids", async () => {
    await request("PUT", "/collections/many", { vectors: { size: 1, distance: "Dot" } });
    const ids = [3, 1, 2, "550e8400-e29b-41d4-a716-446655440000"];
    const body = points(...ids.map((id) => ({ id, vector: [1] })));
    await request("PUT", "/collections/many/points?wait=true", body);
    const seen: unknown[] = [];
    let offset: unknown = null;
    do {
      const page = await request("POST", "/collections/many/points/scroll", { limit: 3, offset });
      seen.push(...page[1].points.map(({ id }: { id: unknown }) => id));
      offset = page[1].next_page_offset;
    } while (offset !== null);
    assertEquals(seen, [1, 2, 3, ids[3]]);
  });

  test("update_filter leaves points alone that are there and do not match, and inserts all others", async () => {
    await request("PUT", "/collections/guarded", { vectors: { size: 1, distance: "Dot" } });
    const put = (update_filter: unknown, ...given: unknown[]) =>
      request("PUT", "/collections/guarded/points?wait=true", { points: given, update_filter });
    const values = async () => {
      const [, { points }] = await request("POST", "/collections/guarded/points/scroll", {});
      return points.map(({ payload }: { payload: { v: number } }) => payload.v);
    };
    const point = (id: number, v: number) => ({ id, vector: [1], payload: { v } });
    const upTo = (lte: number) => ({ must: [{ key: "v", range: { lte } }] });
    await put(upTo(-1), point(1, 5), point(2, 6));
    assertEquals(await values(), [5, 6]);
    await put(upTo(5), point(1, 7), point(2, 7), point(3, 7));
    assertEquals(await values(), [7, 6, 7]);
    // It looks at what is there before the first point is written.
    await put(upTo(7), point(1, 8), point(1, 9));
    assertEquals(await values(), [9, 6, 7]);
  });

  test("a server of before 1.16 passes over update_filter", async () => {
    const old = await startQdrant({ ignoresUpdateFilter: true });
    const send = async (method: string, path: string, body: unknown) => {
      const headers = { "content-type": "application/json" };
      const response = await fetch(old.url + path, { method, headers, body: JSON.stringify(body) });
      return (await response.json()).result;
    };
    await send("PUT", "/collections/docs", { vectors: { size: 1, distance: "Dot" } });
    for (const v of [2, 1]) {
      const update_filter = { must: [{ key: "v", range: { lte: v } }] };
      const body = { ...points({ id: 1, vector: [1], payload: { v } }), update_filter };
      await send("PUT", "/collections/docs/points?wait=true", body);
    }
    const { points: found } = await send("POST", "/collections/docs/points/scroll", {});
    assertEquals(found, [{ id: 1, payload: { v: 1 } }]);
    await old.close();
  });

  test("of a batch, what stands before the operation that is refused is done", async () => {
    const PATH = "/collections/docs/points/batch?wait=true";
    const point = { id: 30, vector: [1, 0], payload: { a: 1 } };
    const [status, result] = await request("POST", PATH, {
      operations: [
        { upsert: points(point, { ...point, id: 31 }) },
        { overwrite_payload: { payload: { b: 2 }, filter: { must: [{ has_id: [30] }] } } },
        { delete: { filter: { must: [{ has_id: [31] }] } } },
      ],
    });
    assertEquals([status, result.map(({ status }: { status: string }) => status)], [
      200,
      ["completed", "completed", "completed"],
    ]);
    assertEquals((await request("GET", "/collections/docs/points/30"))[1].payload, { b: 2 });
    assertEquals((await request("GET", "/collections/docs/points/31"))[0], 404);
    const refused = await request("POST", PATH, {
      operations: [
        { delete: points(30) },
        { upsert: points({ id: 32, vector: [1, 2, 3] }) },
        { upsert: points({ id: 33, vector: [1, 2] }) },
      ],
    });
    assertEquals(refused, [400, "Wrong input: Vector dimension error: expected dim: 2, got 3"]);
    assertEquals((await request("GET", "/collections/docs/points/30"))[0], 404);
    assertEquals((await request("GET", "/collections/docs/points/33"))[0], 404);
    const wrongId = { operations: [{ delete: points(5) }, { delete: points("x") }] };
    assertEquals((await request("POST", PATH, wrongId))[0], 400);
    assertEquals((await request("GET", "/collections/docs/points/5"))[0], 200);
  });

  test("in strict mode a filter needs an index that serves it", async () => {
    const strict_mode_config = {
      enabled: true,
      unindexed_filtering_retrieve: false,
      unindexed_filtering_update: false,
    };
    await request("PUT", "/collections/strict", {
      vectors: { size: 1, distance: "Dot" },
      strict_mode_config,
    });
    const DELETE = "/collections/strict/points/delete?wait=true";
    const filter = { must: [{ key: "a.b", match: { value: "x" } }] };
    const scroll = () => request("POST", "/collections/strict/points/scroll", { filter });
    const index = (field_schema: unknown) =>
      request("PUT", "/collections/strict/index?wait=true", { field_name: "a.b", field_schema });
    const missing = [
      400,
      'Bad request: Index required but not found for "a.b" of one of the following types: ' +
      "[keyword]. Help: Create an index for this key or use a different filter.",
    ] as [number, string];
    assertEquals(await scroll(), missing);
    assertEquals(await request("POST", DELETE, { filter }), missing);
    await index("integer");
    assertEquals(await scroll(), missing);
    await index({ type: "keyword", is_tenant: true });
    assertEquals((await scroll())[0], 200);
    const [, { payload_schema }] = await request("GET", "/collections/strict");
    assertEquals(payload_schema["a.b"].data_type, "keyword");
  });

  test("an index finds what a walk through all points finds, whatever was changed", async () => {
    await request("PUT", "/collections/indexed", { vectors: { size: 1, distance: "Dot" } });
    const PATH = "/collections/indexed/points";
    const index = { field_name: "k", field_schema: "keyword" };
    const found = async (value: string) => {
      const filter = { must: [{ key: "k", match: { value } }] };
      await request("POST", `${PATH}/payload?wait=true`, { payload: { seen: value }, filter });
      const seen = { must: [{ key: "seen", match: { value } }] };
      const [, { points }] = await request("POST", `${PATH}/scroll`, { filter: seen });
      return points.map(({ id }: { id: number }) => id);
    };
    await request("PUT", `${PATH}?wait=true`, points({ id: 1, vector: [1], payload: { k: "a" } }));
    await request("PUT", "/collections/indexed/index?wait=true", index);
    const more = points({ id: 2, vector: [1], payload: { k: ["a", "b"] } }, {
      ...{ id: 3, vector: [1], payload: { k: "a" } },
    }, { id: 4, vector: [1], payload: { k: "a" } });
    await request("PUT", `${PATH}?wait=true`, more);
    await request("POST", `${PATH}/delete?wait=true`, points(3));
    await request("PUT", `${PATH}/payload?wait=true`, { payload: { k: "b" }, points: [4] });
    assertEquals(await found("a"), [1, 2]);
    assertEquals(await found("b"), [2, 4]);
    assertEquals(await found("c"), []);
  });

  test("named vectors are written, read and searched by their names", async () => {
    const vectors = { a: { size: 1, distance: "Dot" }, b: { size: 2, distance: "Dot" } };
    await request("PUT", "/collections/named", { vectors });
    const PATH = "/collections/named/points";
    const put = (vector: unknown) => request("PUT", `${PATH}?wait=true`, points({ id: 1, vector }));
    assertEquals((await put({ a: [1], b: [1, 2] }))[0], 200);
    assertEquals((await request("GET", `${PATH}/1`))[1].vector, { a: [1], b: [1, 2] });
    const unknown = (name: string) => [400, `Wrong input: Not existing vector name error: ${name}`];
    assertEquals(await put([1]), unknown("") as [number, string]);
    assertEquals(await put({ c: [1] }), unknown("c") as [number, string]);
    const query = (body: object) => request("POST", `${PATH}/query`, { query: [1, 2], ...body });
    assertEquals((await query({ using: "b" }))[1].points[0].score, 5);
    assertEquals(await query({}), unknown("") as [number, string]);
  });

  test("a scroll goes on where it was, also where that point is gone", async () => {
    await request("PUT", "/collections/going", { vectors: { size: 1, distance: "Dot" } });
    const body = points(...[1, 2, 3, 4].map((id) => ({ id, vector: [1] })));
    await request("PUT", "/collections/going/points?wait=true", body);
    const scroll = async (offset?: number) => {
      const path = "/collections/going/points/scroll";
      return (await request("POST", path, { limit: 2, ...(offset ? { offset } : {}) }))[1];
    };
    const { next_page_offset } = await scroll();
    assertEquals(next_page_offset, 3);
    await request("POST", "/collections/going/points/delete?wait=true", points(3));
    assertEquals((await scroll(3)).points.map(({ id }: { id: number }) => id), [4]);
  });

  test("a path into a payload has names in quotes where they need them", async () => {
    const payload = { "a.b": 1, a: { b: 2 } };
    await request("PUT", PUT_POINTS, points({ id: 40, vector: [1, 0], payload }));
    const count = async (key: string, value: number) => {
      const filter = { must: [{ has_id: [40] }, { key, match: { value } }] };
      const [status, result] = await request("POST", "/collections/docs/points/count", { filter });
      return status === 200 ? result.count : status;
    };
    assertEquals(await count('"a.b"', 1), 1);
    assertEquals(await count("a.b", 2), 1);
    assertEquals(await count("a b", 1), 400);
    assertEquals(await count('"a"b"', 1), 400);
  });

  test("a request longer than 32 MB is refused", async () => {
    const text = "x".repeat(33_554_432);
    const [status, error] = await request(
      "PUT",
      PUT_POINTS,
      points({ id: 1, vector: [1, 0], payload: { text } }),
    );
    assertEquals(status, 400);
    assertStringIncludes(error, "is larger than allowed (limit: 33554432 bytes)");
  });

  test("what the OpenAPI document does not know is refused", async (context) => {
    if (loadQdrantOpenApi() === null) return context.skip("no document");
    const point = points({ id: 1, vector: [1, 0] });
    for (
      const [method, path, body] of [
        ["PUT", "/collections/docs/points?wait=true&waite=true", point],
        ["PUT", "/collections/docs/points?wait=yes", point],
        ["PUT", "/collections/docs/points?wait=true&ordering=strongest", point],
        ["POST", "/collections/docs/points/search", { vector: [1, 0], limit: 1 }],
        ["POST", "/collections/docs/points/query", { query: [1, 0], limit: 0 }],
        ["POST", "/collections/docs/points/count", { filter: { must: [], most: [] } }],
        ["POST", "/collections/docs/points/count", { exact: "yes" }],
        ["PUT", "/collections/other", { vectors: { size: 2, distance: "Cosinus" } }],
        ["PUT", PUT_POINTS, points({ id: 1, vector: [1, 0], payload: "text" })],
      ] as [string, string, unknown][]
    ) {
      const [status] = await request(method, path, body);
      assertEquals(status === 400 || status === 404, true, `${method} ${path}: ${status}`);
    }
  });
});
