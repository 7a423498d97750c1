import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent } from "../../../src/change.ts";
import { PgStreamError } from "../../../src/errors.ts";
import type { MemorySink } from "../../../src/sinks/memory.ts";
import { rowPointId, type RowWrite } from "../../../src/sinks/rows.ts";
import { SinkError } from "../../../src/sinks/sink.ts";
import { batchEmbedder } from "../../../src/sync/batched_embedder.ts";
import { RowSync } from "../../../src/sync/row_sync.ts";
import { deleteOf, insertOf, truncateOf, updateOf } from "../delivery/harness.ts";
import {
  contextOf,
  PlainSink,
  positionAt,
  RecordingEmbedder,
  RecordingSink,
  rowOf,
  RowsOnlySink,
  Synced,
  synced,
  SYSTEM,
  vectorOf,
} from "./synced.ts";

const idOf = (key: string, chunk = 0) => rowPointId("public.documents", key, chunk);
/** LSNs whose commit ends 0x10 later. */
const lsnOf = (n: number) => `0/${(n * 0x100).toString(16).toUpperCase()}`;
const insert = (n: number, key: string, body: string | null, title?: string) =>
  insertOf(key, { lsn: lsnOf(n), row: rowOf(key, body, title) });
const update = (n: number, key: string, body: string | null, title?: string, oldKey?: string) =>
  updateOf(key, oldKey ?? null, { lsn: lsnOf(n), row: rowOf(key, body, title) });
const remove = (n: number, key: string) => deleteOf(key, { lsn: lsnOf(n) });
const backfilled = (n: number, key: string, body: string | null) =>
  insertOf(key, { lsn: lsnOf(n), ordinal: -1, row: rowOf(key, body), backfill: true });
const bars = Object.defineProperty((text: string) => text.split("|"), "name", { value: "bars@1" });
/** `key@place: what is written of each point`; `=` where the vector stays, `!` where more is removed. */
const said = (rows: readonly RowWrite[]) =>
  rows.map(({ key, points, surplus }) =>
    `${key}: ${points.map(({ vector }) => vector === null ? "=" : "v").join("")}${
      surplus ? "!" : ""
    }`
  );

