import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { describe, test } from "node:test";
import type { InsertEvent } from "../../../src/change.ts";
import { Delivery, type DeliveryOptions, type Handle } from "../../../src/delivery/delivery.ts";
import { HandlerError } from "../../../src/delivery/errors.ts";
import { Frontier } from "../../../src/delivery/frontier.ts";
import { PgStreamError } from "../../../src/errors.ts";
import { collectGarbage, heapBytes } from "../../support/collect_garbage.ts";
import { seededRandom } from "../../support/random.ts";

function insertOf(key: string, fields: Partial<InsertEvent> = {}): InsertEvent {
  return {
    operation: "insert",
    schema: "public",
    table: "documents",
    lsn: "0/1A3F28",
    ordinal: 0,
    commitTime: new Date(0),
    xid: 700,
    unchanged: [],
    row: { id: key },
    oldRow: null,
    key,
    oldKey: null,
    backfill: false,
    ...fields,
  };
}

/** A delivery with a frontier; each event that is offered is a transaction that ends at its number. */
class Harness {
  readonly frontier = new Frontier(0n);
  readonly delivery: Delivery;
  readonly #stop = new AbortController();
  #offered = 0;

  constructor(handle: Handle, options: Partial<DeliveryOptions> = {}) {
    this.delivery = new Delivery({
      handle,
      frontier: this.frontier,
      onHandled: () => {},
      maxQueueBytes: 1_000_000,
      ...options,
    });
  }

