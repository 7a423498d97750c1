import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertLess,
  assertLessOrEqual,
} from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent } from "../../../src/change.ts";
import type { BatchLimits } from "../../../src/delivery/handler.ts";
import { LanePlan } from "../../../src/delivery/lane_plan.ts";
import { seededRandom } from "../../support/random.ts";
import {
  batch,
  Harness,
  insertOf,
  inTime,
  isSettled,
  OVERHEAD,
  single,
  truncateOf,
  turn,
  updateOf,
} from "./harness.ts";

/** Longer than any test. */
const NEVER_MS = 3_600_000;
const LARGE = 100_000_000;

function keysOf(events: readonly ChangeEvent[]): string {
  return events.map((event) => event.key ?? event.operation).join(" ");
}

/** A delivery in batches, and the batches that it has handed out. */
function batching(
  limits: Partial<BatchLimits>,
  options: ConstructorParameters<typeof Harness>[1] = {},
): { harness: Harness; batches: string[] } {
  const batches: string[] = [];
  const harness = new Harness([batch((events) => batches.push(keysOf(events)))], {
    batch: { maxEvents: LARGE, maxBytes: LARGE, maxDelayMs: NEVER_MS, ...limits },
    ...options,
  });
  return { harness, batches };
}

async function turns(count = 3): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

