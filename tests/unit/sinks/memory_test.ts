import { describe, test } from "node:test";
import { assertAlmostEquals, assertEquals, assertFalse, assertRejects } from "@std/assert";
import { MemorySink } from "../../../src/sinks/memory.ts";
import { rowPointId, type RowWrite } from "../../../src/sinks/rows.ts";
import { SinkError } from "../../../src/sinks/sink.ts";
import { rowSinkContract, type RowSinkUnderTest } from "../../contract/row_sink_contract.ts";
import { sinkContract, type SinkUnderTest } from "../../contract/sink_contract.ts";

function makeMemorySink(): Promise<RowSinkUnderTest & SinkUnderTest> {
  const sink = new MemorySink();
  return Promise.resolve({
    sink,
    read: (id) => {
      const point = sink.get(id);
      return Promise.resolve(
        point === undefined ? null : { vector: [...point.vector], payload: point.payload },
      );
    },
    count: () => Promise.resolve(sink.size),
    reopen: null,
    release: () => Promise.resolve(),
  });
}

sinkContract("MemorySink", makeMemorySink);
rowSinkContract("MemorySink", makeMemorySink, {
  members: [
    "apply",
    "position",
    "fingerprints",
    "vectors",
    "scan",
    "deleteTable",
    "otherModel",
    "search",
  ],
  atomic: true,
});

describe("MemorySink", () => {
  test("points come in the order in which their ids first came", async () => {
    const sink = new MemorySink();
    for (const id of ["b", "a", "c", "b"]) await sink.upsert({ id, vector: [1] });
    assertEquals(sink.points().map(({ id }) => id), ["b", "a", "c"]);
  });

  test("a search scores by the angle, not by the length", async () => {
    const sink = new MemorySink();
    await sink.upsertMany([
      { id: "long", vector: [100, 1] },
      { id: "across", vector: [0, 1] },
      { id: "against", vector: [-1, 0] },
      { id: "none", vector: [0, 0] },
    ]);
    const hits = await sink.search([1, 0]);
    assertEquals(hits.map(({ id }) => id), ["long", "across", "none", "against"]);
    assertAlmostEquals(hits[0]!.score, 0.99995, 1e-4);
    assertEquals(hits.slice(1).map(({ score }) => score), [0, 0, -1]);
    assertEquals((await sink.search([1, 0], { limit: 1 })).length, 1);
  });

  test("a search with a vector of another length is refused", async () => {
    const sink = new MemorySink();
    await sink.upsert({ id: 1, vector: [1, 2] });
    const error = await assertRejects(() => sink.search([1]), SinkError);
    assertEquals(error.kind, "sink-dimension");
  });

  test("an emptied sink takes vectors of another length", async () => {
    const sink = new MemorySink();
    await sink.upsert({ id: 1, vector: [1, 2] });
    await sink.delete(1);
    await sink.upsert({ id: 1, vector: [1] });
    assertEquals(sink.get(1)?.vector, [1]);
  });

  test("a vector that was to be there and is not is asked for again, and nothing is written", async () => {
    const position = { systemId: "1", timeline: 1, lsn: "0/1", ordinal: 0 };
    const row = (key: string, text: string, vector: number[] | null): RowWrite => ({
      table: "public.documents",
      key,
      position,
      model: "model@1",
      points: [{
        id: rowPointId("public.documents", key, 0),
        fingerprint: text,
        vector,
        payload: {},
      }],
      surplus: true,
    });
    const sink = new MemorySink();
    await sink.apply([row("1", "text", [1, 2])], null);
    const plain = rowPointId("public.documents", "3", 0);
    await sink.upsert({ id: plain, vector: [3, 4] });
    for (
      const missing of [row("1", "another text", null), row("2", "x", null), row("3", "x", null)]
    ) {
      const error = await assertRejects(
        () => sink.apply([row("4", "new", [5, 6]), missing], null),
        SinkError,
      );
      assertEquals([error.kind, error.retryable], ["sink-unconfirmed", true]);
      assertFalse(/text|\b[123]\b/.test(error.summary), error.summary);
      assertEquals([sink.size, (await sink.fingerprints([plain])).size], [2, 0]);
    }
  });

  test("a sink that was emptied of its rows holds nothing of them", async () => {
    const sink = new MemorySink();
    const write = (points: RowWrite["points"], lsn: string): RowWrite => ({
      ...{ table: "public.documents", key: "1", model: "model@1", points, surplus: true },
      position: { systemId: "1", timeline: 1, lsn, ordinal: 0 },
    });
    const id = rowPointId("public.documents", "1", 0);
    const points = [{ id, fingerprint: "f", vector: [1, 2], payload: {} }];
    await sink.apply([write(points, "0/1")], null);
    await sink.apply([write([], "0/2")], null);
    assertEquals([sink.size, sink.get(id)], [0, undefined]);
    // Also of another length: nothing is left to compare with.
    await sink.apply([write([{ ...points[0]!, vector: [1] }], "0/3")], null);
    assertEquals(sink.get(id), { id, vector: [1], payload: {} });
  });

  test("writes that nobody waits for go on in their order, the first of all included", async () => {
    const sink = new MemorySink();
    const id = rowPointId("public.documents", "1", 0);
    const write = (text: string): RowWrite => ({
      table: "public.documents",
      key: "1",
      position: { systemId: "1", timeline: 1, lsn: "0/1", ordinal: 0 },
      model: "m",
      points: [{ id, fingerprint: text, vector: [1], payload: { text } }],
      surplus: true,
    });
    const writes = ["a", "b", "c"].map((text) => sink.apply([write(text)], null));
    const states = sink.fingerprints([id]);
    await Promise.all(writes);
    assertEquals(sink.get(id)?.payload, { text: "c" });
    assertEquals((await states).get(id)?.fingerprint, "c");
  });
});
