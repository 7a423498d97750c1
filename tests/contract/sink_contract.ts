/** What every sink does: one suite for all of them. Vectors have three dimensions. */

import { after, before, describe, test } from "node:test";
import { assert, assertEquals, assertFalse, assertRejects } from "@std/assert";
import { type PointId, type SearchHit, type Sink, SinkError } from "../../src/sinks/sink.ts";
import type { Vector } from "../../src/values/vector.ts";

/** A sink that nobody else writes to, and a way to look into its store that goes past it. */
export interface SinkUnderTest {
  sink: Sink & {
    search?(vector: Vector, options?: { limit?: number }): Promise<SearchHit[]>;
  };
  /** What is stored under an id. */
  read(id: string): Promise<{ vector: number[]; payload: Record<string, unknown> } | null>;
  count(): Promise<number>;
  /** Also after the sink was closed. */
  release(): Promise<void>;
}

export interface SinkContractOptions {
  /** False for a sink that stores what it is given, without a look at it. Default true. */
  validates?: boolean;
}

const ODD_IDS = [
  "",
  " ",
  "007",
  "-1",
  "9007199254740993",
  "18446744073709551616",
  "1.5",
  "Ünïcödé 🐘",
  `quote " ' \\ {a,b} $1 %s`,
  '["a","b"]',
  "line\nbreak\ttab",
  "x".repeat(2000),
  "550e8400-e29b-41d4-a716-446655440000",
  "__proto__",
];