describe("a batch is handed out", () => {
  test("when it has as many events as it may, and holds no more", async () => {
    const { harness, batches } = batching({ maxEvents: 3 });
    const running = harness.offer(7).run();
    await turns();
    assertEquals(batches, ["1 2 3", "4 5 6"], "the last one waits");
    harness.offer(2);
    await turns();
    assertEquals(batches, ["1 2 3", "4 5 6", "7 8 9"]);
    harness.stop();
    await running;
  });

  test("when it has as many bytes as it may, and holds no more", async () => {
    const each = 100 + OVERHEAD;
    const { harness, batches } = batching({ maxBytes: 3 * each });
    const running = harness.offer(2).run();
    await turns();
    assertEquals(batches, []);
    harness.offer(5);
    await turns();
    assertEquals(batches, ["1 2 3", "4 5 6"]);
    harness.stop();
    await running;
  });

  test("with an event that is too large for any, which is alone in it", async () => {
    const { harness, batches } = batching({ maxBytes: 5 * OVERHEAD });
    harness.offer(1, 10).offer(1, 1_000_000).offer(2, 10);
    await harness.drain();
    assertEquals(batches, ["1", "2", "3 4"]);
  });

  test("when its first event has waited long enough, however many come meanwhile", async () => {
    let clock = 0;
    const { harness, batches } = batching({ maxDelayMs: 20 }, { now: () => clock });
    const running = harness.run();
    for (let i = 0; i < 4; i++) {
      harness.offer();
      clock += 6;
      await turns(1);
    }
    assertEquals(batches, ["1 2 3 4"], "24 ms after the first, 6 after the last");
    harness.offer();
    clock += 19;
    harness.offer();
    await turns();
    assertEquals(batches.length, 1, "the next one counts from its own first event");
    clock += 1;
    harness.offer();
    await turns();
    assertEquals(batches.slice(1), ["5 6 7"]);
    harness.stop();
    await running;
  });

  test("by real time, where nothing more comes", async () => {
    const { harness, batches } = batching({ maxDelayMs: 30 });
    const began = performance.now();
    const running = harness.offer(2).run();
    while (batches.length === 0) await turn();
    assertGreaterOrEqual(performance.now() - began, 28);
    harness.stop();
    await running;
    assertEquals(harness.frontier.confirmed, 2n);
  });

  test("at once, where it is not to wait", async () => {
    const { harness, batches } = batching({ maxDelayMs: 0 });
    const running = harness.offer(2).run();
    await turns();
    assertEquals(batches, ["1 2"]);
    harness.stop();
    await running;
  });

  test("after a wait longer than a timer's, which is not cut short", async () => {
    let looks = 0;
    const { harness, batches } = batching({ maxDelayMs: 1e12 }, { now: () => ++looks });
    const running = harness.offer(2).run();
    for (let i = 0; i < 60; i++) await turn();
    assertEquals(batches, []);
    assertLess(looks, 20, "nor looked at again and again");
    harness.stop();
    await running;
  });

  test("with what waits, when the queue is full: nothing more can come", async () => {
    const { harness, batches } = batching({}, { maxQueueBytes: 3 * (100 + OVERHEAD) });
    const running = harness.run();
    for (let i = 0; i < 20; i++) {
      harness.offer();
      await inTime("room", Promise.resolve(harness.delivery.room()));
    }
    assertEquals(keysIn(batches), 20 - 20 % 4);
    harness.stop();
    await running;
  });

  test("with what waits already, when a producer comes to wait for room", async () => {
    const { harness, batches } = batching({}, { maxQueueBytes: 2 * (100 + OVERHEAD) });
    const running = harness.offer(3).run();
    await turns();
    assertEquals(batches, []);
    await inTime("room", Promise.resolve(harness.delivery.room()));
    assertEquals(batches, ["1 2 3"]);
    harness.stop();
    await running;
  });

  test("with what waits in other lanes too, when the queue is full", async () => {
    const { harness } = batching({}, {
      maxQueueBytes: 6 * (100 + OVERHEAD),
      lanes: new LanePlan(8),
    });
    const running = harness.run();
    for (let i = 0; i < 100; i++) {
      harness.offer();
      await inTime("room", Promise.resolve(harness.delivery.room()));
    }
    harness.stop();
    await running;
  });

  test("with what waits, when all is to be handled now, and what comes meanwhile", async () => {
    const { harness, batches } = batching({}, { lanes: new LanePlan(1) });
    const running = harness.offer(3).run();
    await turns();
    assertEquals(batches, []);
    const drained = harness.delivery.drained();
    harness.offer(2);
    await inTime("all to be handled", drained);
    assertEquals(batches, ["1 2 3 4 5"]);
    harness.offer(1);
    await turns();
    assertEquals(batches.length, 1, "from then on batches are filled again");
    harness.stop();
    await running;
  });

  test("with what waits in its lane, where that has to meet others", async () => {
    const meetings = [truncateOf(), null] as const;
    for (const event of meetings) {
      const { harness, batches } = batching({}, { lanes: new LanePlan(4) });
      const running = harness.offer(12).run();
      await turns();
      assertEquals(batches, []);
      if (event === null) harness.delivery.barrier();
      else harness.offerEvent(event);
      await turns();
      assertEquals(keysIn(batches), event === null ? 12 : 13);
      if (event !== null) assertEquals(batches.at(-1), "truncate", "alone, and after all others");
      const before = batches.length;
      harness.offer(12);
      await turns();
      assertEquals(batches.length, before, "from then on batches are filled again");
      harness.stop();
      await running;
    }
  });

  test("with what waits for a key change in both of its lanes, and in no other", async () => {
    const plan = new LanePlan(8);
    const laneOf = (key: string) =>
      plan.place(insertOf(key), {
        name: { schema: "public", table: "documents" },
        primaryKey: ["id"],
        keyed: true,
      });
    const keys = Array.from({ length: 50 }, (_, i) => `${i}`);
    const [a] = keys as [string];
    const b = keys.find((key) => laneOf(key) !== laneOf(a))!;
    const c = keys.find((key) => ![a, b].some((other) => laneOf(other) === laneOf(key)))!;
    const { harness, batches } = batching({}, { lanes: plan });
    const running = harness.run();
    for (const key of [a, b, c]) harness.offerEvent(insertOf(key));
    harness.offerEvent(updateOf(b, a));
    await turns();
    assertEquals(batches.toSorted(), [a, b, b].toSorted());
    harness.stop();
    await running;
  });
});

