import { describe, test } from "node:test";
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { isRetryable, PgStreamError } from "../../../src/errors.ts";
import {
  type PointId,
  pointIdText,
  Sink,
  SinkError,
  type VectorPoint,
} from "../../../src/sinks/sink.ts";
import { sinkContract, type SinkUnderTest } from "../../contract/sink_contract.ts";

/** What a user writes: two methods. */
class TwoMethodSink extends Sink {
  readonly stored = new Map<string, { vector: number[]; payload: Record<string, unknown> }>();
  readonly calls: string[] = [];

  override upsert(point: VectorPoint): Promise<void> {
    this.calls.push(`upsert ${point.id}`);
    const payload = structuredClone(point.payload ?? {});
    this.stored.set(pointIdText(point.id), { vector: [...point.vector], payload });
    return Promise.resolve();
  }

  override delete(id: PointId): Promise<void> {
    this.calls.push(`delete ${id}`);
    this.stored.delete(pointIdText(id));
    return Promise.resolve();
  }
}

function makeTwoMethodSink(): Promise<SinkUnderTest> {
  const sink = new TwoMethodSink();
  return Promise.resolve({
    sink,
    read: (id) => Promise.resolve(sink.stored.get(id) ?? null),
    count: () => Promise.resolve(sink.stored.size),
    release: () => Promise.resolve(),
  });
}

sinkContract("a custom sink of two methods", makeTwoMethodSink, { validates: false });

describe("Sink", () => {
  test("many points go one by one, in order, to a sink that knows no better", async () => {
    const sink = new TwoMethodSink();
    await sink.upsertMany([1, 2, 1].map((id) => ({ id, vector: [id] })));
    await sink.deleteMany([2, 1]);
    assertEquals(sink.calls, ["upsert 1", "upsert 2", "upsert 1", "delete 2", "delete 1"]);
  });

  test("disposing closes", async () => {
    let closed = 0;
    class Closing extends TwoMethodSink {
      override close(): Promise<void> {
        closed++;
        return Promise.resolve();
      }
    }
    await new Closing()[Symbol.asyncDispose]();
    assertEquals(closed, 1);
  });
});

describe("pointIdText", () => {
  test("an id means the same as text, number and bigint", () => {
    assertEquals(["7", 7, 7n].map((id) => pointIdText(id)), ["7", "7", "7"]);
    assertEquals([-7, -7n, -0].map((id) => pointIdText(id)), ["-7", "-7", "0"]);
    assertEquals(pointIdText(2n ** 64n), "18446744073709551616");
    assertEquals(pointIdText("007"), "007");
  });

  test("what cannot be an id is refused, and not repeated", () => {
    // deno-lint-ignore no-explicit-any -- what callers without types do
    const wrong: any[] = [1.5, NaN, Infinity, 2 ** 53, null, undefined, {}, ["secret"]];
    for (const id of wrong) {
      const error = assertThrows(() => pointIdText(id), SinkError);
      assertEquals(error.kind, "sink-id");
      assertEquals(/secret|1\.5/.test(error.message), false);
    }
  });
});

describe("SinkError", () => {
  test("carries what a program branches on", () => {
    const error = new SinkError("text", {
      kind: "sink-overloaded",
      sink: "qdrant",
      retryable: true,
      retryAfterMs: 3000,
    });
    assertInstanceOf(error, PgStreamError);
    assert(isRetryable(error));
    assertEquals(error.name, "SinkError");
    assertEquals([error.sink, error.retryAfterMs], ["qdrant", 3000]);
  });
});