describe("a store that keeps rows", () => {
  test("gets each row's vector, payload and place, all rows in one call", async () => {
    const { handle, sink, embedder } = kit();
    await handle([insert(1, "1", "one"), insert(2, "2", "two", "Two"), insert(3, "3", null)]);
    assertEquals(sink.calls.map(({ method }) => method), ["fingerprints", "apply"]);
    const call = sink.calls[1]!;
    assertEquals(call.method === "apply" && call.position, null);
    const rows = sink.take();
    assertEquals(said(rows), ["1: v", "2: v", "3: !"]);
    assertEquals(rows[1]!.position, { ...SYSTEM, lsn: lsnOf(2), ordinal: 0 });
    assertEquals([rows[1]!.table, rows[1]!.model], ["public.documents", "m@1"]);
    assertEquals(sink.contents(), [
      [idOf("1"), { title: "t1" }, vectorOf("one")],
      [idOf("2"), { title: "Two" }, vectorOf("two")],
    ]);
    assertEquals(embedder.calls, 1);
  });

  test("is not sent a vector for a text that did not change, only what changed beside it", async () => {
    const { handle, sink, embedder } = kit();
    await handle([insert(1, "1", "one", "a")]);
    embedder.take();
    sink.take();
    await handle([update(2, "1", "one", "b")]);
    assertEquals([said(sink.take()), embedder.take()], [["1: ="], []]);
    assertEquals(sink.get(idOf("1"))!.payload, { title: "b" });
  });

  test("keeps a row that did not change at its newest place, so that an older write stays out", async () => {
    const { handle, sink, embedder } = kit(new RowsOnlySink());
    await handle([insert(1, "1", "one")]);
    await handle([update(2, "1", "two"), update(3, "1", "one")]);
    embedder.take();
    sink.take();
    // A process that was replaced, and has not noticed.
    await new Synced(sink).handle([update(2, "1", "two")]);
    assertEquals(sink.contents(), [[idOf("1"), { title: "t1" }, vectorOf("one")]]);
    // What comes again in other batches is not embedded either.
    await handle([update(2, "1", "two")]);
    await handle([update(3, "1", "one")]);
    assertEquals([said(sink.take()), embedder.take()], [[], []]);
  });

  test("is not written to for a row that did not change, and an older write stays out all the same", async () => {
    for (const sink of [new RecordingSink(), new RowsOnlySink()]) {
      const { handle, embedder } = kit(sink);
      await handle([insert(1, "1", "zero"), update(2, "1", "one")]);
      sink.take();
      embedder.take();
      // Another column was updated, twice.
      await handle([update(3, "1", "one")]);
      await handle([update(4, "1", "one")]);
      await handle([insert(1, "1", "zero")]);
      assertEquals(sink.calls.filter(({ method }) => method === "apply"), []);
      assertEquals(embedder.take(), []);
    }
  });

  test("is left alone by what comes again, and nothing is embedded", async () => {
    const { handle, sink, embedder } = kit(new RowsOnlySink());
    const events = [
      insert(1, "1", "one"),
      update(2, "1", "two"),
      insert(3, "2", "three"),
      update(4, "3", "three", "t", "2"),
    ];
    await handle(events);
    const before = sink.contents();
    embedder.take();
    sink.take();
    await handle(events.slice(0, 2));
    assertEquals(sink.calls.map(({ method }) => method), ["fingerprints"]);
    for (const event of events.filter(({ key }) => key !== "2")) await handle([event]);
    await handle(events);
    assertEquals([sink.contents(), embedder.take()], [before, []]);
  });

  test("loses the points of rows that were deleted, have no text any more, or took another key", async () => {
    const { handle, sink } = kit();
    await handle([insert(1, "1", "one"), insert(1, "2", "two"), insert(1, "3", "three")]);
    sink.take();
    await handle([remove(2, "1"), update(2, "2", "  "), update(2, "4", "three", "t3", "3")]);
    assertEquals(said(sink.take()).sort(), ["1: !", "2: !", "3: !", "4: v"]);
    assertEquals(sink.contents(), [[idOf("4"), { title: "t3" }, vectorOf("three")]]);
  });

  test("takes what another system makes of a row, whatever the LSN was", async () => {
    const { handle, sink } = kit(new RowsOnlySink());
    await handle([insert(9, "1", "one")], { system: { systemId: "6", timeline: 1 } });
    sink.take();
    await handle([update(2, "1", "one")]);
    assertEquals(said(sink.take()), []);
    await handle([update(3, "1", "two")]);
    assertEquals(sink.contents(), [[idOf("1"), { title: "t1" }, vectorOf("two")]]);
  });

  test("is written to by whoever has the later timeline, though its LSN is lower", async () => {
    const { handle, sink } = kit(new RowsOnlySink());
    await handle([insert(9, "1", "lost in the fail-over")]);
    await handle([update(2, "1", "two")], { system: { ...SYSTEM, timeline: 2 } });
    await handle([update(10, "1", "late")]);
    assertEquals(sink.contents(), [[idOf("1"), { title: "t1" }, vectorOf("two")]]);
  });

  test("that cannot tell what it has gets all vectors, and removes what is left over", async () => {
    const sink = new RecordingSink();
    sink.fingerprints = undefined as unknown as RecordingSink["fingerprints"];
    const { handle, embedder } = kit(sink, { chunk: bars });
    await handle([insert(1, "1", "a|b|c")]);
    await handle([update(2, "1", "a|b")]);
    assertEquals(said(sink.take()), ["1: vvv!", "1: vv!"]);
    assertEquals(sink.size, 2);
    assertEquals(embedder.take(), ["a", "a", "b", "b", "c"]);
  });

  test("is asked nothing, and gets nothing, where no event is its business", async () => {
    const { handle, sink } = kit();
    await handle([]);
    await handle([insertOf("1", { table: "others" }), truncateOf({ schema: "private" })]);
    // Of a table that is none of ours, and cannot be synced.
    await handle([deleteOf('{"slug":"x"}', { table: "others", oldRow: { slug: "x" } })]);
    assertEquals(sink.calls, []);
  });
});

