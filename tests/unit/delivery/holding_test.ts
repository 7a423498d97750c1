import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { describe, test } from "node:test";
import type { DeliveryOptions } from "../../../src/delivery/delivery.ts";
import type { Handler } from "../../../src/delivery/handler.ts";
import { LanePlan } from "../../../src/delivery/lane_plan.ts";
import {
  batch,
  type Handle,
  Harness,
  insertOf,
  inTime,
  isSettled,
  single,
  truncateOf,
  turn,
} from "./harness.ts";

const PATIENT = { maxEvents: 2, maxBytes: 1_000_000, maxDelayMs: 3_600_000 };

const SHAPES: [string, (handle: Handle) => [Handler[], Partial<DeliveryOptions>]][] = [
  ["events in one lane", (handle) => [[single(handle)], {}]],
  ["events in four lanes", (handle) => [[single(handle)], { lanes: new LanePlan(4) }]],
  ["batches in one lane", (handle) => [[each(handle)], { batch: PATIENT }]],
  ["batches in four lanes", (handle) => [[each(handle)], {
    batch: { ...PATIENT, maxDelayMs: 0 },
    lanes: new LanePlan(4),
  }]],
];

function each(handle: Handle): Handler {
  return batch((events, context) => Promise.all(events.map((event) => handle(event, context))));
}

async function turns(count = 4): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

describe("while it is held", () => {
  for (const [shape, make] of SHAPES) {
    test(`nothing begins, and afterwards everything does: ${shape}`, async () => {
      const keys: string[] = [];
      const harness = new Harness(...make((event) => keys.push(event.key ?? "truncate")));
      harness.delivery.hold();
      const running = harness.offer(4).run();
      await turns();
      harness.offer(4).offerEvent(truncateOf()).offer(4);
      await turns();
      assertEquals(keys, []);
      assertEquals(harness.frontier.confirmed, 0n);
      harness.delivery.release();
      await inTime("all to be handled", harness.delivery.drained());
      assertEquals(keys.length, 13);
      assertEquals(harness.frontier.confirmed, 13n);
      harness.stop();
      await running;
    });

    test(`what is in hand is finished and counts: ${shape}`, async () => {
      const gate = Promise.withResolvers<void>();
      const harness = new Harness(...make(() => gate.promise));
      const running = harness.offer(2).run();
      await turns();
      harness.delivery.hold();
      gate.resolve();
      await turns();
      assert(harness.frontier.confirmed > 0n);
      harness.stop();
      await running;
    });

    test(`a stop ends it: ${shape}`, async () => {
      const harness = new Harness(...make(() => {}));
      harness.delivery.hold();
      const running = harness.offer(4).offerEvent(truncateOf()).run();
      await turn();
      harness.stop();
      await inTime("the end", running);
      assertEquals(harness.frontier.confirmed, 0n);
    });
  }

  test("a handler that failed is not called again before it is released", async () => {
    for (const [shape, make] of SHAPES) {
      const calls: boolean[] = [];
      let held = false;
      let failing = 1;
      const harness: Harness = new Harness(
        ...withRetry(make(() => {
          calls.push(held);
          if (failing-- > 0) throw new Error("no");
        })),
      );
      const running = harness.offer(1).run();
      const drained = harness.delivery.drained();
      await until(() => calls.length > 0);
      held = true;
      harness.delivery.hold();
      await turns(20);
      // A slot that is lost again at once.
      harness.delivery.release();
      harness.delivery.hold();
      await turns(20);
      assertEquals(calls, [false], shape);
      held = false;
      harness.delivery.release();
      await inTime("the second try", drained);
      assertEquals(calls, [false, false], shape);
      harness.stop();
      await running;
    }
  });

  test("one that waits to try again can be told to stop", async () => {
    const harness: Harness = new Harness(
      ...withRetry([[single(() => {
        setTimeout(() => harness.delivery.hold(), 0);
        throw new Error("no");
      })], {}]),
    );
    const running = harness.offer(1).run();
    await turns(10);
    harness.stop();
    await inTime("the end", running);
    assertEquals(harness.frontier.confirmed, 0n);
  });
});

