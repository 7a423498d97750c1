/** What differs is found, what is only late is not, and exactly what differs is mended. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { PgStreamError } from "../../../src/errors.ts";
import { rowPointId, type RowSink } from "../../../src/sinks/rows.ts";
import { SinkError } from "../../../src/sinks/sink.ts";
import type { LiveStream } from "../../../src/sync/live_stream.ts";
import {
  Verification,
  type VerifyOptions,
  type VerifyProgress,
  type VerifyReport,
} from "../../../src/sync/verify.ts";
import { maker, TABLE, want, World } from "./verified_world.ts";

const key = (n: number) => `k${String(n).padStart(3, "0")}`;

/** Rows of 0 to 3 points, all of them handled. */
async function worldOf(rows: number, options: ConstructorParameters<typeof World>[0] = {}) {
  const world = new World(options);
  for (let n = 0; n < rows; n++) {
    world.change(key(n), { text: ["a b", "", "a", "a b c"][n % 4]!, tag: n });
  }
  await world.handle();
  world.show();
  return world;
}

function verify(
  world: World,
  options: VerifyOptions = {},
  more: { live?: LiveStream | null; sink?: RowSink } = {},
): Promise<VerifyReport> {
  const { live = world, sink = world.sink } = more;
  const retry = { attempts: 3, minDelayMs: 1, maxDelayMs: 1 };
  const { pause } = world;
  return new Verification({ maker, sink, source: world, live, retry, pause }, options).run();
}

const named = ({ differences }: VerifyReport): string[] =>
  differences.map(({ key, chunk, kind }) => `${kind} ${key} ${chunk}`).sort();

/** Breaks something of each kind. @returns what has to be found */
async function breakAll(world: World): Promise<string[]> {
  const deleted = world.rows().get(key(0))!;
  await world.corrupt(key(0), deleted);
  await world.store.delete(rowPointId(TABLE, key(0), 1));
  await world.corrupt(key(2), { text: "old", tag: 2 });
  await world.corrupt(key(4), { text: "a b", tag: -4 });
  await world.corrupt("gone", { text: "x y", tag: 0 });
  await world.corrupt(key(5), { text: "x", tag: 5 });
  await world.corrupt(key(3), { text: "a b", tag: 3 });
  await world.corrupt(key(8), { text: "a b c d", tag: 8 });
  return [
    `missing ${key(0)} 1`,
    `stale ${key(2)} 0`,
    `stale ${key(4)} 0`,
    `stale ${key(4)} 1`,
    "orphaned gone 0",
    "orphaned gone 1",
    // A row without a text.
    `orphaned ${key(5)} 0`,
    // Too few chunks, and too many: those that are there say a wrong number.
    `missing ${key(3)} 2`,
    `stale ${key(3)} 0`,
    `stale ${key(3)} 1`,
    `stale ${key(8)} 0`,
    `stale ${key(8)} 1`,
    `orphaned ${key(8)} 2`,
    `orphaned ${key(8)} 3`,
  ].sort();
}

/** The store is what the rows are to have, and nothing else. */
async function sameAsRows(world: World, message?: string): Promise<void> {
  const states = await world.points();
  const wanted = [...world.rows()].flatMap(([key, row]) =>
    want(key, row).points.map(({ id, fingerprint }, chunk, { length: chunks }) => ({
      ...{ id, key, chunk, chunks, fingerprint, payload: want(key, row).points[0]!.payload },
    }))
  );
  const stored = [...states.values()].map(({ id, key, chunk, chunks, fingerprint, payload }) => ({
    ...{ id, key, chunk, chunks, fingerprint, payload },
  }));
  const byId = (a: { id: string }, b: { id: string }) => a.id < b.id ? -1 : 1;
  assertEquals(stored.sort(byId), wanted.sort(byId), message);
}

