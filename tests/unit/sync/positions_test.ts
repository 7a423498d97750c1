import { assert, assertEquals, assertFalse, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent } from "../../../src/change.ts";
import { PgStreamError } from "../../../src/errors.ts";
import { silentLogger } from "../../../src/logger.ts";
import { parseLsn } from "../../../src/lsn.ts";
import { MemorySink } from "../../../src/sinks/memory.ts";
import type { StreamPosition } from "../../../src/sinks/rows.ts";
import type { SinkLike } from "../../../src/sinks/sink.ts";
import { Positions, type PositionsRun } from "../../../src/sync/positions.ts";
import { FakeTimers } from "../../support/fake_timers.ts";

const system = { systemId: "7000000000000000001", timeline: 1 };
const lsn = (text: string) => parseLsn(text);

function event(lsn: string, ordinal: number): ChangeEvent {
  return { operation: "insert", lsn, ordinal } as ChangeEvent;
}

function position(endLsn: string, part: Partial<StreamPosition> = {}): StreamPosition {
  return { ...system, slotName: "s", endLsn, commitLsn: null, ordinal: null, ...part };
}

/** Counts what it is told. */
class CountingSink extends MemorySink {
  calls: (StreamPosition | null)[] = [];
  fail = false;
  override apply(...[rows, position]: Parameters<MemorySink["apply"]>): Promise<void> {
    this.calls.push(position);
    return this.fail ? Promise.reject(new Error("down")) : super.apply(rows, position);
  }
}

/** A stream that has arrived, its time, and its frontier. */
async function arrived(options: Partial<PositionsRun> = {}, sinks?: SinkLike[]) {
  const timers = new FakeTimers();
  const sink = new CountingSink();
  const state = { frontier: lsn("0/0"), confirmed: lsn("0/0") };
  const positions = new Positions({
    slotName: "s",
    sinks: sinks ?? [sink],
    logger: silentLogger,
    timers,
  });
  const confirm = () => {
    state.confirmed = positions.confirmable(state.frontier);
  };
  await positions.arrived({
    system,
    confirmedLsn: lsn("0/0"),
    continues: true,
    isFilled: () => true,
    oneLane: true,
    frontier: () => state.frontier,
    confirm,
    ...options,
  });
  const move = async (to: string, forMs = 0) => {
    state.frontier = lsn(to);
    confirm();
    await timers.run(forMs);
  };
  return { timers, sink, positions, state, move };
}