describe("chunks", () => {
  const states = (sink: MemorySink) => sink.points().map(({ vector }) => vector[1]).join("");

  test("that changed are embedded, and no others", async () => {
    const { handle, sink, embedder } = kit(new RecordingSink(), { chunk: bars });
    await handle([insert(1, "1", "a|bb|ccc")]);
    assertEquals([said(sink.take()), embedder.take()], [["1: vvv"], ["a", "bb", "ccc"]]);
    await handle([update(2, "1", "a|bbbb|ccc")]);
    assertEquals([said(sink.take()), embedder.take()], [["1: =v="], ["bbbb"]]);
    assertEquals(states(sink), "143");
  });

  test("of a text that grows and shrinks are as many as it has", async () => {
    const { handle, sink, embedder } = kit(new RecordingSink(), { chunk: bars });
    await handle([insert(1, "1", "a")]);
    await handle([update(2, "1", "a|bb|ccc")]);
    assertEquals([said(sink.take()), states(sink)], [["1: v", "1: =vv"], "123"]);
    await handle([update(3, "1", "a|bb")]);
    assertEquals([said(sink.take()), states(sink)], [["1: ==!"], "12"]);
    await handle([update(4, "1", null)]);
    assertEquals([said(sink.take()), states(sink)], [["1: !"], ""]);
    assertEquals(embedder.take(), ["a", "bb", "ccc"]);
  });

  test("that are left over are removed by a row of a backfill, though nothing tells of them", async () => {
    const { handle, sink, embedder } = kit(new RecordingSink(), { chunk: bars });
    await handle([insert(1, "1", "a|bb|ccc")]);
    // As a store may be that was broken: the first chunk says that it is the only one.
    const { fingerprints } = sink;
    sink.fingerprints = async (ids) => {
      const states = await fingerprints.call(sink, ids);
      return new Map([...states].map(([id, state]) => [id, { ...state, chunks: 1 }]));
    };
    sink.take();
    await handle([backfilled(2, "1", "a")]);
    assertEquals([said(sink.take()), states(sink)], [["1: =!"], "1"]);
    assertEquals(embedder.take(), ["a", "bb", "ccc"]);
  });

  test("whose number or model is wrong in the store are written, though their texts are right", async () => {
    for (const wrong of [{ chunks: 1 }, { model: "another label" }]) {
      const { handle, sink, embedder } = kit(new RecordingSink(), { chunk: bars });
      await handle([insert(1, "1", "a|bb")]);
      const { fingerprints } = sink;
      sink.fingerprints = async (ids) => {
        const states = await fingerprints.call(sink, ids);
        return new Map([...states].map(([id, state]) => [id, { ...state, ...wrong }]));
      };
      sink.take();
      embedder.take();
      await handle([update(2, "1", "a|bb")], { position: () => positionAt("0/210") });
      assertEquals([said(sink.take()), embedder.take()], [["1: =="], []]);
    }
  });

  test("with the first one missing are not trusted, and what is missing is embedded", async () => {
    const { handle, sink, embedder } = kit(new RecordingSink(), { chunk: bars });
    await handle([insert(1, "1", "a|bb|ccc")]);
    await sink.delete(idOf("1", 0));
    sink.take();
    embedder.take();
    await handle([update(2, "1", "a|bb")]);
    assertEquals([said(sink.take()), states(sink)], [["1: v=!"], "21"]);
    assertEquals(embedder.take(), ["a"]);
  });

  test("of a row that was gone between are removed beyond what it has now, though the first one is not there", async () => {
    const { handle, sink } = kit(new RecordingSink(), { chunk: bars });
    await handle([insert(1, "1", "a|bb|ccc")]);
    // A delete that got half the way before its process ended: both come again in one batch.
    await sink.delete(idOf("1", 0));
    await handle([remove(2, "1"), insert(3, "1", "a")]);
    assertEquals(states(sink), "1");
  });
});

describe("rows of a backfill", () => {
  test("mend what differs, and nothing is embedded that is there", async () => {
    const { handle, sink, embedder } = kit();
    await handle([insert(1, "1", "one"), insert(1, "2", "two")]);
    await sink.upsert({ id: idOf("1"), vector: [9, 9, 9] });
    const stale = sink.get(idOf("2"))!;
    stale.payload = { title: "stale" };
    sink.take();
    embedder.take();
    await handle([backfilled(2, "1", "one"), backfilled(2, "2", "two"), backfilled(2, "3", "x")]);
    assertEquals([said(sink.take()), embedder.take()], [["1: v!", "2: =!", "3: v!"], ["one", "x"]]);
    assertEquals(sink.contents(), [
      [idOf("1"), { title: "t1" }, vectorOf("one")],
      [idOf("2"), { title: "t2" }, vectorOf("two")],
      [idOf("3"), { title: "t3" }, vectorOf("x")],
    ]);
  });

  test("never replace what a later change has written", async () => {
    const { handle, sink, embedder } = kit();
    await handle([insert(3, "1", "new")]);
    embedder.take();
    await handle([backfilled(2, "1", "old")]);
    assertEquals([sink.contents()[0], embedder.take()], [
      [idOf("1"), { title: "t1" }, vectorOf("new")],
      [],
    ]);
  });
});

