import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { describe, test } from "node:test";
import type { DeliveryOptions } from "../../../src/delivery/delivery.ts";
import { HandlerError } from "../../../src/delivery/errors.ts";
import type { Handler } from "../../../src/delivery/handler.ts";
import { LanePlan } from "../../../src/delivery/lane_plan.ts";
import { PgStreamError } from "../../../src/errors.ts";
import { seededRandom } from "../../support/random.ts";
import {
  batch,
  type Handle,
  Harness,
  insertOf,
  isSettled,
  single,
  truncateOf,
  turn,
} from "./harness.ts";

/** Ways in which the same handler can be reached; each hands it one event at a time. */
const WAYS: Record<string, (handle: Handle) => [Handler[], Partial<DeliveryOptions>]> = {
  "alone": (handle) => [[single(handle)], {}],
  "second of two": (handle) => [[single(() => {}), single(handle)], {}],
  "as batches of one": (handle) => [
    [batch((events, context) => handle(events[0]!, context))],
    { batch: { maxEvents: 1, maxBytes: 1, maxDelayMs: 0 } },
  ],
  "beside batches": (handle) => [
    [single(handle), batch(() => {})],
    { batch: { maxEvents: 1, maxBytes: 1, maxDelayMs: 0 } },
  ],
};
const cause = new Error("the store said no");