function keysIn(batches: readonly string[]): number {
  return batches.reduce((sum, keys) => sum + keys.split(" ").length, 0);
}

describe("a batch over the borders of transactions", () => {
  test("is in commit order, and confirmed as far as its transactions are whole", async () => {
    const { harness, batches } = batching({ maxEvents: 4 });
    harness.offerTransaction(["a", "b", "c"].map((key) => insertOf(key)));
    harness.offerTransaction(["d", "e"].map((key) => insertOf(key)));
    const running = harness.run();
    await turns();
    assertEquals(batches, ["a b c d"]);
    assertEquals(harness.frontier.confirmed, 3n, "the first, not the half of the second");
    harness.offerTransaction(["f", "g", "h"].map((key) => insertOf(key)));
    await turns();
    assertEquals(batches, ["a b c d", "e f g h"]);
    assertEquals(harness.frontier.confirmed, 8n);
    harness.stop();
    await running;
  });

  test("confirms nothing of itself before it is done", async () => {
    const gate = Promise.withResolvers<void>();
    const harness = new Harness([batch(() => gate.promise)], {
      batch: { maxEvents: 3, maxBytes: LARGE, maxDelayMs: NEVER_MS },
    });
    const running = harness.offer(3).run();
    await turns();
    assertEquals(harness.frontier.confirmed, 0n);
    gate.resolve();
    await turns();
    assertEquals(harness.frontier.confirmed, 3n);
    harness.stop();
    await running;
  });

  test("whose poison is given up: neither before nor behind it is more confirmed than is done (34)", async () => {
    const confirmed: bigint[] = [];
    const settled: string[] = [];
    const harness: Harness = new Harness([batch((events) => {
      if (keysOf(events).includes("4")) throw new Error("no");
    })], {
      batch: { maxEvents: 8, maxBytes: LARGE, maxDelayMs: NEVER_MS },
      onFailure: async () => {
        await turns();
        confirmed.push(harness.frontier.confirmed);
        return "skip" as const;
      },
      onSettled: (event, skipped) => settled.push(`${event.key}${skipped ? "!" : ""}`),
    });
    await harness.offer(8).drain();
    assertEquals(confirmed, [3n], "what is before it is done, and it is not");
    assertEquals(settled, ["1", "2", "3", "4!", "5", "6", "7", "8"]);
    assertEquals(harness.frontier.confirmed, 8n);
  });

  test("no later batch overtakes one that is tried again (33)", async () => {
    const log: string[] = [];
    let failures = 3;
    const harness = new Harness([batch((events) => {
      log.push(keysOf(events));
      if (failures-- > 0) throw new Error("no");
    })], {
      batch: { maxEvents: 2, maxBytes: LARGE, maxDelayMs: NEVER_MS },
      retry: { attempts: 5, minDelayMs: 0, maxDelayMs: 0 },
    });
    await harness.offer(4).drain();
    assertEquals(log, ["1 2", "1 2", "1 2", "1 2", "3 4"]);
  });
});

describe("beside a handler of single events", () => {
  test("the same events go through both, in the order of the handlers", async () => {
    const log: string[] = [];
    const harness = new Harness([
      single((event) => log.push(`a${event.key}`)),
      batch((events) => log.push(keysOf(events))),
      single((event) => log.push(`c${event.key}`)),
    ], { batch: { maxEvents: 2, maxBytes: LARGE, maxDelayMs: NEVER_MS } });
    await harness.offer(4).drain();
    assertEquals(log, ["a1", "a2", "1 2", "c1", "c2", "a3", "a4", "3 4", "c3", "c4"]);
  });
});