  offer(count = 1, bytes = 100): this {
    for (let i = 0; i < count; i++) {
      const transaction = this.frontier.begin();
      this.delivery.offer(insertOf(`${++this.#offered}`), bytes, transaction);
      this.frontier.commit(transaction, BigInt(this.#offered));
    }
    return this;
  }

  run(): Promise<void> {
    return this.delivery.run(this.#stop.signal);
  }

  stop(reason?: unknown): void {
    this.#stop.abort(reason);
  }

  /** Runs until everything that was offered is handled. */
  async drain(): Promise<void> {
    const running = this.run();
    while (this.delivery.queueBytes > 0) await turn();
    this.stop();
    await running;
  }
}

/** One turn of the event loop: timers run, and all that follows from promises. */
function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** Looks, without waiting for it, whether a promise is settled after a few turns. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const done = () => settled = true;
  promise.then(done, done);
  for (let i = 0; i < 3; i++) await turn();
  return settled;
}

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

/** What one event takes beside its bytes on the wire. */
const OVERHEAD = new Harness(() => {}).offer(1, 0).delivery.queueBytes;

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
    const harness = new Harness((event) => {
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
    });
    await harness.offer(100).drain();
    const expected = Array.from({ length: 100 }, (_, i) => [`begin ${i + 1}`, `end ${i + 1}`]);
    assertEquals(log, expected.flat());
  });

  test("what is offered while the handler works, or sleeps, is handled too", async () => {
    const keys: unknown[] = [];
    const harness = new Harness(async (event) => {
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

  test("the frontier has moved when onHandled is called, and not before the promise settled", async () => {
    const seen: bigint[] = [];
    const harness: Harness = new Harness(async () => {
      await turn();
      seen.push(harness.frontier.confirmed);
    }, { onHandled: () => seen.push(harness.frontier.confirmed) });
    await harness.offer(3).drain();
    assertEquals(seen, [0n, 1n, 1n, 2n, 2n, 3n]);
  });

  test("a queue of a hundred thousand events is handed out whole, in order", async () => {
    let handled = 0;
    let ordered = true;
    const harness = new Harness((event) => {
      ordered &&= event.key === `${++handled}`;
    });
    await harness.offer(100_000, 10).drain();
    assertEquals(handled, 100_000);
    assert(ordered);
    assertEquals(harness.delivery.queueBytes, 0);
    assertEquals(harness.frontier.confirmed, 100_000n);
  });
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

  test("an event larger than the bound passes, alone or in a crowd", async () => {
    const keys: unknown[] = [];
    const harness = new Harness((event) => keys.push(event.key), { maxQueueBytes: 10 });
    const running = harness.run();
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

  test("no random load queues more than the bound and one event, nor stalls", async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = seededRandom(seed);
      const maxQueueBytes = 1 + Math.floor(random() * 5000);
      const keys: number[] = [];
      const harness = new Harness((event) => {
        keys.push(Number(event.key));
        const choice = random();
        if (choice < 0.05) return turn();
        if (choice < 0.5) return Promise.resolve();
      }, { maxQueueBytes });
      const running = harness.run();
      for (let i = 0; i < 200; i++) {
        const before = harness.delivery.queueBytes;
        assertLessOrEqual(before, maxQueueBytes, `seed ${seed}, event ${i}`);
        harness.offer(1, Math.floor(random() * 1500));
        await harness.delivery.room();
        if (random() < 0.05) await turn();
      }
      while (keys.length < 200) await turn();
      harness.stop();
      await running;
      assertEquals(keys, Array.from({ length: 200 }, (_, i) => i + 1), `seed ${seed}`);
      assertEquals(harness.frontier.confirmed, 200n, `seed ${seed}`);
      assertEquals(harness.delivery.queueBytes, 0, `seed ${seed}`);
    }
  });
});

describe("a handler that fails", () => {
  const cause = new Error("the store said no");
  const failures: Record<string, Handle> = {
    "throws": () => {
      throw cause;
    },
    "rejects": () => Promise.reject(cause),
    "rejects later": async () => {
      await turn();
      throw cause;
    },
    "returns something that fails to be awaited": () => ({
      then: (_: unknown, reject: (error: unknown) => void) => reject(cause),
    }),
  };
  for (const [how, fail] of Object.entries(failures)) {
    test(`and ${how} stops the delivery with the event's coordinates and the cause`, async () => {
      const keys: unknown[] = [];
      const harness = new Harness((event, signal) => {
        keys.push(event.key);
        if (event.key === "3") return fail(event, signal);
      });
      const error = await assertRejects(() => harness.offer(5).run(), HandlerError);
      assertStrictEquals(error.cause, cause);
      assertEquals(error.kind, "handler-failed");
      assertEquals(
        [error.schema, error.table, error.operation, error.lsn, error.ordinal],
        ["public", "documents", "insert", "0/1A3F28", 0],
      );
      for (let i = 0; i < 3; i++) await turn();
      assertEquals(keys, ["1", "2", "3"], "nothing is handed out after it");
      assertEquals(harness.frontier.confirmed, 2n, "it is not confirmed");
    });
  }

  test("confirms nothing of its transaction, though the events before it were handled", async () => {
    const frontier = new Frontier(0n);
    const delivery = new Delivery({
      handle: (event) => {
        if (event.key === "3") throw cause;
      },
      frontier,
      onHandled: () => {},
      maxQueueBytes: 1000,
    });
    const transaction = frontier.begin();
    for (const key of ["1", "2", "3", "4"]) delivery.offer(insertOf(key), 10, transaction);
    frontier.commit(transaction, 50n);
    frontier.keepalive(1000n);
    await assertRejects(() => delivery.run(new AbortController().signal), HandlerError);
    frontier.keepalive(2000n);
    assertEquals(frontier.confirmed, 0n);
  });

  test("without a reason is a failure like any other", async () => {
    const harness = new Harness(() => Promise.reject(undefined));
    const error = await assertRejects(() => harness.offer().run(), HandlerError);
    assertEquals(error.cause, undefined);
  });

  test("never puts the row's values into the error's own text", async () => {
    const frontier = new Frontier(0n);
    const delivery = new Delivery({
      handle: () => Promise.reject(new Error("no")),
      frontier,
      onHandled: () => {},
      maxQueueBytes: 1000,
    });
    const secret = insertOf("key-canary", {
      row: { body: "row-canary" },
      schema: "S.x",
      table: "T",
    });
    delivery.offer(secret, 10, frontier.begin());
    const error = await assertRejects(
      () => delivery.run(new AbortController().signal),
      PgStreamError,
      '"S.x".T',
    );
    const text = `${error} ${error.hint} ${JSON.stringify(error)}`;
    assert(!text.includes("canary"), text);
  });

  test("lets go of a producer that waits for room, and of one that asks for it later", async () => {
    const harness = new Harness(() => Promise.reject(cause), { maxQueueBytes: 1 });
    harness.offer(3);
    const failed = assertRejects(() => harness.run(), HandlerError);
    // As a reader does that has more in hand when the handler fails.
    const producing = (async () => {
      for (let i = 0; i < 3; i++) {
        await harness.delivery.room();
        harness.offer();
      }
      await harness.delivery.room();
    })();
    await failed;
    assert(await isSettled(producing));
  });
});

describe("stopping", () => {
  test("finishes and confirms the event in hand, and begins no other", async () => {
    const keys: unknown[] = [];
    const harness = new Harness(async (event) => {
      keys.push(event.key);
      if (event.key === "2") harness.stop();
      await turn();
    });
    await harness.offer(5).run();
    for (let i = 0; i < 3; i++) await turn();
    assertEquals(keys, ["1", "2"]);
    assertEquals(harness.frontier.confirmed, 2n);
  });

  test("ends at once where nothing is in hand", async () => {
    const harness = new Harness(() => {});
    const running = harness.run();
    await turn();
    harness.stop();
    await running;
  });

  test("before it began hands out nothing", async () => {
    let calls = 0;
    const harness = new Harness(() => calls++);
    harness.stop();
    await harness.offer(3).run();
    assertEquals(calls, 0);
    assertEquals(harness.frontier.confirmed, 0n);
  });

  test("tells the handler by its signal; one that gives up has not failed, nor is confirmed", async () => {
    const reason = new Error("enough");
    for (const throwsAtOnce of [true, false]) {
      const harness = new Harness((_event, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason));
          if (throwsAtOnce) harness.stop(reason);
          else setTimeout(() => harness.stop(reason), 0);
        })
      );
      await harness.offer(2).run();
      assertEquals(harness.frontier.confirmed, 0n);
    }
  });

  test("lets go of a producer while the handler hangs", async () => {
    const harness = new Harness(() => new Promise(() => {}), { maxQueueBytes: 1 });
    harness.offer(3).run();
    const room = harness.delivery.room()!;
    await turn();
    harness.stop();
    assert(await isSettled(room));
    assert(await isSettled(Promise.resolve(harness.delivery.room())));
  });

  test("at any moment leaves a position that tells exactly what was handled", async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = seededRandom(seed);
      let handled = 0;
      const harness = new Harness(async () => {
        const turns = Math.floor(random() * 3);
        for (let i = 0; i < turns; i++) await (random() < 0.5 ? turn() : null);
        handled++;
      });
      const running = harness.offer(30).run();
      const turns = Math.floor(random() * 40);
      for (let i = 0; i < turns; i++) await turn();
      harness.stop();
      await running;
      const atStop = handled;
      await turn();
      assertEquals(handled, atStop, `seed ${seed}`);
      assertEquals(harness.frontier.confirmed, BigInt(handled), `seed ${seed}`);
    }
  });
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
  }

  test("a quick handler, which pays no turn for each of its events", async () => {
    const harness = new Harness((event) => {
      if (event.key === "1000") harness.stop();
    }, { now: () => 0 });
    const turns = countTurns();
    await harness.offer(1000).run();
    turns.stop();
    assertEquals(turns.count, 0);
    assertEquals(harness.frontier.confirmed, 1000n);
  });
});