describe("TRUNCATE", () => {
  test("empties its table, leaves others, and rows that follow it are there", async () => {
    const embedder = new RecordingEmbedder();
    const sink = new RecordingSink();
    const embed = batchEmbedder(embedder.embed, { maxDelayMs: 1 });
    const rows = new RowSync(
      ["documents", "notes"].map((table) => synced(sink, embed, {}, table)),
    );
    const note = insertOf("1", { table: "notes", lsn: lsnOf(1), row: rowOf("1", "note") });
    await rows.handle([insert(1, "1", "one"), note], contextOf());
    sink.take();
    embedder.take();
    await rows.handle([
      insert(2, "2", "never to be seen"),
      truncateOf({ lsn: lsnOf(3), ordinal: 4 }),
      insert(4, "1", "one"),
    ], contextOf());
    assertEquals(sink.calls.map(({ method }) => method), ["deleteTable", "fingerprints", "apply"]);
    assertEquals(sink.calls[0], {
      method: "deleteTable",
      table: "public.documents",
      position: { ...SYSTEM, lsn: lsnOf(3), ordinal: 4 },
    });
    assertEquals(embedder.take(), ["one"]);
    assertEquals(sink.points().map(({ id }) => id).sort(), [
      idOf("1"),
      rowPointId("public.notes", "1", 0),
    ]);
  });

  test("that comes again leaves what was written after it", async () => {
    const { handle, sink, embedder } = kit();
    await handle([truncateOf({ lsn: lsnOf(3) }), insert(4, "1", "one")]);
    embedder.take();
    await handle([truncateOf({ lsn: lsnOf(3) })]);
    await handle([insert(4, "1", "one")]);
    assertEquals([sink.size, embedder.take()], [1, []]);
  });

  test("of a store that cannot remove a table's points is an error that names the method", async () => {
    const { handle } = kit(new PlainSink());
    const error = await assertRejects(
      () => handle([truncateOf()]),
      PgStreamError,
      "deleteTable(table, position)",
    );
    assertEquals([error.kind, error.retryable], ["unsupported", false]);
  });
});

describe("a text that the store has under another id", () => {
  test("is not embedded again where a row gets another key, through several keys, or swaps it", async () => {
    const { handle, sink, embedder } = kit();
    await handle([insert(1, "1", "one"), insert(1, "2", "two")]);
    embedder.take();
    await handle([update(2, "3", "one", "t", "1")]);
    await handle([update(3, "9", "one", "t", "3"), update(3, "4", "one", "new", "9")]);
    // Swapped, by a third key.
    await handle([
      update(4, "x", "two", "t", "2"),
      update(4, "2", "one", "t", "4"),
      update(4, "4", "two", "t", "x"),
    ]);
    assertEquals(embedder.take(), []);
    assertEquals(
      sink.points().map(({ id, vector }) => [id, vector]).sort(),
      [[idOf("2"), vectorOf("one")], [idOf("4"), vectorOf("two")]],
    );
  });

  test("is not embedded again where chunks move, and what is new is", async () => {
    const { handle, sink, embedder } = kit(new RecordingSink(), { chunk: bars });
    await handle([insert(1, "1", "a|b|c")]);
    embedder.take();
    await handle([update(2, "1", "new|a|b|c")]);
    assertEquals(embedder.take(), ["new"]);
    await handle([update(3, "1", "b|c")]);
    assertEquals(embedder.take(), []);
    assertEquals(
      sink.points().map(({ vector }) => vector),
      [vectorOf("b"), vectorOf("c")],
    );
  });

  test("is embedded where its vector is gone by the time that it is asked for", async () => {
    const { handle, sink, embedder } = kit();
    await handle([insert(1, "1", "one")]);
    embedder.take();
    sink.vectors = () => Promise.resolve(new Map());
    await handle([update(2, "2", "one", "t", "1")]);
    assertEquals(embedder.take(), ["one"]);
  });
});

