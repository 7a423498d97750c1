import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLessOrEqual,
  assertStrictEquals,
} from "@std/assert";
import { describe, test } from "node:test";
import type { DeliveryOptions } from "../../../src/delivery/delivery.ts";
import { LanePlan } from "../../../src/delivery/lane_plan.ts";
import { seededRandom } from "../../support/random.ts";
import {
  batch,
  type Handle,
  Harness,
  inTime,
  isSettled,
  OVERHEAD,
  single,
  turn,
} from "./harness.ts";

const BATCH = { maxEvents: 3, maxBytes: 100_000, maxDelayMs: 1 };

/** Counts turns of the event loop until it is told to stop. */
function countTurns(): { count: number; stop(): void } {
  const turns = { count: 0, stop: () => clearTimeout(timer) };
  const next = () => {
    turns.count++;
    timer = setTimeout(next, 0);
  };
  let timer = setTimeout(next, 0);
  return turns;
}

describe("order", () => {
  test("each event is finished before the next begins, whatever the handler returns", async () => {
    const random = seededRandom(7);
    const log: string[] = [];
    const handlers: Handle[] = [
      () => undefined,
      () => null,
      () => "text",
      () => Promise.resolve(),
      () => turn(),
      async () => {
        for (let i = 0; i < 5; i++) await null;
      },
      // Not a Promise, and still to be waited for.
      () => ({ then: (resolve: () => void) => setTimeout(resolve, 0) }),
    ];
    const handle: Handle = (event) => {
      log.push(`begin ${event.key}`);
      const result = handlers[Math.floor(random() * handlers.length)]!(event, null!);
      if (typeof (result as PromiseLike<unknown> | null)?.then !== "function") {
        log.push(`end ${event.key}`);
        return result;
      }
      return {
        then: (resolve: () => void, reject: () => void) =>
          (result as PromiseLike<unknown>).then(() => {
            log.push(`end ${event.key}`);
            resolve();
          }, reject),
      };
    };
    const expected = Array.from({ length: 100 }, (_, i) => [`begin ${i + 1}`, `end ${i + 1}`]);
    await new Harness(handle).offer(100).drain();
    assertEquals(log, expected.flat());

    log.length = 0;
    await new Harness([single(handle), single(() => {})]).offer(100).drain();
    assertEquals(log, expected.flat(), "one of two handlers");

    log.length = 0;
    await new Harness([single(handle), batch(() => {})], { batch: BATCH }).offer(100).drain();
    assertEquals(log, expected.flat(), "beside a handler of batches");
  });

  test("each handler is done with an event before the next one gets it", async () => {
    const log: string[] = [];
    const named = (name: string) =>
      single(async (event) => {
        await turn();
        log.push(`${name}${event.key}`);
      });
    await new Harness([named("a"), named("b")]).offer(3).drain();
    assertEquals(log, ["a1", "b1", "a2", "b2", "a3", "b3"]);
  });

  test("what is offered while the handler works, or sleeps, is handled too", async () => {
    const keys: unknown[] = [];
    const harness: Harness = new Harness(async (event) => {
      keys.push(event.key);
      await turn();
      if (event.key === "1") harness.offer();
    });
    const running = harness.offer().run();
    while (keys.length < 2) await turn();
    await turn();
    harness.offer();
    while (keys.length < 3) await turn();
    harness.stop();
    await running;
    assertEquals(keys, ["1", "2", "3"]);
  });

  test("the frontier has moved when progress is told, and not before the promise settled", async () => {
    const seen: bigint[] = [];
    const harness: Harness = new Harness(async () => {
      await turn();
      seen.push(harness.frontier.confirmed);
    }, { onProgress: () => seen.push(harness.frontier.confirmed) });
    await harness.offer(3).drain();
    assertEquals(seen, [0n, 1n, 1n, 2n, 2n, 3n]);
  });

  test("each event is counted once, when it is done and not when it is begun", async () => {
    const log: string[] = [];
    const harness = new Harness(async (event) => {
      await turn();
      log.push(`handled ${event.key}`);
    }, { onSettled: (event, skipped) => log.push(`settled ${event.key} ${skipped}`) });
    await harness.offer(2).drain();
    assertEquals(log, ["handled 1", "settled 1 false", "handled 2", "settled 2 false"]);
  });

  test("a queue of a hundred thousand events is handed out whole, in order", async () => {
    for (const handlers of [[single(count)], [single(count), single(() => {})]]) {
      handled = 0;
      const harness = new Harness(handlers);
      await harness.offer(100_000, 10).drain();
      assertEquals(handled, 100_000);
      assertEquals(harness.delivery.queueBytes, 0);
      assertEquals(harness.frontier.confirmed, 100_000n);
    }
  });
  let handled = 0;
  const count: Handle = (event) => assertEquals(event.key, `${++handled}`);
});