describe("what is dropped", () => {
  for (const [shape, make] of SHAPES) {
    test(`is not handed out, nor counted, and leaves no trace: ${shape}`, async () => {
      const keys: (string | null)[] = [];
      const settled: unknown[] = [];
      const [handlers, options] = make((event) => keys.push(event.key));
      const harness = new Harness(handlers, {
        ...options,
        onSettled: (event) => settled.push(event),
        maxQueueBytes: 1,
      });
      const running = harness.run();
      harness.delivery.hold();
      harness.offer(5).offerEvent(truncateOf()).offer(5);
      harness.delivery.barrier();
      harness.offer(5);
      const room = harness.delivery.room();
      assertInstanceOf(room, Promise);
      const drained = harness.delivery.drained();
      harness.delivery.drop();
      harness.delivery.release();
      await inTime("nothing to be left", drained);
      await inTime("room", room);
      assertEquals([keys, settled], [[], []]);
      assertEquals(harness.delivery.queueBytes, 0);
      assertEquals(harness.frontier.confirmed, 0n, "somebody else confirms it");
      // What comes from then on is handled.
      harness.frontier.restart(100n);
      harness.offerEvent(insertOf("new"));
      await inTime("the new one", harness.delivery.drained());
      assertEquals(keys, ["new"]);
      harness.stop();
      await running;
    });
  }

  test("is not tried again, where it was in a handler's hands", async () => {
    for (const [shape, make] of SHAPES) {
      let calls = 0;
      let failures = 0;
      const [handlers, options] = withRetry(make((event) => {
        calls++;
        if (event.key !== "new") throw new Error("no");
      }));
      const harness = new Harness(handlers, {
        ...options,
        onFailure: () => {
          failures++;
          return "skip";
        },
      });
      const running = harness.offer(1).run();
      const drained = harness.delivery.drained();
      await until(() => calls > 0);
      harness.delivery.hold();
      harness.delivery.drop();
      await turns(20);
      harness.delivery.release();
      await inTime("nothing to be left", drained);
      harness.offerEvent(insertOf("new"));
      await inTime("the new one", harness.delivery.drained());
      assertEquals([calls, failures], [2, 0], shape);
      harness.stop();
      await running;
    }
  });

  test("lets lanes go that had come to a TRUNCATE, or to a key change, of it", async () => {
    const keys: (string | null)[] = [];
    const gate = Promise.withResolvers<void>();
    const harness = new Harness((event) => {
      keys.push(event.key);
      if (event.key === "1") return gate.promise;
    }, { lanes: new LanePlan(8) });
    const running = harness.offer(8).offerEvent(truncateOf()).offer(8).run();
    await turns();
    harness.delivery.hold();
    harness.delivery.drop();
    const drained = harness.delivery.drained();
    assertEquals(await isSettled(drained), false, "one is in hand");
    gate.resolve();
    harness.delivery.release();
    await inTime("nothing to be left", drained);
    harness.offer(8).offerEvent(truncateOf());
    await inTime("the new ones", harness.delivery.drained());
    assertEquals(keys.filter((key) => key === null), [null], "the second TRUNCATE");
    assertEquals(harness.delivery.queueBytes, 0);
    harness.stop();
    await running;
  });
});

test("a TRUNCATE that is tried again when it is dropped lets its lanes go", async () => {
  const keys: (string | null)[] = [];
  const harness = new Harness(
    ...withRetry([[single((event) => {
      keys.push(event.key);
      if (event.operation === "truncate") throw new Error("no");
    })], { lanes: new LanePlan(8) }]),
  );
  const running = harness.offerEvent(truncateOf()).offer(8).run();
  await until(() => keys.length > 0);
  harness.delivery.hold();
  harness.delivery.drop();
  await turns(10);
  harness.delivery.release();
  await inTime("nothing to be left", harness.delivery.drained());
  harness.offer(8);
  await inTime("the new ones", harness.delivery.drained());
  assertEquals(keys.length, 9);
  assertEquals(harness.delivery.queueBytes, 0);
  harness.stop();
  await running;
});

function withRetry(
  [handlers, options]: [Handler[], Partial<DeliveryOptions>],
): [Handler[], Partial<DeliveryOptions>] {
  return [handlers, { ...options, retry: { attempts: 5, minDelayMs: 4, maxDelayMs: 4 } }];
}

async function until(probe: () => boolean): Promise<void> {
  while (!probe()) await turn();
}