describe("a handler that fails", () => {
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
    for (const [where, wayOf] of Object.entries(WAYS)) {
      test(`and ${how} stops the delivery with the event's coordinates and the cause, ${where}`, async () => {
        const keys: unknown[] = [];
        const harness = new Harness(...wayOf((event, context) => {
          keys.push(event.key);
          if (event.key === "3") return fail(event, context);
        }));
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
  }

  test("confirms nothing of its transaction, though the events before it were handled (5)", async () => {
    const harness = new Harness((event) => {
      if (event.key === "3") throw cause;
    });
    harness.offerTransaction(["1", "2", "3", "4"].map((key) => insertOf(key)));
    harness.frontier.keepalive(1000n);
    await assertRejects(() => harness.run(), HandlerError);
    harness.frontier.keepalive(2000n);
    assertEquals(harness.frontier.confirmed, 0n);
  });

  test("confirms nothing behind it either, though other lanes have handled that", async () => {
    const harness = new Harness(async (event) => {
      for (let i = 0; i < 3; i++) await turn();
      if (event.key === "2") throw cause;
    }, { lanes: new LanePlan(16) });
    await assertRejects(() => harness.offer(9).run(), HandlerError, "The handler");
    assertEquals(harness.frontier.confirmed, 1n);
  });

  test("tells the handlers in other lanes to give up, and waits for them", async () => {
    const log: string[] = [];
    const lanes = new LanePlan(2, (event) => event.key!);
    const [a, b] = keysOfTwoLanes(lanes);
    const harness = new Harness(async (event, { signal }) => {
      if (event.key === a) {
        await turn();
        throw cause;
      }
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      await turn();
      log.push(`ended ${event.key}`);
    }, { lanes });
    harness.offerEvent(insertOf(b)).offerEvent(insertOf(a));
    const error = await assertRejects(() => harness.run(), HandlerError);
    assertEquals(log, [`ended ${b}`]);
    assertStrictEquals(error.cause, cause);
    assertEquals(harness.frontier.confirmed, 1n, "what they finish counts");
  });

  test("in two lanes at once is one failure, the first", async () => {
    const lanes = new LanePlan(2, (event) => event.key!);
    const [a, b] = keysOfTwoLanes(lanes);
    for (const first of [a, b]) {
      const harness = new Harness(async (event) => {
        await turn();
        if (event.key !== first) await turn();
        throw new Error(`${event.key}`);
      }, { lanes });
      harness.offerEvent(insertOf(b)).offerEvent(insertOf(a));
      const error = await assertRejects(() => harness.run(), HandlerError);
      assertEquals((error.cause as Error).message, first);
      assertEquals(harness.frontier.confirmed, 0n);
    }
  });

  test("for good when the stream is told to stop already is no failure: its event comes again", async () => {
    const harness: Harness = new Harness(() => Promise.reject(cause), {
      onFailure: async () => {
        harness.stop();
        await turn();
        return "stop" as const;
      },
    });
    await harness.offer().run();
    assertEquals(harness.frontier.confirmed, 0n);
  });

  test("on a TRUNCATE for which all lanes have met lets go of them all", async () => {
    const harness = new Harness((event) => {
      if (event.operation === "truncate") throw cause;
    }, { lanes: new LanePlan(8) });
    harness.offer(20).offerEvent(truncateOf()).offer(20);
    const error = await assertRejects(() => harness.run(), HandlerError);
    assertEquals(error.operation, "truncate");
    assertEquals(harness.frontier.confirmed, 20n);
  });

  test("is told each time which try of the event it is, and each retry is counted", async () => {
    for (const [where, wayOf] of Object.entries(WAYS)) {
      const tries: string[] = [];
      let retries = 0;
      const [handlers, options] = wayOf((event, { attempt }) => {
        tries.push(`${event.key}: ${attempt}`);
        if (attempt < 3) throw cause;
      });
      const harness = new Harness(handlers, {
        ...options,
        retry: { attempts: 3, minDelayMs: 0, maxDelayMs: 0 },
        onRetry: () => retries++,
      });
      await harness.offer(2).drain();
      assertEquals(tries, ["1: 1", "1: 2", "1: 3", "2: 1", "2: 2", "2: 3"], where);
      assertEquals([retries, harness.frontier.confirmed], [4, 2n], where);
    }
  });

  test("without a reason is a failure like any other", async () => {
    for (const wayOf of Object.values(WAYS)) {
      const harness = new Harness(...wayOf(() => Promise.reject(undefined)));
      const error = await assertRejects(() => harness.offer().run(), HandlerError);
      assertEquals(error.cause, undefined);
    }
  });

  test("never puts the row's values into the error's own text", async () => {
    const harness = new Harness(() => Promise.reject(new Error("no")));
    const fields = { row: { body: "row-canary" }, schema: "S.x", table: "T" };
    harness.offerEvent(insertOf("key-canary", fields));
    const error = await assertRejects(() => harness.run(), PgStreamError, '"S.x".T');
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

  test("lets go of who waits for all to be handled", async () => {
    const harness = new Harness(() => Promise.reject(cause));
    const drained = harness.offer(3).delivery.drained();
    await assertRejects(() => harness.run(), HandlerError);
    assert(await isSettled(drained));
    assert(await isSettled(harness.delivery.drained()));
  });
});

describe("stopping", () => {
  test("finishes and confirms the event in hand, and begins no other", async () => {
    for (const wayOf of Object.values(WAYS)) {
      const keys: unknown[] = [];
      const harness: Harness = new Harness(...wayOf(async (event) => {
        keys.push(event.key);
        if (event.key === "2") harness.stop();
        await turn();
      }));
      await harness.offer(5).run();
      for (let i = 0; i < 3; i++) await turn();
      assertEquals(keys, ["1", "2"]);
      assertEquals(harness.frontier.confirmed, 2n);
    }
  });

  test("ends at once where nothing is in hand", async () => {
    for (const lanes of [1, 8]) {
      const harness = new Harness(() => {}, { lanes: new LanePlan(lanes) });
      const running = harness.run();
      await turn();
      harness.stop();
      await running;
    }
  });

  test("ends at once where a batch waits to be filled, which comes again", async () => {
    let calls = 0;
    const harness = new Harness([batch(() => calls++)], {
      batch: { maxEvents: 10, maxBytes: 1_000_000, maxDelayMs: 3_600_000 },
    });
    const running = harness.offer(3).run();
    await turn();
    harness.stop();
    await running;
    assertEquals([calls, harness.frontier.confirmed], [0, 0n]);
  });

  test("ends at once where lanes wait for one another", async () => {
    const harness: Harness = new Harness(async () => {
      await turn();
      harness.stop();
      await turn();
    }, { lanes: new LanePlan(8) });
    await harness.offer(1).offerEvent(truncateOf()).offer(8).run();
    assertEquals(harness.frontier.confirmed, 1n);
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
    for (const wayOf of Object.values(WAYS)) {
      for (const throwsAtOnce of [true, false]) {
        let asked = 0;
        const [handlers, options] = wayOf((_event, { signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason));
            if (throwsAtOnce) harness.stop(reason);
            else setTimeout(() => harness.stop(reason), 0);
          })
        );
        const harness: Harness = new Harness(handlers, {
          ...options,
          retry: { attempts: 5, minDelayMs: 0, maxDelayMs: 0 },
          onFailure: () => {
            asked++;
            return "skip";
          },
        });
        await harness.offer(2).run();
        assertEquals([asked, harness.frontier.confirmed], [0, 0n]);
      }
    }
  });

  test("lets go of a producer while the handler hangs", async () => {
    const harness = new Harness(() => new Promise(() => {}), { maxQueueBytes: 1 });
    harness.offer(3).run();
    const room = harness.delivery.room();
    assertInstanceOf(room, Promise);
    const drained = harness.delivery.drained();
    await turn();
    harness.stop();
    assert(await isSettled(room));
    assert(await isSettled(drained));
    assert(await isSettled(Promise.resolve(harness.delivery.room())));
    assert(await isSettled(harness.delivery.drained()));
  });

  test("a handler that is given up counts for nothing when it is finished after all", async () => {
    let finish = () => {};
    const settled: unknown[] = [];
    const harness = new Harness(() => new Promise<void>((resolve) => finish = resolve), {
      onSettled: (event) => settled.push(event.key),
    });
    const running = harness.offer(2).run();
    await turn();
    harness.stop();
    harness.delivery.abandon();
    finish();
    await running;
    assertEquals([settled, harness.frontier.confirmed], [[], 0n]);
  });

  for (const lanes of [1, 4]) {
    for (const [where, wayOf] of Object.entries(WAYS)) {
      test(`at any moment leaves a position that tells exactly what was handled: ${lanes} lanes, ${where}`, async () => {
        for (let seed = 1; seed <= 30; seed++) {
          const random = seededRandom(seed);
          const handled = new Set<number>();
          const [handlers, options] = wayOf(async (event) => {
            const turns = Math.floor(random() * 3);
            for (let i = 0; i < turns; i++) await (random() < 0.5 ? turn() : null);
            handled.add(Number(event.key));
          });
          const harness = new Harness(handlers, { ...options, lanes: new LanePlan(lanes) });
          const running = harness.offer(30).run();
          const turns = Math.floor(random() * 40);
          for (let i = 0; i < turns; i++) await turn();
          harness.stop();
          await running;
          const atStop = handled.size;
          await turn();
          assertEquals(handled.size, atStop, `seed ${seed}`);
          let whole = 0;
          while (handled.has(whole + 1)) whole++;
          assertEquals(harness.frontier.confirmed, BigInt(whole), `seed ${seed}`);
        }
      });
    }
  }
});

/** Two keys that do not share a lane. */
function keysOfTwoLanes(lanes: LanePlan): [string, string] {
  const laneOf = (key: string) => lanes.place(insertOf(key), null!);
  for (let i = 0;; i++) if (laneOf(`${i}`) !== laneOf("a")) return ["a", `${i}`];
}