test("no random load breaks a limit or waits for what cannot come", async () => {
  for (let seed = 1; seed <= 80; seed++) {
    const random = seededRandom(seed);
    const below = (n: number) => Math.floor(random() * n);
    const limits = { maxEvents: 1 + below(6), maxBytes: 1 + below(4000), maxDelayMs: NEVER_MS };
    const sizes = new Map<string, number>();
    const handled: string[] = [];
    const harness = new Harness([batch(async (events) => {
      assertLessOrEqual(events.length, limits.maxEvents, `seed ${seed}`);
      const bytes = events.reduce((sum, event) => sum + sizes.get(event.key!)!, 0);
      assert(events.length === 1 || bytes <= limits.maxBytes, `seed ${seed}: ${bytes} bytes`);
      if (random() < 0.3) await turn();
      handled.push(...events.map((event) => event.key!));
    })], {
      batch: limits,
      lanes: new LanePlan(1 + seed % 4),
      maxQueueBytes: 1 + below(6000),
    });
    const running = harness.run();
    for (let i = 1; i <= 100; i++) {
      const bytes = below(1000);
      sizes.set(`${i}`, bytes + OVERHEAD);
      harness.offer(1, bytes);
      await inTime(`room, seed ${seed}`, Promise.resolve(harness.delivery.room()));
      if (random() < 0.03) {
        await inTime(`all to be handled, seed ${seed}`, harness.delivery.drained());
        assertEquals(handled.length, i, `seed ${seed}`);
      }
    }
    await inTime(`all to be handled, seed ${seed}`, harness.delivery.drained());
    harness.stop();
    await running;
    assertEquals(new Set(handled).size, 100, `seed ${seed}`);
    assertEquals(handled.length, 100, `seed ${seed}`);
    assertEquals(harness.frontier.confirmed, 100n, `seed ${seed}`);
  }
});

test("who waits for all to be handled waits for what is offered meanwhile, and for no longer", async () => {
  const gates = new Map<string, () => void>();
  const harness = new Harness((event) =>
    new Promise<void>((resolve) => gates.set(event.key!, resolve))
  );
  const running = harness.offer(1).run();
  await turn();
  const drained = harness.delivery.drained();
  harness.offer(1);
  gates.get("1")!();
  assertEquals(await isSettled(drained), false);
  gates.get("2")!();
  assertEquals(await isSettled(drained), true);
  harness.stop();
  await running;
});

describe("while a batch is in hand", () => {
  test("what comes next is known, as far as one batch goes, and up to where lanes wait or events are dropped", async () => {
    const seen: string[] = [];
    const harness: Harness = new Harness([batch((events) => {
      seen.push(`${keysOf(events)} > ${keysOf(harness.delivery.upcoming(events.length))}`);
    })], { batch: { maxEvents: 3, maxBytes: LARGE, maxDelayMs: NEVER_MS } });
    harness.offer(8);
    harness.delivery.barrier(() => Promise.resolve());
    harness.offer(1);
    await harness.drain();
    assertEquals(seen, ["1 2 3 > 4 5 6", "4 5 6 > 7 8", "7 8 > ", "9 > "]);
  });

  test("what comes next is not known with several lanes, nor where events are handled one by one", async () => {
    for (const options of [{ lanes: new LanePlan(2) }, { batch: null }]) {
      let most = 0;
      const harness: Harness = new Harness([batch((events) => {
        most = Math.max(most, harness.delivery.upcoming(events.length).length);
      })], { batch: { maxEvents: 2, maxBytes: LARGE, maxDelayMs: NEVER_MS }, ...options });
      await harness.offer(9).drain();
      assertEquals(most, 0);
    }
  });

  test("the next one is made: the producer waits with two batches in the queue, not with one", () => {
    const { harness } = batching({ maxEvents: 50 });
    // So large that the queue holds few of them, were it not for batches.
    for (let made = 0; made < 100; made++) {
      assertEquals(harness.delivery.room(), null, `with ${made}`);
      harness.offer(1, 5_000);
    }
    assert(harness.delivery.room() !== null);
  });
});