describe("backpressure", () => {
  test("the producer waits exactly while more than the bound is queued", async () => {
    const bound = 4 * (100 + OVERHEAD);
    const release: (() => void)[] = [];
    const harness = new Harness(
      () => new Promise<void>((resolve) => release.push(resolve)),
      { maxQueueBytes: bound },
    );
    const running = harness.run();
    for (let i = 0; i < 4; i++) {
      assertStrictEquals(harness.delivery.room(), null);
      harness.offer(1, 100);
    }
    assertEquals(harness.delivery.queueBytes, bound);
    assertStrictEquals(harness.delivery.room(), null, "the bound is reached, not exceeded");
    harness.offer(2, 100);
    const room = harness.delivery.room();
    assertInstanceOf(room, Promise);
    await turn();
    release.shift()!();
    assertEquals(await isSettled(room), false, "still one too many");
    release.shift()!();
    assertEquals(await isSettled(room), true);
    assertStrictEquals(harness.delivery.room(), null);
    harness.stop();
    release.shift()!();
    await running;
  });

  test("an empty queue takes an event of any size, and one larger than the bound passes in a crowd", async () => {
    const keys: unknown[] = [];
    const harness = new Harness((event) => keys.push(event.key), { maxQueueBytes: 10 });
    const running = harness.run();
    assertStrictEquals(harness.delivery.room(), null);
    for (const bytes of [1_000_000, 5, 2_000_000, 3_000_000]) {
      await harness.delivery.room();
      harness.offer(1, bytes);
    }
    await harness.delivery.room();
    harness.stop();
    await running;
    assertEquals(keys, ["1", "2", "3", "4"]);
  });

  test("an event counts until its handler is done with it", async () => {
    let release = () => {};
    const harness = new Harness(() => new Promise<void>((resolve) => release = resolve));
    const running = harness.offer(1, 100).run();
    await turn();
    assertEquals(harness.delivery.queueBytes, 100 + OVERHEAD);
    release();
    await turn();
    assertEquals(harness.delivery.queueBytes, 0);
    harness.stop();
    await running;
  });

  test("all who wait for room get it", async () => {
    const harness = new Harness(() => {}, { maxQueueBytes: 1 });
    harness.offer(3);
    const waiting = Promise.all([harness.delivery.room(), harness.delivery.room()]);
    await harness.drain();
    assert(await isSettled(waiting));
  });

  test("handled transactions above the frontier have a bound too, and one that is stuck holds it", async () => {
    const release = Promise.withResolvers<void>();
    const lanes = new LanePlan(8, (event) => event.key === "1" ? "stuck" : `${event.key}`);
    const stuckLane = lanes.place({ operation: "insert", key: "1" } as never, null!);
    const harness = new Harness(
      (event) => event.key === "1" ? release.promise : undefined,
      { lanes, maxQueueBytes: 100_000_000 },
    );
    const running = harness.offer(1).run();
    let offered = 1;
    // Keys of the stuck lane stay in the queue, which is bounded by bytes: none of them is wanted here.
    for (; offered < 200_000 && harness.delivery.room() === null; offered++) {
      const event = { operation: "insert", key: `${offered + 1}` } as never;
      if (lanes.place(event, null!) === stuckLane) harness.skipNumber();
      else harness.offer(1, 1);
      if (offered % 1000 === 0) await turn();
    }
    await turn();
    assertLessOrEqual(harness.frontier.unfinished, 51_000);
    const room = harness.delivery.room();
    assertInstanceOf(room, Promise, "no more is let in");
    assertEquals(harness.frontier.confirmed, 0n);
    release.resolve();
    await room;
    assertStrictEquals(harness.delivery.room(), null);
    await harness.delivery.drained();
    assertEquals(harness.frontier.unfinished, 0);
    harness.stop();
    await running;
  });

  test("with nothing left to handle there is room, however much waits for its Commit", async () => {
    const harness = new Harness(() => {});
    const open = harness.frontier.begin();
    const running = harness.run();
    await harness.offer(60_000, 1).delivery.drained();
    assertEquals(harness.frontier.unfinished, 60_001);
    assertStrictEquals(harness.delivery.room(), null);
    harness.frontier.commit(open, 1n);
    assertEquals(harness.frontier.confirmed, 60_000n);
    harness.stop();
    await running;
  });

  for (const lanes of [1, 4]) {
    const name = "no random load queues more than the bound and one event, nor stalls";
    const shapes: Record<string, Partial<DeliveryOptions>> = {
      "": {},
      ", in batches": { batch: { maxEvents: 7, maxBytes: 3000, maxDelayMs: 60_000 } },
    };
    for (const [shape, options] of Object.entries(shapes)) {
      test(`${name}: ${lanes} lanes${shape}`, async () => {
        for (let seed = 1; seed <= 40; seed++) await load(seed, lanes, options);
      });
    }
  }

  async function load(seed: number, lanes: number, options: Partial<DeliveryOptions>) {
    const random = seededRandom(seed);
    const maxQueueBytes = 1 + Math.floor(random() * 5000);
    const keys: number[] = [];
    const handle = () => {
      const choice = random();
      if (choice < 0.05) return turn();
      if (choice < 0.5) return Promise.resolve();
    };
    const handler = options.batch
      ? batch((events) => {
        for (const event of events) keys.push(Number(event.key));
        return handle();
      })
      : single((event) => {
        keys.push(Number(event.key));
        return handle();
      });
    const harness = new Harness([handler], {
      maxQueueBytes,
      lanes: new LanePlan(lanes),
      ...options,
    });
    const running = harness.run();
    for (let i = 0; i < 200; i++) {
      const before = harness.delivery.queueBytes;
      assertLessOrEqual(before, maxQueueBytes, `seed ${seed}, event ${i}`);
      harness.offer(1, Math.floor(random() * 1500));
      await harness.delivery.room();
      if (random() < 0.05) await turn();
    }
    await harness.delivery.drained();
    harness.stop();
    await running;
    if (lanes > 1) keys.sort((a, b) => a - b);
    assertEquals(keys, Array.from({ length: 200 }, (_, i) => i + 1), `seed ${seed}`);
    assertEquals(harness.frontier.confirmed, 200n, `seed ${seed}`);
    assertEquals(harness.delivery.queueBytes, 0, `seed ${seed}`);
  }
});