describe("verify", () => {
  test("a store that is right has no differences, and all of both sides was looked at", async () => {
    const world = await worldOf(50);
    const report = await verify(world);
    const points = (await world.points()).size;
    assertEquals({ ...report, lsn: "" }, {
      ...{ table: TABLE, live: true, lsn: "", rows: 50, points, differences: [], truncated: false },
      ...{ missing: 0, stale: 0, orphaned: 0, unsettled: 0, repaired: 0 },
    });
    assertEquals(JSON.parse(JSON.stringify(report)), report);
    assert(/^[0-9A-F]+\/[0-9A-F]+$/.test(report.lsn), report.lsn);
    assertEquals(world.closed, 1);
  });

  test("a store or a table that is empty is no trouble", async () => {
    const world = new World();
    assertEquals((await verify(world)).differences, []);
    await world.corrupt("gone", { text: "a", tag: 1 });
    assertEquals(named(await verify(world)), ["orphaned gone 0"]);
    assertEquals(named(await verify(world, { repair: true })), ["orphaned gone 0"]);
    assertEquals((await world.points()).size, 0);
  });

  test("each way in which a point can be wrong is found, and named", async () => {
    const world = await worldOf(40);
    const broken = await breakAll(world);
    const before = await world.points();
    const report = await verify(world);
    assertEquals(named(report), broken);
    assertEquals(
      [report.missing, report.stale, report.orphaned, report.unsettled, report.repaired],
      [2, 7, 5, 0, 0],
    );
    assertEquals(await world.points(), before);
    assertEquals([world.rewritten, world.removed], [[], []]);
  });

  test("a model of another name, or a row's number in the store, is a difference", async () => {
    const world = await worldOf(8);
    const [state] = (await world.points()).values();
    const { table, position } = state!;
    const { points } = want(key(0), world.rows().get(key(0))!);
    await world.store.apply([{
      ...{ table, key: key(0), position, model: "model@0", surplus: true },
      points: points.map(({ text: _, ...point }) => ({ ...point, vector: [1] })),
    }], null);
    assertEquals(named(await verify(world)), [`stale ${key(0)} 0`, `stale ${key(0)} 1`]);
  });

  test("repair mends what is wrong, and leaves the rest alone", async () => {
    const world = await worldOf(40);
    await breakAll(world);
    const before = await world.points();
    const report = await verify(world, { repair: true });
    // The surplus of key 8 goes with what is stale of it.
    assertEquals([report.missing, report.stale, report.orphaned], [2, 7, 3]);
    assertEquals([report.repaired, report.unsettled], [12, 0]);
    assertEquals(world.rewritten.sort(), [0, 2, 3, 4, 5, 8].map(key));
    assertEquals(world.removed, ["gone"]);
    await sameAsRows(world);
    const touched = new Set([...world.rewritten, ...world.removed]);
    for (const [id, state] of await world.points()) {
      if (!touched.has(state.key)) assertEquals(state, before.get(id));
    }
    assertEquals(named(await verify(world)), []);
  });

  test("what cannot be mended is not said to be", async () => {
    const world = await worldOf(8);
    await world.corrupt(key(2), { text: "old", tag: 2 });
    await world.corrupt("gone", { text: "a", tag: 2 });
    const live: LiveStream = {
      server: world.server,
      caughtUp: (lsn) => world.caughtUp(lsn),
      rewrite: async () => {},
      atBarrier: async () => {},
    };
    const report = await verify(world, { repair: true }, { live });
    assertEquals([report.stale, report.orphaned, report.repaired], [1, 1, 0]);
  });

  for (const hides of [false, true]) {
    const changes = hides ? "changes that are handled before they are shown" : "changes";
    test(`beside ${changes} nothing is found that is not wrong, and all that is`, async () => {
      let settled = 0;
      for (let seed = 1; seed <= 120; seed++) {
        const hot = [20, 21, 22, 23, 60, 61].map(key);
        const world = await worldOf(30, { seed, hot, hides });
        const broken = await breakAll(world);
        const report = await verify(world);
        const open = report.differences.filter(({ kind }) => kind === "unsettled");
        const keys = open.map(({ key }) => key);
        const found = named(report).filter((line) => !line.startsWith("unsettled"));
        const known = broken.filter((line) => !keys.some((key) => line.includes(` ${key} `)));
        assertEquals(found, known, `seed ${seed}`);
        // Nobody has touched the rows: only what is gone may hide.
        assertEquals(keys.filter((key) => key !== "gone" && !hot.includes(key)), []);
        settled += broken.length === known.length ? 1 : 0;
      }
      assert(settled > 100, `${settled}`);
    });

    test(`beside ${changes} all is mended, and nothing that is right is lost`, async () => {
      for (let seed = 1; seed <= 120; seed++) {
        // Some of what is broken changes, too.
        const hot = [0, 3, 4, 20, 21, 60, 61].map(key).concat("gone");
        const world = await worldOf(30, { seed, hot, hides });
        await breakAll(world);
        await verify(world, { repair: true });
        await world.handle();
        await sameAsRows(world, `seed ${seed}`);
      }
    });

    test(`beside ${changes} a row that comes again is not taken for one that is gone`, async () => {
      for (let seed = 1; seed <= 60; seed++) {
        const hot = Array.from({ length: 40 }, (_, n) => `again ${n}`);
        const world = await worldOf(3, { seed, hot, hides });
        for (const key of hot) await world.corrupt(key, { text: "x y", tag: 0 });
        await verify(world, { repair: true });
        await world.handle();
        const states = [...(await world.points()).values()];
        for (const [key, row] of world.rows()) {
          const wanted = want(key, row).points.map(({ fingerprint }) => fingerprint);
          const stored = states.filter((state) => state.key === key);
          assertEquals(
            stored.map(({ fingerprint }) => fingerprint),
            wanted,
            `seed ${seed}: ${key}`,
          );
        }
      }
    });
  }

  for (const repair of [false, true]) {
    test(`what a transaction hides that stays open is unsettled${repair ? ", and stays" : ""}`, async () => {
      const world = await worldOf(8);
      world.change(key(0), { text: "new", tag: 0 }, false);
      world.change(key(2), null, false);
      world.change("new", { text: "new", tag: 0 }, false);
      // Nothing hides in a row that nobody has touched.
      await world.corrupt(key(4), { text: "old", tag: 4 });
      await world.handle();
      world.writers = "open";
      const before = await world.points();
      const report = await verify(world, { repair });
      const found = named(report);
      assertEquals(found.filter((line) => line.startsWith("unsettled")), [
        ...[`unsettled ${key(0)} null`, `unsettled ${key(2)} null`, "unsettled new null"],
      ]);
      assertEquals(found.filter((line) => !line.startsWith("unsettled")), [
        ...[`missing ${key(4)} 1`, `stale ${key(4)} 0`],
      ]);
      for (const [id, state] of before) {
        if (state.key !== key(4)) assertEquals((await world.points()).get(id), state);
      }
    });
  }

  test("rows of another server than the stream's prove nothing, and remove nothing", async () => {
    for (const server of [null, { systemId: "7", timeline: 1, startedAt: "another" }]) {
      const world = await worldOf(8);
      await world.corrupt("gone", { text: "a b", tag: 0 });
      await world.corrupt(key(2), { text: "old", tag: 0 });
      world.server = server;
      const before = await world.points();
      const report = await verify(world, { repair: true });
      assertEquals(named(report), [`unsettled gone null`, `unsettled ${key(2)} null`]);
      assertEquals(await world.points(), before);
      // So that the next one may be to the right one.
      if (server !== null) assert(world.closed > 5, `${world.closed}`);
    }
  });

  test("a server that is another one when the time comes to remove is told by then", async () => {
    const world = await worldOf(8);
    await world.corrupt("gone", { text: "a b", tag: 0 });
    const live: LiveStream = {
      get server() {
        return world.server;
      },
      caughtUp: (lsn) => world.caughtUp(lsn),
      rewrite: (keys) => world.rewrite(keys),
      atBarrier: (call) => {
        world.server = { systemId: "7", timeline: 2, startedAt: "another" };
        return world.atBarrier(call);
      },
    };
    const report = await verify(world, { repair: true }, { live });
    assertEquals([report.orphaned, report.repaired, world.removed], [2, 0, []]);
  });

  test("points that came from another system are right where they are, and go where they are not", async () => {
    const world = await worldOf(8);
    const position = { systemId: "8", timeline: 9, lsn: "F/0", ordinal: 5 };
    await world.corrupt(key(0), world.rows().get(key(0))!, { position });
    await world.corrupt("gone", { text: "a", tag: 0 }, { position });
    const report = await verify(world, { repair: true });
    assertEquals(named(report), ["orphaned gone 0"]);
    assertEquals(report.repaired, 1);
    await sameAsRows(world);
  });

  test("beside a stream that does not run, what is not handled is a difference, and stays", async () => {
    const world = await worldOf(8);
    world.step = async () => {};
    world.change(key(0), { text: "new b", tag: 0 });
    world.change("new", { text: "new", tag: 0 });
    const report = await verify(world, {}, { live: null });
    assertEquals(named(report), [`missing new 0`, `stale ${key(0)} 0`].sort());
    assertEquals(report.live, false);
    const error = assertThrows(
      () => verify(world, { repair: true }, { live: null }),
      PgStreamError,
    );
    assertEquals(error.kind, "not-running");
  });

  test("a sink that cannot be compared is refused by the name of what it lacks", async () => {
    const world = await worldOf(1);
    for (const method of ["fingerprints", "scan", "apply"] as const) {
      const { [method]: _, ...sink } = world.sink;
      const repair = method === "apply";
      const error = assertThrows(() => verify(world, { repair }, { sink }), PgStreamError);
      assertEquals(error.kind, "unsupported");
      assert(error.summary.includes(`${method}()`), error.summary);
      if (repair) assertEquals((await verify(world, {}, { sink })).rows, 1);
    }
  });

  test("a signal ends it wherever it is, and the connection is closed", async () => {
    let ends = 0;
    for (let at = 1, over = false; !over; at++) {
      const world = await worldOf(20);
      await breakAll(world);
      const { closed } = world;
      const controller = new AbortController();
      const reason = new Error("enough");
      let steps = 0;
      world.onStep = () => {
        if (++steps === at) controller.abort(reason);
      };
      const ended = await verify(world, { repair: true, signal: controller.signal }).then(
        () => null,
        (error) => error,
      );
      assertEquals(world.closed, closed + 1);
      over = steps < at;
      if (over) continue;
      assertEquals(ended, reason, `step ${at}`);
      ends++;
      assert(steps <= at + 8, `${steps - at} steps after it was aborted`);
    }
    assert(ends > 25, `${ends}`);
  });

  test("what may pass is tried again, and what does not pass is told", async () => {
    const world = await worldOf(20);
    const broken = await breakAll(world);
    const failing = (kind: string, retryable: boolean, times: number) => {
      let left = times;
      return {
        ...world.sink,
        fingerprints: (ids: readonly string[]) =>
          left-- > 0
            ? Promise.reject(new SinkError("no", { kind, retryable, sink: "test" }))
            : world.sink.fingerprints!(ids),
      };
    };
    const sink = failing("sink-unreachable", true, 3);
    assertEquals(named(await verify(world, {}, { sink })), broken);
    for (
      const sink of [
        failing("sink-unreachable", true, 4),
        failing("sink-rejected", false, 1),
        failing("key-changed", true, 1),
      ]
    ) {
      await assertRejects(() => verify(world, {}, { sink }), SinkError, "no");
    }
  });

  test("what a function of the user's throws is told, and the connection is closed", async () => {
    const world = await worldOf(3);
    const broken = { ...maker, make: () => Promise.reject(new Error("text() threw")) };
    const { sink } = world;
    const options = { maker: broken, sink, source: world, live: world, retry: null };
    await assertRejects(() => new Verification(options).run(), Error, "text() threw");
    assertEquals(world.closed, 1);
  });

  test("a report of a store that is empty names some, and counts all", async () => {
    const world = await worldOf(1000, { limit: 60 });
    const all = (await world.points()).size;
    for (const n of world.rows().keys()) await world.corrupt(n, null);
    const report = await verify(world, { repair: true });
    assertEquals([report.missing, report.repaired], [all, all]);
    assertEquals([report.differences.length, report.truncated], [100, true]);
    assertEquals(new Set(report.differences.map(({ kind }) => kind)), new Set(["missing"]));
    assert(world.most.ids <= 600 && world.most.page <= 500, JSON.stringify(world.most));
    await sameAsRows(world);
    for (const n of world.rows().keys()) world.change(n, null);
    const { rewritten } = world;
    world.writers = "over";
    for (let n = 0; n < 900; n++) await world.corrupt(`gone ${n}`, { text: "a", tag: n });
    await world.handle();
    const orphans = await verify(world, { repair: true });
    assertEquals([orphans.orphaned, orphans.repaired], [900, 900]);
    assertEquals(world.rewritten, rewritten);
    assert(world.most.keys <= 700, JSON.stringify(world.most));
  });

  test("progress is told some times a second, and where a side is done", async () => {
    const world = await worldOf(400, { limit: 60 });
    const told: VerifyProgress[] = [];
    let now = 0;
    const { sink } = world;
    const options = { maker, sink, source: world, live: world, retry: null, now: () => now++ };
    const { rows, points } = await new Verification(options, {
      onProgress: (progress) => void told.push(progress),
    }).run();
    const phases = told.map(({ phase }) => phase);
    assertEquals(phases, phases.toSorted().reverse());
    // The clock goes on by 1 each time it is looked at.
    assert(told.length >= 3 && told.length < now / 20, `${told.length} of ${now}`);
    assertEquals(told.at(-1), { phase: "points", rows, points });
    assertEquals(told[phases.lastIndexOf("rows")], { phase: "rows", rows, points: 0 });
  });
});