describe("memory:", () => {
  test("an event that was handled is let go of, though others still wait behind it", async () => {
    let handled = 0;
    const harness = new Harness(() => ++handled > 50 ? new Promise(() => {}) : undefined);
    const events: WeakRef<object>[] = [];
    (() => {
      for (let i = 0; i < 100; i++) {
        const event = insertOf(`${i}`);
        events.push(new WeakRef(event));
        harness.delivery.offer(event, 100, harness.frontier.begin());
      }
    })();
    harness.run();
    while (handled <= 50) await turn();
    await collectGarbage();
    const kept = events.filter((event) => event.deref() !== undefined).length;
    assertGreater(kept, 45, "those that wait are kept");
    // An engine may hold on to the last one or two that it touched.
    assertLessOrEqual(kept, 53);
    assertGreater(harness.delivery.queueBytes, 0);
  });

  test("a queue that is never empty does not grow with what has passed through it", async () => {
    let handled = 0;
    const harness = new Harness(() => {
      if (++handled === 500_000) harness.stop();
      harness.offer();
    });
    harness.offer(10);
    const before = await heapBytes();
    await harness.run();
    const grown = await heapBytes() - before;
    assertLessOrEqual(grown, 2_000_000);
    assertEquals(harness.frontier.confirmed, 500_000n);
  });

  test("a delivery that failed is let go of, though the signal lives on", async () => {
    const { signal } = new AbortController();
    const deliveries = await Promise.all(Array.from({ length: 20 }, async () => {
      const { delivery } = new Harness(() => Promise.reject(new Error("no"))).offer();
      await assertRejects(() => delivery.run(signal), HandlerError);
      return new WeakRef(delivery);
    }));
    await collectGarbage();
    const kept = deliveries.filter((delivery) => delivery.deref() !== undefined).length;
    assertLessOrEqual(kept, 3);
    assertEquals(signal.aborted, false);
  });
});