describe("timers, and with them status updates, run beside", () => {
  // Time passes for the delivery as the handlers say; the turns of the event loop are real.
  const slow: Record<string, (pass: () => void) => Handle> = {
    "a handler that computes": (pass) => () => pass(),
    "a handler that awaits only what is there already": (pass) => async () => {
      for (let i = 0; i < 3; i++) await null;
      pass();
    },
  };
  for (const [which, handler] of Object.entries(slow)) {
    test(which, async () => {
      let clock = 0;
      const harness = new Harness(handler(() => clock += 10), { now: () => clock });
      const turns = countTurns();
      await harness.offer(50).drain();
      turns.stop();
      assertGreaterOrEqual(turns.count, 10);
    });

    test(`${which}, though the queue is empty after each event`, async () => {
      let clock = 0;
      const harness = new Harness(handler(() => clock += 10), {
        now: () => clock,
        maxQueueBytes: 1,
      });
      const running = harness.run();
      const turns = countTurns();
      for (let i = 0; i < 50; i++) {
        await harness.delivery.room();
        harness.offer();
      }
      await harness.delivery.room();
      turns.stop();
      harness.stop();
      await running;
      assertGreaterOrEqual(turns.count, 10);
    });

    test(`${which}, in eight lanes and in batches of one`, async () => {
      for (const perEvent of [true, false]) {
        let clock = 0;
        const handle = handler(() => clock += 10);
        const harness = new Harness(
          [perEvent ? single(handle) : batch(([event], context) => handle(event!, context))],
          {
            now: () => clock,
            lanes: new LanePlan(8),
            batch: perEvent ? null : { ...BATCH, maxEvents: 1 },
          },
        );
        const turns = countTurns();
        // Each lane may be at an event of its own before it looks at the clock.
        await harness.offer(400).drain();
        turns.stop();
        assertGreaterOrEqual(turns.count, 10);
      }
    });
  }

  test("what comes after a pause, in which they ran, waits for none", async () => {
    let clock = 0;
    let handled = 0;
    const harness = new Harness(() => handled++, { now: () => clock });
    const running = harness.run();
    for (let pauses = 1; pauses <= 20; pauses++) {
      clock += 100;
      await turn();
      await turn();
      for (let event = 0; event < 2; event++) {
        harness.offer();
        for (let i = 0; i < 20; i++) await null;
      }
      assertEquals(handled, 2 * pauses);
    }
    harness.stop();
    await running;
  });

  test("a quick handler, which pays no turn for each of its events", async () => {
    const harness: Harness = new Harness((event) => {
      if (event.key === "1000") harness.stop();
    }, { now: () => 0 });
    const turns = countTurns();
    await harness.offer(1000).run();
    turns.stop();
    assertEquals(turns.count, 0);
    assertEquals(harness.frontier.confirmed, 1000n);
  });
});