describe("the position of a stream in its stores", () => {
  test("is stored before it is confirmed, and nothing is confirmed that was not stored", async () => {
    const { sink, state, move, timers } = await arrived();
    sink.fail = true;
    await move("0/100", 5);
    assertEquals(state.confirmed, lsn("0/0"));
    sink.fail = false;
    await timers.run(60_000);
    assertEquals(await sink.position({ ...system, slotName: "s" }), position("0/100"));
    assertEquals(state.confirmed, lsn("0/100"));
  });

  test("of a stream in which nothing happens is stored once a minute: a store in the source feeds itself", async () => {
    const { sink, move, positions } = await arrived();
    for (let at = 1; at <= 100; at++) await move(`0/${(at * 100).toString(16)}`, 1000);
    assertEquals(sink.calls.length, 2);
    positions.end();
  });

  test("is stored earlier where the server would have to keep 16 MB of WAL", async () => {
    const { sink, state, move } = await arrived();
    await move("0/100", 2000);
    await move("0/1000100", 2000);
    assertEquals(state.confirmed, lsn("0/1000100"));
    assertEquals(sink.calls.length, 2);
  });

  test("of transactions that were handled is confirmed within a second or so", async () => {
    const { sink, state, move, positions, timers } = await arrived();
    await move("0/100", 5000);
    positions.handled([event("0/180", 0)]);
    await move("0/200", 1000);
    assertEquals(state.confirmed, lsn("0/200"));
    // Many small ones share a write.
    for (let at = 1; at <= 100; at++) {
      positions.handled([event(`0/${(0x200 + at * 16).toString(16)}`, 0)]);
      await move(`0/${(0x208 + at * 16).toString(16)}`, 10);
    }
    await timers.run(2000);
    assertEquals(state.confirmed, lsn("0/848"));
    assert(sink.calls.length <= 5, `${sink.calls.length} writes`);
  });

  test("is not stored beside rows of a backfill, which the store would refuse for it", async () => {
    const { sink, state, move, positions, timers } = await arrived();
    await move("0/100", 5000);
    const gate = Promise.withResolvers<void>();
    const given = positions.with(sink, [event("0/100", -1)], lsn("0/100"))!;
    const writing = positions.alone(async () => {
      await gate.promise;
      await sink.apply([], given);
    });
    await move("0/200", 120_000);
    await positions.flush();
    assertEquals(await sink.position({ ...system, slotName: "s" }), given);
    gate.resolve();
    await writing;
    await timers.run(60_000);
    assertEquals(state.confirmed, lsn("0/200"));
  });

  test("is stored beside rows where several lanes are handled: it comes with none of them", async () => {
    const { state, move, positions } = await arrived({ oneLane: false });
    const gate = Promise.withResolvers<void>();
    const writing = positions.alone(() => gate.promise);
    await move("0/200", 60_000);
    assertEquals(state.confirmed, lsn("0/200"));
    gate.resolve();
    await writing;
  });

  test("that came with the rows needs no write of its own", async () => {
    const { sink, state, move, positions } = await arrived();
    const events = [event("0/80", 0), event("0/80", 1)];
    const stored = positions.with(sink, events, lsn("0/100"))!;
    assertEquals(stored, position("0/100"));
    positions.stored(sink, stored);
    positions.handled(events);
    await move("0/100", 5000);
    assertEquals(sink.calls.length, 0);
    assertEquals(state.confirmed, lsn("0/100"));
  });

  test("inside of a transaction says how far it is in the store", async () => {
    const { sink, positions } = await arrived();
    const events = [event("0/80", 0), event("0/180", 0), event("0/180", 1)];
    const stored = positions.with(sink, events, lsn("0/100"))!;
    assertEquals(stored, position("0/100", { commitLsn: "0/180", ordinal: 1 }));
    positions.stored(sink, stored);
    assert(positions.isStored(sink, event("0/80", 0)));
    assert(positions.isStored(sink, event("0/180", 1)));
    assertFalse(positions.isStored(sink, event("0/180", 2)));
    assertFalse(positions.isStored(sink, event("0/200", 0)));
    // Rows of a backfill stand in none, and do not take it back.
    assertFalse(positions.isStored(sink, event("0/80", -1)));
    positions.handled(events);
    assertEquals(positions.with(sink, [event("0/80", -1)], lsn("0/100")), stored);
  });

  test("that comes again after a crash is not taken back, or the store would refuse rows of a backfill", async () => {
    const { sink, positions } = await arrived();
    await sink.apply([], position("0/500", { commitLsn: "0/600", ordinal: 3 }));
    const again = await arrived({ confirmedLsn: lsn("0/100") }, [sink]);
    const { positions: next } = again;
    assertEquals(
      next.with(sink, [event("0/120", -1)], lsn("0/100")),
      position("0/500", { commitLsn: "0/600", ordinal: 3 }),
    );
    assert(next.isStored(sink, event("0/600", 3)));
    assertFalse(next.isStored(sink, event("0/600", 4)));
    positions.end();
  });

  test("behind what was confirmed is an error: the store was restored from a backup", async () => {
    const sink = new MemorySink();
    await sink.apply([], position("0/100"));
    const error = await assertRejects(
      () => arrived({ confirmedLsn: lsn("0/200") }, [sink]),
      PgStreamError,
      "up to 0/100",
    );
    assertEquals(error.kind, "sync-behind");
    // Not where it is filled anew, or changes were missed, which is told by other means.
    await arrived({ confirmedLsn: lsn("0/200"), isFilled: () => false }, [sink]);
    await arrived({ confirmedLsn: lsn("0/200"), continues: false }, [sink]);
    await arrived({ confirmedLsn: lsn("0/100") }, [sink]);
  });

  test("of another timeline hides nothing: the same LSNs may be other changes", async () => {
    const sink = new MemorySink();
    await sink.apply([], position("0/500"));
    const { positions } = await arrived({ system: { ...system, timeline: 2 } }, [sink]);
    assertFalse(positions.isStored(sink, event("0/80", 0)));
  });

  test("with several lanes is not stored with the rows: a later one would refuse them", async () => {
    const { sink, positions, state, move } = await arrived({ oneLane: false });
    assertEquals(positions.with(sink, [event("0/80", 0)], lsn("0/100")), null);
    positions.handled([event("0/80", 0)]);
    await move("0/100", 2000);
    assertEquals(sink.calls, [position("0/100")]);
    assertEquals(state.confirmed, lsn("0/100"));
  });

  test("is that of the store that is the furthest behind", async () => {
    const [one, two] = [new CountingSink(), new CountingSink()];
    two.fail = true;
    const { state, move, positions } = await arrived({}, [one, two]);
    await move("0/100", 2000);
    assertEquals(state.confirmed, lsn("0/0"));
    two.fail = false;
    await positions.flush();
    assertEquals(state.confirmed, lsn("0/100"));
  });

  test("holds nothing back where no store keeps it", async () => {
    const sink: SinkLike = { upsert: () => Promise.resolve(), delete: () => Promise.resolve() };
    const { state, move } = await arrived({}, [sink]);
    await move("0/100");
    assertEquals(state.confirmed, lsn("0/100"));
  });

  test("at the end is stored at once", async () => {
    const { sink, state, move, positions } = await arrived();
    await move("0/100", 100);
    await move("0/200", 100);
    assertEquals(state.confirmed, lsn("0/100"));
    await positions.flush();
    assertEquals(state.confirmed, lsn("0/200"));
    assertEquals(sink.calls.length, 2);
  });
});
