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
