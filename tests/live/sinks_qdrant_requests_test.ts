/** What `QdrantSink` asks of the stand-in for rows: how often, how much, and what it makes of the answers. */

import { after, before, describe, test } from "node:test";
import { assertEquals } from "@std/assert";
import { QdrantClient } from "@qdrant/js-client-rest";
import { QdrantSink, type QdrantSinkClient } from "../../src/sinks/qdrant.ts";
import { rowPointId, type RowState, type RowWrite } from "../../src/sinks/rows.ts";
import { at, canonical, row, scanAll, statesOf } from "../contract/row_sink/rows.ts";
import { createCollection, refusal } from "../support/qdrant_collections.ts";
import { type QdrantServer, startQdrant } from "../support/servers/qdrant.ts";

describe("rows in a Qdrant that is watched", () => {
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
    const writes = (count: number) => Array<string>(count).fill(write);
    assertEquals(await requests(rows("0/1", ["a"], [], 960)), writes(4));
    assertEquals(await requests(rows("0/2", ["b"], ["b"]).slice(0, 0)), []);
    assertEquals(await requests(rows("0/2", ["a"], ["a"], 240)), [read, write]);
    assertEquals(await requests(rows("0/3", ["a", "b"], [], 500)), [read, ...writes(5)]);
    assertEquals(await requests(rows("0/4", [])), writes(5));
    assertEquals(await requests(rows("0/5", ["a"], [], 5000)), writes(21));
    assertEquals((await requestsOf(() => sink.deleteTable(table, at("0/9")))).length, 1);
    const ids = keys(1000).map((key) => rowPointId(table, key, 0));
    assertEquals((await requestsOf(() => sink.fingerprints(ids))).length, 1);
    assertEquals((await requestsOf(() => sink.otherModel(table, "m"))).length, 1);
  });

  test("of many rows two requests are under way, none with a part of a row that the other one has", async () => {
    const together: string[][] = [];
    const open = new Set<string[]>();
    const own = new QdrantClient({ url: watched.url, checkCompatibility: false });
    const client = new Proxy<QdrantSinkClient>(own, {
      get(target, name: keyof QdrantSinkClient) {
        if (name !== "batchUpdate") return target[name].bind(target);
        return async (...given: Parameters<QdrantSinkClient["batchUpdate"]>) => {
          const keys = given[1].operations.flatMap((operation) =>
            "upsert" in operation
              ? operation.upsert.points.map(({ payload }) => (payload.pgstream as RowState).key)
              : []
          );
          open.add(keys);
          together.push([...open].flatMap((keys) => [...new Set(keys)]));
          assertEquals(open.size <= 2, true);
          try {
            return await target.batchUpdate(...given);
          } finally {
            open.delete(keys);
          }
        };
      },
    });
    const texts = (count: number) => Array.from({ length: count }, (_, at) => `${at}`);
    const sizes = [...Array(300).fill(1), 600, 3, 239, 2, 240, 241, 1];
    const rows = sizes.map((size, ordinal) =>
      row(table, `${ordinal}`, at("1/0", ordinal), texts(size))
    );
    await new QdrantSink({ client }).apply(rows);
    for (const keys of together) assertEquals(new Set(keys).size, keys.length);
    // The rows of 600 and of 241 points take several requests, of which one is under way at a time.
    assertEquals(together.length, 12);
    assertEquals(together.some((keys) => keys.includes("0") && keys.includes("299")), true);
    const points = rows.flatMap(({ points }) => points);
    const found = await sink.fingerprints(points.map(({ id }) => id));
    assertEquals(
      points.filter(({ id, fingerprint }) => found.get(id)?.fingerprint !== fingerprint),
      [],
    );
    await sink.deleteTable(table, at("9/9"));
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