describe("the stream's position", () => {
  test("is stored with the rows, in one call, and the stream is told", async () => {
    const { handle, sink } = kit();
    const stored: unknown[] = [];
    const position = positionAt("0/110");
    await handle([truncateOf({ lsn: lsnOf(1) }), insert(1, "1", "one")], {
      position: (of) => of === sink ? position : null,
      stored: (of, what) => stored.push(of === sink, what),
    });
    const call = sink.calls.at(-1)!;
    assertEquals(call.method === "apply" && [said(call.rows), call.position], [["1: v"], position]);
    assertEquals(stored, [true, position]);
    assertEquals(await sink.position(position), position);
  });

  test("costs no call where no event is the sink's business: it is told in time", async () => {
    const { handle, sink } = kit();
    await handle([insertOf("1", { table: "others" })], { position: () => positionAt("0/110") });
    assertEquals(sink.calls, []);
  });

  test("is not stored, and the stream not told, where rows could not be written", async () => {
    const { handle, sink } = kit();
    const told: unknown[] = [];
    sink.fail = ({ method }) => {
      if (method === "apply") throw unreachable();
    };
    await assertRejects(() =>
      handle([insert(1, "1", "one")], {
        position: () => positionAt("0/110"),
        stored: (...what) => told.push(what),
      }), SinkError);
    assertEquals([told, await sink.position({ ...SYSTEM, slotName: "s" })], [[], null]);
  });

  test("that a sink has makes it skip the events that it covers, and those alone", async () => {
    const { handle, sink, embedder } = kit();
    const isStored = (of: unknown, event: ChangeEvent) => of === sink && event.lsn === lsnOf(1);
    await handle([insert(1, "1", "one"), truncateOf({ lsn: lsnOf(1) }), insert(2, "2", "two")], {
      isStored,
    });
    assertEquals([said(sink.take()), embedder.take()], [["2: v"], ["two"]]);
  });
});

describe("a sink of two methods", () => {
  test("is told all rows with their vectors, and which are gone", async () => {
    const { handle, sink, embedder } = kit(new PlainSink());
    await handle([insert(1, "1", "one"), insert(1, "2", "two"), insert(1, "3", "three")]);
    await handle([remove(2, "1"), update(2, "2", null), update(2, "4", "three", "t", "3")]);
    assertEquals([...sink.points.values()], [
      { id: idOf("4"), vector: vectorOf("three"), payload: { title: "t" } },
    ]);
    embedder.take();
    // What it has is not known: the payload needs the vector with it.
    await handle([update(3, "4", "three", "new")]);
    assertEquals([sink.points.get(idOf("4"))!.payload, embedder.take()], [
      { title: "new" },
      ["three"],
    ]);
  });

  test("that takes many at a time is given many at a time", async () => {
    const calls: unknown[] = [];
    const sink = Object.assign(new PlainSink(), {
      upsertMany: (points: readonly { id: unknown }[]) =>
        Promise.resolve(calls.push(points.map(({ id }) => id))),
      deleteMany: (ids: readonly unknown[]) => Promise.resolve(calls.push(ids)),
    });
    const { handle } = kit(sink);
    await handle([insert(1, "1", "a"), remove(1, "2"), insert(1, "3", "c"), remove(1, "4")]);
    assertEquals(calls, [[idOf("2"), idOf("4")], [idOf("1"), idOf("3")]]);
  });
});

describe("several sinks", () => {
  test("share what is embedded, are written at once, and one that fails does not leave the other behind", async () => {
    const embedder = new RecordingEmbedder();
    const embed = batchEmbedder(embedder.embed, { maxDelayMs: 1 });
    const [good, bad] = [new RecordingSink(), new RecordingSink()];
    const rows = new RowSync(
      [good, bad].map((sink) => synced(sink, embed)),
    );
    const gate = Promise.withResolvers<void>();
    const apply = good.apply.bind(good);
    good.apply = async (...given) => {
      await gate.promise;
      await apply(...given);
    };
    bad.fail = ({ method }) => {
      if (method !== "apply") return;
      setTimeout(gate.resolve);
      throw unreachable();
    };
    const error = await assertRejects(
      () => rows.handle([insert(1, "1", "one")], contextOf()),
      SinkError,
    );
    assertEquals(error.kind, "sink-unreachable");
    // Nothing is under way any more when the call is over.
    assertEquals([good.size, bad.size], [1, 0]);
    bad.fail = () => {};
    good.take();
    await rows.handle([insert(1, "1", "one")], contextOf());
    assertEquals([said(good.take()), bad.size, embedder.take()], [[], 1, ["one"]]);
  });

  test("of which one fails for now: the call may be tried again, whatever the other says", async () => {
    const embedder = new RecordingEmbedder();
    const sinks = [new RecordingSink(), new RecordingSink()];
    const final = new SinkError("no", { kind: "sink-rejected", sink: "memory" });
    for (const order of [sinks, sinks.toReversed()]) {
      sinks[0]!.fail = () => {
        throw final;
      };
      sinks[1]!.fail = () => {
        throw unreachable();
      };
      const rows = new RowSync(order.map((sink) => synced(sink, embedder.embed)));
      const error = await assertRejects(
        () => rows.handle([insert(1, "1", "one")], contextOf()),
        SinkError,
      );
      assertEquals(error.retryable, true);
    }
  });
});

