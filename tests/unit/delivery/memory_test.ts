import {
  assertEquals,
  assertGreater,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { describe, test } from "node:test";
import { HandlerError } from "../../../src/delivery/errors.ts";
import { Frontier } from "../../../src/delivery/frontier.ts";
import type { Handler } from "../../../src/delivery/handler.ts";
import { LanePlan } from "../../../src/delivery/lane_plan.ts";
import { TransactionQueue } from "../../../src/delivery/transaction_queue.ts";
import { collectGarbage, heapBytes } from "../../support/collect_garbage.ts";
import {
  batch,
  DOCUMENTS,
  type Handle,
  Harness,
  insertOf,
  single,
  truncateOf,
  turn,
} from "./harness.ts";

const BATCH = { maxEvents: 50, maxBytes: 1_000_000, maxDelayMs: 60_000 };

const SHAPES: { name: string; lanes: number; handlers: (handle: Handle) => Handler[] }[] = [
  { name: "one lane", lanes: 1, handlers: (handle) => [single(handle)] },
  { name: "eight lanes", lanes: 8, handlers: (handle) => [single(handle)] },
  { name: "one lane in batches", lanes: 1, handlers: batches },
  { name: "eight lanes in batches", lanes: 8, handlers: batches },
  {
    name: "eight lanes, single events and batches",
    lanes: 8,
    handlers: (handle) => [single(() => {}), ...batches(handle)],
  },
];

function batches(handle: Handle): Handler[] {
  return [batch((events, context) => {
    for (const event of events) void handle(event, context);
  })];
}

test("an event that was handled is let go of, though others still wait behind it", async () => {
  let handled = 0;
  const harness = new Harness(() => ++handled > 50 ? new Promise(() => {}) : undefined);
  const events: WeakRef<object>[] = [];
  (() => {
    for (let i = 0; i < 100; i++) {
      const event = insertOf(`${i}`);
      events.push(new WeakRef(event));
      harness.delivery.offer(event, 100, harness.frontier.begin(), DOCUMENTS);
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

describe("a queue that is never empty does not grow with what has passed through it:", () => {
  const COUNT = 300_000;
  for (const { name, lanes, handlers } of SHAPES) {
    test(name, async () => {
      let handled = 0;
      const harness: Harness = new Harness(
        handlers(() => {
          if (++handled >= COUNT) return harness.stop();
          // All lanes meet now and then.
          if (handled % 1000 === 0) harness.offerEvent(truncateOf());
          else harness.offer();
        }),
        {
          lanes: new LanePlan(lanes),
          batch: handlers(() => {}).some((handler) => handler.batch) ? BATCH : null,
          // Whoever waits for room has batches handed out that are not full.
          maxQueueBytes: 1,
        },
      );
      harness.offer(100);
      void harness.delivery.room();
      const before = await heapBytes();
      await harness.run();
      const grown = await heapBytes() - before;
      assertGreater(handled, COUNT - 1);
      assertLessOrEqual(grown, 2_000_000);
    });
  }
});

test("events that are tried again and given up leave nothing", async () => {
  let handled = 0;
  const harness: Harness = new Harness(() => {
    if (++handled >= 100_000) return harness.stop();
    if (handled % 2 === 1) throw new Error("no");
    harness.offer();
  }, { onFailure: () => (harness.offer(), "skip"), lanes: new LanePlan(2) });
  harness.offer(10);
  const before = await heapBytes();
  await harness.run();
  assertLessOrEqual(await heapBytes() - before, 2_000_000);
});

/** Keeps no error as its reason: an error may keep those who were called when it was made. */
class ForgetfulController extends AbortController {
  override abort(): void {
    super.abort("forgotten");
  }
}

test("a delivery that failed is let go of, though the controller of its signal lives on", async () => {
  const controllers: AbortController[] = [];
  const deliveries = await Promise.all(Array.from({ length: 20 }, async () => {
    const { delivery } = new Harness(() => Promise.reject(new Error("no"))).offer();
    const controller = new ForgetfulController();
    controllers.push(controller);
    await assertRejects(() => delivery.run(controller), HandlerError);
    return new WeakRef(delivery);
  }));
  await collectGarbage();
  const kept = deliveries.filter((delivery) => delivery.deref() !== undefined).length;
  assertLessOrEqual(kept, 3);
  assertEquals(controllers.map(({ signal }) => signal.aborted), new Array(20).fill(true));
});

test("transactions that are pulled leave nothing, acknowledged at once or much later", async () => {
  const frontier = new Frontier(0n);
  const queue = new TransactionQueue({
    frontier,
    maxQueueBytes: 10_000,
    onSettled: () => {},
    onProgress: () => {},
  });
  const late: (() => void)[] = [];
  const before = await heapBytes();
  for (let i = 1; i <= 100_000; i++) {
    const transaction = frontier.begin();
    queue.offer(insertOf(`${i}`), 100, transaction);
    frontier.commit(transaction, BigInt(i));
    queue.commit(transaction);
    const part = await queue.next();
    late.push(part!.ack);
    if (late.length > 100) late.shift()!();
  }
  for (const ack of late.splice(0)) ack();
  assertLessOrEqual(await heapBytes() - before, 2_000_000);
  assertStrictEquals(frontier.confirmed, 100_000n);
  assertEquals([frontier.unfinished, queue.queueBytes], [0, 0]);
});
