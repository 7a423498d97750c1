/** Rows in Qdrant: against the stand-in, or the server at `QDRANT_URL` (with `QDRANT_API_KEY`). */

import { describe, test } from "node:test";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { QDRANT_ID_PROPERTY, QDRANT_ROW_PROPERTY } from "../../src/sinks/qdrant.ts";
import { qdrantId } from "../../src/sinks/qdrant_ids.ts";
import { at, canonical, row, scanAll, statesOf } from "../contract/row_sink/rows.ts";
import { rowSinkContract } from "../contract/row_sink_contract.ts";
import { QdrantCollections, refusal, STRICT } from "../support/qdrant_collections.ts";

const qdrant = new QdrantCollections();

for (const what of ["", ", vectors with a name", ", strict mode"]) {
  const vectorName = what.endsWith("name") ? "text" : undefined;
  const name = `rows${what.replaceAll(/[ ,]+/g, "-")}`;
  const options = vectorName === undefined ? {} : { vectorName };
  rowSinkContract(`QdrantSink${what}`, async () => {
    const sink = qdrant.sink(name, options);
    const collection = qdrant.name(name);
    if (what.endsWith("mode")) {
      // The contract searches by values of types that no one index serves.
      await qdrant.make(name, { ...STRICT, unindexed_filtering_retrieve: true });
    }
    await sink.delete("makes the collection");
    return {
      sink,
      async read(text) {
        const { id, derived } = await qdrantId(text);
        const [point] = await qdrant.client.retrieve(collection, { ids: [id], with_vector: true });
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
        return (await qdrant.client.count(collection)).count;
      },
      reopen: () => Promise.resolve(qdrant.sink(name, options)),
      release: () => Promise.resolve(),
    };
  }, {
    members: [
      "prepareRows",
      "apply",
      "fingerprints",
      "vectors",
      "scan",
      "deleteTable",
      "otherModel",
      "search",
    ],
    atomic: false,
  });
}

describe("rows in Qdrant", () => {
  const table = "public.documents";

  test("a row of many requests that is cut off in between is mended when it comes again", async () => {
    const text = "🐘".repeat(1_500_000);
    let requests = 0;
    let failAt = Infinity;
    const sink = qdrant.sink("cut", {
      client: qdrant.clientBut({
        batchUpdate(...given) {
          if (++requests > failAt) throw new TypeError("cut");
          return qdrant.client.batchUpdate(...given);
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
    const sink = qdrant.sink("late");
    const late = qdrant.sink("late", {
      client: qdrant.clientBut({ retrieve: () => Promise.resolve([]) }),
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
    const sink = qdrant.sink("meanwhile");
    const first = row(table, "1", at("0/1"), ["a"]);
    await sink.apply([first]);
    const stale = await qdrant.client.retrieve(qdrant.name("meanwhile"), {
      ids: [(await qdrantId(first.points[0]!.id)).id],
      with_payload: true,
    });
    const late = qdrant.sink("meanwhile", {
      client: qdrant.clientBut({ retrieve: () => Promise.resolve(stale) }),
    });
    const second = row(table, "1", at("0/2"), ["b"]);
    await sink.apply([second]);
    await late.apply([
      row(table, "1", at("0/3"), ["a"], { known: ["a"], payload: { late: true } }),
    ]);
    assertEquals((await scanAll(sink, table)).map(canonical), statesOf(second).map(canonical));
  });

  test("a vector that is not there any more is said to be gone, and nothing is written", async () => {
    const sink = qdrant.sink("gone");
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
    const sink = qdrant.sink("ids");
    const written = row(table, "7", at("0/1"), ["a"]);
    await sink.apply([written]);
    const plain = ["7", "550e8400-e29b-41d4-a716-446655440000", "a"];
    await sink.upsertMany(plain.map((id) => ({ id, vector: [1, 2, 3] })));
    const ids = [...plain, written.points[0]!.id, written.points[0]!.id];
    assertEquals([...(await sink.fingerprints(ids)).keys()], [written.points[0]!.id]);
  });

  test("a property that is the sink's own is refused, and its value not repeated", async () => {
    const sink = qdrant.sink("reserved");
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
    const sink = qdrant.sink("search");
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

  test("a closed sink does nothing of it", async () => {
    const sink = qdrant.sink("closed");
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
  });
});
