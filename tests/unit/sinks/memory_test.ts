import { describe, test } from "node:test";
import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { MemorySink } from "../../../src/sinks/memory.ts";
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
});