test("calls that overlap, as of lanes, do not take each other's vectors, nor wait for each other", async () => {
  const { handle, sink, embedder } = kit(new RecordingSink());
  const gate = Promise.withResolvers<void>();
  const apply = sink.apply.bind(sink);
  let isBroken = true;
  sink.apply = async (rows, position) => {
    if (rows[0]!.key === "1" && isBroken) {
      await gate.promise;
      throw unreachable();
    }
    await apply(rows, position);
  };
  const first = handle([insert(1, "1", "shared"), insert(1, "2", "own")]);
  await handle([insert(2, "3", "shared")]);
  assertEquals(sink.points().map(({ id }) => id), [idOf("3")]);
  gate.resolve();
  await assertRejects(() => first, SinkError);
  isBroken = false;
  embedder.take();
  await handle([insert(1, "1", "shared"), insert(1, "2", "own")]);
  assertEquals([sink.size, embedder.take()], [3, []]);
});

test("a stream that is told to stop does not wait for what is being embedded", async () => {
  const stop = new AbortController();
  const begun = Promise.withResolvers<void>();
  const embed = () => {
    begun.resolve();
    return new Promise<never>(() => {});
  };
  const { handle, sink } = kit(new RecordingSink(), { embed, model: "m" });
  const handled = handle([insert(1, "1", "one")], { signal: stop.signal });
  await begun.promise;
  const reason = new Error("stop");
  stop.abort(reason);
  assertStrictEquals(await assertRejects(() => handled), reason);
  assertEquals(sink.size, 0);
});

test("rows that move up one key each are not lost where a batch ends between them", async () => {
  // UPDATE documents SET id = id + 1, one transaction, a DEFERRABLE key, REPLICA IDENTITY FULL.
  const { handle, sink } = kit(new RowsOnlySink());
  const bodies = ["a", "b", "c"];
  await handle(bodies.map((body, at) => insert(1, `${at + 1}`, body)));
  for (const [at, body] of bodies.entries()) {
    const [old, key] = [`${at + 1}`, `${at + 2}`];
    await handle([
      updateOf(key, old, {
        lsn: lsnOf(2),
        ordinal: at,
        row: rowOf(key, body, `t${old}`),
        oldRow: rowOf(old, body),
      }),
    ]);
  }
  assertEquals(
    sink.contents(),
    bodies.map((body, at) => [idOf(`${at + 2}`), { title: `t${at + 1}` }, vectorOf(body)]),
  );
});

test("a row that takes another key leaves nothing, though the store has an older text of it", async () => {
  const { handle, sink } = kit();
  await handle([insert(1, "1", "what was before an event that was given up")]);
  await handle([
    updateOf("2", "1", { lsn: lsnOf(3), row: rowOf("2", "a"), oldRow: rowOf("1", "a") }),
  ]);
  assertEquals(sink.points().map(({ id }) => id), [idOf("2")]);
});

test("a row that moves twice in a transaction leaves nothing where a batch ends between", async () => {
  const { handle, sink } = kit(new RowsOnlySink());
  await handle([insert(1, "1", "a")]);
  for (const [at, key] of ["2", "3"].entries()) {
    const old = `${at + 1}`;
    await handle([
      updateOf(key, old, {
        lsn: lsnOf(2),
        ordinal: at,
        row: rowOf(key, "a", "t"),
        oldRow: rowOf(old, "a", at === 0 ? "t1" : "t"),
      }),
    ]);
  }
  assertEquals(sink.points().map(({ id }) => id), [idOf("3")]);
});

function unreachable(): SinkError {
  return new SinkError("gone", { kind: "sink-unreachable", sink: "memory", retryable: true });
}

function kit<S extends RecordingSink | PlainSink = RecordingSink>(
  sink: S = new RecordingSink() as S,
  options: ConstructorParameters<typeof Synced>[1] = {},
) {
  const made = new Synced(sink, options);
  return {
    handle: made.handle.bind(made),
    sink,
    embedder: made.embedder,
  };
}