describe("a call between two events", () => {
  for (const lanes of [1, 5]) {
    test(`waits for all before it, and what is behind waits for it: ${lanes} lanes`, async () => {
      const log: string[] = [];
      const harness = new Harness(async ({ key }) => {
        await turn();
        log.push(key!);
      }, { lanes: new LanePlan(lanes) });
      harness.offer(6);
      harness.delivery.barrier(async () => {
        log.push("called");
        await turn();
        await turn();
        log.push("done");
      });
      harness.offer(6);
      await inTime("the end", harness.drain());
      assertEquals(log.slice(6, 8), ["called", "done"]);
      assertEquals(log.slice(0, 6).sort(), ["1", "2", "3", "4", "5", "6"]);
      assertEquals(log.length, 14);
      assertEquals([harness.delivery.queueBytes, harness.frontier.confirmed], [0, 12n]);
    });

    test(`is made though what was before it is dropped, and not while hand-out is held: ${lanes} lanes`, async () => {
      const log: string[] = [];
      const harness = new Harness(({ key }) => log.push(key!), { lanes: new LanePlan(lanes) });
      harness.offer(3);
      harness.delivery.barrier(() => Promise.resolve(log.push("called")));
      harness.delivery.hold();
      const running = harness.run();
      await turn();
      harness.delivery.drop();
      assertEquals(log, []);
      harness.delivery.release();
      await inTime("the end", harness.delivery.drained());
      harness.stop();
      await running;
      assertEquals(log, ["called"]);
    });
  }
});