export function sinkContract(
  name: string,
  makeSink: () => Promise<SinkUnderTest>,
  { validates = true }: SinkContractOptions = {},
): void {
  describe(`sink contract: ${name}`, () => {
    let made: SinkUnderTest;
    before(async () => {
      made = await makeSink();
    });
    after(() => made.release());

    async function assertStored(
      id: string,
      vector: number[],
      payload: Record<string, unknown> = {},
    ): Promise<void> {
      assertEquals(await made.read(id), { vector, payload });
    }

    test("a point that was stored is there, vector and payload", async () => {
      await made.sink.upsert({ id: "one", vector: [1, 2.5, -3], payload: { title: "Ünï 🐘 \"'" } });
      await assertStored("one", [1, 2.5, -3], { title: "Ünï 🐘 \"'" });
    });

    test("a second upsert leaves nothing of the first", async () => {
      const { sink } = made;
      await sink.upsert({ id: "two", vector: [1, 2, 3], payload: { old: 1, both: 1 } });
      await sink.upsert({ id: "two", vector: [4, 5, 6], payload: { both: 2 } });
      await assertStored("two", [4, 5, 6], { both: 2 });
      await sink.upsert({ id: "two", vector: [4, 5, 6] });
      await assertStored("two", [4, 5, 6], {});
    });

    test("a deleted point is gone; deleting it again is no error", async () => {
      const { sink } = made;
      await sink.upsert({ id: "three", vector: [1, 2, 3] });
      await sink.delete("three");
      assertEquals(await made.read("three"), null);
      await sink.delete("three");
      await sink.deleteMany(["three", "never there"]);
    });

    test('"7", 7 and 7n are one id, "007" is another', async () => {
      const { sink } = made;
      const spellings: PointId[] = ["7", 7, 7n];
      for (const [index, id] of spellings.entries()) {
        await sink.upsert({ id: "007", vector: [0, 0, 7] });
        await sink.upsert({ id, vector: [index, 0, 0] });
        await assertStored("7", [index, 0, 0]);
        await assertStored("007", [0, 0, 7]);
        await sink.delete(spellings[(index + 1) % 3]!);
        assertEquals(await made.read("7"), null);
      }
    });

    test("of two points with one id in one call the last wins", async () => {
      const many = [[1, 0, 0], [2, 0, 0], [3, 0, 0]].map((vector, index) => ({
        id: index === 1 ? 8 : "8",
        vector,
        payload: { index },
      }));
      await made.sink.upsertMany([...many, { id: "9", vector: [9, 9, 9] }]);
      await assertStored("8", [3, 0, 0], { index: 2 });
      await assertStored("9", [9, 9, 9]);
    });

    test("thousands of points go in and out in one call", async () => {
      const before = await made.count();
      const points = Array.from({ length: 3000 }, (_, index) => ({
        id: `many-${index}`,
        vector: [index, 1, 2],
        payload: { index },
      }));
      await made.sink.upsertMany(points);
      assertEquals(await made.count(), before + 3000);
      await assertStored("many-0", [0, 1, 2], { index: 0 });
      await assertStored("many-2999", [2999, 1, 2], { index: 2999 });
      await made.sink.deleteMany([...points.map(({ id }) => id), "many-0", "many-none"]);
      assertEquals(await made.count(), before);
    });

    test("no points and no ids are no error", async () => {
      await made.sink.upsertMany([]);
      await made.sink.deleteMany([]);
    });

    test("ids of any text are kept apart", async () => {
      const before = await made.count();
      await made.sink.upsertMany(ODD_IDS.map((id, index) => ({ id, vector: [index, 5, 5] })));
      assertEquals(await made.count(), before + ODD_IDS.filter((id) => id !== "007").length);
      for (const [index, id] of ODD_IDS.entries()) {
        assertEquals((await made.read(id))?.vector, [index, 5, 5], `id ${JSON.stringify(id)}`);
      }
      await made.sink.deleteMany(ODD_IDS);
      for (const id of ODD_IDS) assertEquals(await made.read(id), null);
    });

    test("a Float32Array is a vector, to its last bit", async () => {
      const vector = Float32Array.of(0.1, -1e-30, 16777217.5);
      await made.sink.upsert({ id: "float", vector });
      const stored = (await made.read("float"))!.vector;
      assertEquals(stored.map(Math.fround), Array.from(vector));
      await made.sink.delete("float");
    });

    test("what was given may be changed afterwards, and is not changed by the sink", async () => {
      const vector = Float32Array.of(1, 2, 3);
      const payload = { list: [1] };
      const point = Object.freeze({ id: "mine", vector, payload });
      await made.sink.upsert(point);
      assertEquals(point, { id: "mine", vector: Float32Array.of(1, 2, 3), payload: { list: [1] } });
      vector[0] = 9;
      payload.list.push(2);
      await assertStored("mine", [1, 2, 3], { list: [1] });
    });

    test("upserts beside each other do not disturb each other", async () => {
      const ids = Array.from({ length: 20 }, (_, index) => `beside-${index}`);
      await Promise.all(ids.map((id, index) => made.sink.upsert({ id, vector: [index, 0, 1] })));
      for (const [index, id] of ids.entries()) await assertStored(id, [index, 0, 1]);
    });

    if (validates) {
      test("payloads are stored as JSON: bigint, Date, NaN, bytes, undefined, __proto__", async () => {
        const payload = JSON.parse('{"__proto__": {"a": 1}}');
        Object.assign(payload, {
          small: 7n,
          large: 9007199254740993n,
          date: new Date(0),
          bytes: Uint8Array.of(0, 255),
          floats: Float32Array.of(0.5, 1),
          nothing: undefined,
          nan: NaN,
          infinite: -Infinity,
          nested: { deep: [null, 1n, { date: new Date(1) }] },
          empty: "",
        });
        await made.sink.upsert({ id: "payload", vector: [1, 2, 3], payload });
        const expected = JSON.parse('{"__proto__": {"a": 1}}');
        Object.assign(expected, {
          small: 7,
          large: "9007199254740993",
          date: "1970-01-01T00:00:00.000Z",
          bytes: "\\x00ff",
          floats: [0.5, 1],
          nan: "NaN",
          infinite: "-Infinity",
          nested: { deep: [null, 1, { date: "1970-01-01T00:00:00.001Z" }] },
          empty: "",
        });
        // As text: stores may keep properties in another order, and assertEquals skips __proto__.
        const stored = (await made.read("payload"))!.payload;
        const sorted = (object: object) => JSON.stringify(Object.entries(object).sort());
        assertEquals(sorted(stored), sorted(expected));
      });

      for (
        const [what, vector] of [
          ["NaN", [1, NaN, 4711]],
          ["NaN in a Float32Array", Float32Array.of(1, NaN, 4711)],
          ["infinity", [1, Infinity, 4711]],
          ["a number that no 32-bit float holds", [1, 1e39, 4711]],
          ["no element", []],
          ["a promise that nobody awaited", Promise.resolve([1, 2, 3])],
        ] as [string, number[]][]
      ) {
        test(`a vector with ${what} is refused, and the points beside it are not stored`, async () => {
          const error = await assertRejects(
            () => made.sink.upsertMany([{ id: "good", vector: [1, 2, 3] }, { id: "bad", vector }]),
            SinkError,
          );
          assertEquals(error.kind, "sink-vector");
          assertFalse(error.retryable);
          assertFalse(error.message.includes("4711"), error.message);
          assertEquals(await made.read("good"), null);
        });
      }

      test("a vector of another dimension is refused with both numbers", async () => {
        await made.sink.upsert({ id: "three dimensions", vector: [1, 2, 3] });
        const error = await assertRejects(
          () => made.sink.upsert({ id: "three dimensions", vector: [1, 2] }),
          SinkError,
        );
        assertEquals([error.kind, error.expected, error.got], ["sink-dimension", 3, 2]);
        assertFalse(error.retryable);
        await assertStored("three dimensions", [1, 2, 3]);
      });

      test("an id that is a number but no whole one is refused", async () => {
        for (const id of [1.5, NaN, 2 ** 53]) {
          const upsert = await assertRejects(
            () => made.sink.upsert({ id, vector: [1, 2, 3] }),
            SinkError,
          );
          assertEquals(upsert.kind, "sink-id");
          const removal = await assertRejects(() => made.sink.delete(id), SinkError);
          assertEquals(removal.kind, "sink-id");
        }
      });

      test("a payload that contains itself is refused", async () => {
        const payload: Record<string, unknown> = {};
        payload.self = payload;
        const error = await assertRejects(
          () => made.sink.upsert({ id: "loop", vector: [1, 2, 3], payload }),
          SinkError,
        );
        assertEquals(error.kind, "sink-payload");
      });
    }

    test("a search finds the nearest first, under the ids that were given", async (context) => {
      const { sink } = made;
      if (sink.search === undefined) return context.skip("the sink has no search");
      const near = [["near/1", [0, 100, 1]], ["12345", [0, 60, 60]]] as [string, number[]][];
      await sink.upsertMany(near.map(([id, vector]) => ({ id, vector, payload: { id } })));
      const hits = await sink.search([0, 100, 0.5], { limit: 2 });
      assertEquals(hits.map(({ id, payload }) => [id, payload]), [
        ["near/1", { id: "near/1" }],
        ["12345", { id: "12345" }],
      ]);
      assert(hits[0]!.score > hits[1]!.score);
    });

    test("closing twice is no error, nor is disposing afterwards", async () => {
      await made.sink.close();
      await made.sink.close();
      await made.sink[Symbol.asyncDispose]();
    });
  });
}
