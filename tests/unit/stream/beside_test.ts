import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { describe, test } from "node:test";
import type { EventQueue } from "../../../src/delivery/event_queue.ts";
import { Frontier } from "../../../src/delivery/frontier.ts";
import { atBarrier, handledTo } from "../../../src/stream/beside.ts";

const never = new AbortController().signal;

/** A queue that comes to its barriers when it is told to. */
function queueOf() {
  const calls: (() => Promise<unknown>)[] = [];
  const queue = { barrier: (call) => void calls.push(call!), flush: () => {} } as EventQueue;
  return { queue, come: async () => void await Promise.all(calls.splice(0).map((call) => call())) };
}

describe("who waits for a position", () => {
  test("goes on once all before it is handled, and asks the server until then", async () => {
    const frontier = new Frontier(100n);
    let asked = 0;
    const ask = () => void (++asked === 2 && frontier.keepalive(200n));
    await handledTo(200n, frontier, ask, [never]);
    assertEquals(asked, 2);
    await handledTo(200n, frontier, ask, [never]);
    assertEquals(asked, 2);
  });

  test("is told when the stream has failed, whichever signal says so", async () => {
    for (const place of [0, 1]) {
      const over = new AbortController();
      const signals = place === 0 ? [over.signal, never] : [never, over.signal];
      const reason = new Error("not running");
      const waiting = handledTo(200n, new Frontier(100n), () => over.abort(reason), signals);
      assertStrictEquals(await assertRejects(() => waiting), reason);
    }
  });
});

describe("who has something to do between two events", () => {
  test("is called when the queue comes there, and what it throws is its own", async () => {
    const { queue, come } = queueOf();
    const log: string[] = [];
    const done = atBarrier(queue, () => Promise.resolve(void log.push("called")), [never]);
    assertEquals(log, []);
    await come();
    await done;
    assertEquals(log, ["called"]);
    const reason = new Error("the store is away");
    const failing = assertRejects(() => atBarrier(queue, () => Promise.reject(reason), [never]));
    await come();
    assertStrictEquals(await failing, reason);
  });

  test("is told when the stream has failed before, and is not called any more", async () => {
    const { queue, come } = queueOf();
    const over = new AbortController();
    let called = false;
    const call = () => Promise.resolve(void (called = true));
    const waiting = assertRejects(() => atBarrier(queue, call, [never, over.signal]));
    const reason = new Error("not running");
    over.abort(reason);
    assertStrictEquals(await waiting, reason);
    await come();
    assertEquals(called, false);
    assertStrictEquals(await assertRejects(() => atBarrier(queue, call, [over.signal])), reason);
  });
});
