import { assert, assertEquals, assertGreater, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { ChangeEvent, LogicalMessage } from "../../../src/change.ts";
import { Delivery } from "../../../src/delivery/delivery.ts";
import { DeliveryError } from "../../../src/delivery/errors.ts";
import type { EventTable } from "../../../src/delivery/event_builder.ts";
import { Frontier } from "../../../src/delivery/frontier.ts";
import type { Handler } from "../../../src/delivery/handler.ts";
import { LanePlan } from "../../../src/delivery/lane_plan.ts";
import { silentLogger } from "../../../src/logger.ts";
import { seededRandom } from "../../support/random.ts";
import {
  batch,
  deleteOf,
  DOCUMENTS,
  Harness,
  insertOf,
  inTime,
  messageOf,
  ONCE,
  single,
  truncateOf,
  turn,
  updateOf,
} from "./harness.ts";
import { OrderModel } from "./order_model.ts";

const LOGS: EventTable = {
  name: { schema: "public", table: "logs" },
  primaryKey: [],
  keyed: false,
};

interface History {
  seed: number;
  lanes: number;
  /** Messages between the events. */
  messages?: boolean;
  /** Several keys an event, by a function of the user's. */
  ownKeys?: boolean;
  /** Handlers of single events, and of batches, in this order. */
  handlers?: ("single" | "batch")[];
  /** How often a handler fails, and how often for good. */
  faults?: number;
  /** Holds and releases at random. */
  holds?: boolean;
  /** Told to stop at a random moment. */
  stops?: boolean;
  events?: number;
}

/** One random history against the model. Fails where a promise is broken. */
class World {
  readonly #history: History;
  readonly #random: () => number;
  readonly #model: OrderModel;
  readonly #frontier = new Frontier(0n);
  readonly #delivery: Delivery;
  readonly #stop = new AbortController();
  readonly #handlers: number;
  #breach: unknown = null;
  #lsn = 0n;
  calls = 0;
  atOnce = 0;
  skipped = 0;
  #running = 0;

  constructor(history: History) {
    this.#history = history;
    this.#random = seededRandom(history.seed);
    this.#model = new OrderModel(JSON.stringify(history));
    const { lanes, ownKeys, handlers = ["single"], faults } = history;
    this.#handlers = handlers.length;
    const batches = handlers.includes("batch");
    this.#delivery = new Delivery({
      handlers: handlers.map((kind, place): Handler =>
        kind === "single"
          ? single((event) => this.#handle(place, [event]))
          : batch((events) => this.#handle(place, events))
      ),
      frontier: this.#frontier,
      lanes: new LanePlan(lanes, ownKeys ? (event) => event.row.keys : undefined),
      batch: batches
        ? {
          maxEvents: 1 + this.#below(8),
          maxBytes: 300 + this.#below(4000),
          maxDelayMs: 3_600_000,
        }
        : null,
      maxQueueBytes: 1 + this.#below(this.#random() < 0.5 ? 2000 : 50_000),
      retry: { ...ONCE, attempts: faults === undefined ? 1 : 1 + this.#below(3) },
      onFailure: () => "skip",
      logger: silentLogger,
      onRetry: () => {},
      onSettled: (event, skipped) => {
        if (skipped) this.skipped++;
        this.#watch(() => this.#model.settle(event, skipped, this.#handlers));
      },
      messageHandlers: new Map([["outbox", [(message) => this.#handle(0, [message])]]]),
      onMessageSettled: (message, skipped) => {
        if (skipped) this.skipped++;
        this.#watch(() => this.#model.settle(message, skipped, 1));
      },
      onProgress: () => this.#watch(() => this.#checkFrontier()),
      random: this.#random,
    });
  }

  async run(): Promise<void> {
    const { events = 80, holds, stops } = this.#history;
    const running = this.#delivery.run(this.#stop);
    if (stops) void this.#stopSoon();
    if (holds) void this.#holdAtRandom();
    while (this.#model.count < events && !this.#stop.signal.aborted) await this.#transaction();
    await inTime(`all to be handled: ${JSON.stringify(this.#history)}`, this.#delivery.drained());
    const aborted = this.#stop.signal.aborted;
    this.#stop.abort();
    await inTime(`the end: ${JSON.stringify(this.#history)}`, running);
    if (this.#breach !== null) throw this.#breach;
    this.#checkFrontier();
    if (aborted) return;
    assertEquals(this.#model.settled, this.#model.count, JSON.stringify(this.#history));
    assertEquals([this.#delivery.queueBytes, this.#frontier.unfinished], [0, 0]);
    assertEquals(this.#frontier.confirmed, this.#lsn);
  }

  /** The first breach ends the history, and is what it fails with. */
  #watch(check: () => void): void {
    if (this.#breach !== null) return;
    try {
      check();
    } catch (error) {
      this.#breach = error;
      this.#stop.abort();
    }
  }

  #checkFrontier(): void {
    assertEquals(this.#frontier.confirmed, this.#model.confirmed, JSON.stringify(this.#history));
  }

  async #transaction(): Promise<void> {
    const tracked = this.#frontier.begin();
    this.#model.begin();
    const size = this.#below(6);
    for (let i = 0; i < size && !this.#stop.signal.aborted; i++) {
      const oneLane = this.#history.lanes === 1;
      if (this.#random() < 0.03) {
        this.#delivery.barrier();
        if (!oneLane) this.#model.barrier();
      }
      if (this.#history.messages && this.#random() < 0.15) {
        const message = messageOf("outbox", { ordinal: this.#model.count });
        this.#model.offer(message, null);
        this.#delivery.offerMessage(message, this.#below(400), tracked);
        await this.#delivery.room();
        continue;
      }
      const { event, table, keys } = this.#makeEvent();
      // Strict commit order needs no waiting: a batch may go on over a TRUNCATE.
      this.#model.offer(event, oneLane ? ["the only lane"] : keys);
      this.#delivery.offer(event, this.#below(400), tracked, table);
      await this.#delivery.room();
      if (this.#random() < 0.05) await setImmediate();
    }
    this.#lsn += BigInt(1 + this.#below(5));
    this.#model.commit(this.#lsn);
    this.#frontier.commit(tracked, this.#lsn);
    if (this.#random() < 0.1) {
      this.#lsn += 1n;
      this.#model.keepalive(this.#lsn);
      this.#frontier.keepalive(this.#lsn);
    }
  }

  #makeEvent(): { event: ChangeEvent; table: EventTable; keys: readonly string[] | null } {
    const ordinal = this.#model.count;
    const [key, other] = [`k${this.#below(5)}`, `k${this.#below(5)}`];
    const choice = this.#random();
    if (choice < 0.04) return { event: truncateOf({ ordinal }), table: DOCUMENTS, keys: null };
    if (this.#history.ownKeys) {
      const keys = Array.from({ length: 1 + this.#below(3) }, () => `own${this.#below(4)}`);
      const row = { keys: keys.length === 1 && this.#random() < 0.5 ? keys[0] : keys };
      return { event: insertOf(key, { ordinal, row }), table: DOCUMENTS, keys };
    }
    if (choice < 0.2) {
      const event = insertOf(key, { ordinal, table: "logs" });
      return { event, table: LOGS, keys: ["the table logs"] };
    }
    if (choice < 0.4 && key !== other) {
      return { event: updateOf(key, other, { ordinal }), table: DOCUMENTS, keys: [key, other] };
    }
    const event = choice < 0.6
      ? deleteOf(key, { ordinal })
      : choice < 0.8
      ? insertOf(key, { ordinal })
      : updateOf(key, null, { ordinal });
    return { event, table: DOCUMENTS, keys: [key] };
  }

  #handle(handler: number, events: readonly (ChangeEvent | LogicalMessage)[]): unknown {
    let ended = (_ok: boolean) => {};
    this.#watch(() => ended = this.#model.called(handler, events));
    this.calls++;
    this.atOnce = Math.max(this.atOnce, ++this.#running);
    const fails = this.#fails(events);
    const end = () => {
      this.#running--;
      ended(!fails);
      if (fails) throw new Error("a fault");
    };
    const choice = this.#random();
    if (choice < 0.3) return end();
    return (async () => {
      if (choice < 0.6) await null;
      else for (let i = this.#below(4); i >= 0; i--) await setImmediate();
      end();
    })();
  }

  #fails(events: readonly (ChangeEvent | LogicalMessage)[]): boolean {
    const { faults } = this.#history;
    if (faults === undefined) return false;
    return this.#random() < faults || events.some(({ ordinal }) => ordinal % 17 === 3);
  }

  async #stopSoon(): Promise<void> {
    for (let i = this.#below(60); i >= 0; i--) await setImmediate();
    this.#stop.abort();
  }

  async #holdAtRandom(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      for (let i = this.#below(8); i >= 0; i--) await setImmediate();
      this.#model.hold(true);
      this.#delivery.hold();
      if (this.#random() < 0.5) await turn();
      else await setImmediate();
      this.#model.hold(false);
      this.#delivery.release();
    }
  }

  #below(n: number): number {
    return Math.floor(this.#random() * n);
  }
}

/** @returns sums over all seeds. */
async function play(
  seeds: number,
  history: Omit<History, "seed" | "lanes">,
): Promise<{ calls: number; atOnce: number; skipped: number }> {
  const sums = { calls: 0, atOnce: 0, skipped: 0 };
  for (let seed = 1; seed <= seeds; seed++) {
    const world = new World({ seed, lanes: 1 + seed % 8, ...history });
    await world.run();
    sums.calls += world.calls;
    sums.atOnce = Math.max(sums.atOnce, world.atOnce);
    sums.skipped += world.skipped;
  }
  return sums;
}

describe("in 1 to 8 lanes each key keeps its order, TRUNCATE and barriers wait for all, and nothing waits for ever", () => {
  test("with a handler of single events (33)", async () => {
    const { calls, atOnce } = await play(80, {});
    assertGreater(calls, 80 * 80 - 1);
    assertGreater(atOnce, 4, "work is done side by side");
  });

  test("with keys by a function of one's own, several to an event (33)", async () => {
    const { atOnce } = await play(80, { ownKeys: true });
    assertGreater(atOnce, 2);
  });

  test("with batches (33)", async () => {
    const { calls, atOnce } = await play(80, { handlers: ["batch"] });
    assert(calls < 80 * 80, "some hold several events");
    assertGreater(atOnce, 2);
  });

  test("with batches and keys of one's own (33)", async () => {
    await play(80, { handlers: ["batch"], ownKeys: true });
  });

  test("with several handlers of both kinds (33)", async () => {
    await play(80, { handlers: ["single", "single"] });
    await play(80, { handlers: ["single", "batch"] });
    await play(80, { handlers: ["batch", "single", "batch"] });
  });
});

describe("the same where handlers fail, at times for good", () => {
  const kinds: ("single" | "batch")[][] = [
    ["single"],
    ["batch"],
    ["single", "batch"],
    ["batch", "single"],
  ];
  for (const handlers of kinds) {
    test(`of ${handlers.join(" and ")} (33)`, async () => {
      const { skipped } = await play(60, { handlers, faults: 0.1 });
      assertGreater(skipped, 80, "some events cannot be handled");
    });
  }

  test("with keys of one's own (33)", async () => {
    await play(80, { handlers: ["batch"], ownKeys: true, faults: 0.1 });
  });
});

describe("a message is handled alone, behind all that was before it and before all that comes after it:", () => {
  for (const handlers of [["single"], ["batch"], ["single", "batch"]] as const) {
    test(`beside ${handlers.join(" and ")}`, async () => {
      const { atOnce } = await play(60, { handlers: [...handlers], messages: true });
      assertGreater(atOnce, 1, "events are still handled side by side");
      const faults = { handlers: [...handlers], messages: true, faults: 0.1 };
      const { skipped } = await play(40, faults);
      assertGreater(skipped, 40);
      await play(30, { ...faults, stops: true });
      if (handlers.length === 1) await play(30, { ...faults, holds: true });
    });
  }
});

test("100,000 events with 5% faults in 8 lanes: no key goes back, and each event is handled once (33)", async () => {
  const COUNT = 100_000;
  const seed = 20_260_101;
  const random = seededRandom(seed);
  const lastOf = new Map<string, number>();
  const handled = new Uint8Array(COUNT);
  const reversed: string[] = [];
  let faults = 0;
  const harness = new Harness((event) => {
    if (random() < 0.05) {
      faults++;
      throw new Error("a fault");
    }
    const last = lastOf.get(event.key!) ?? -1;
    if (event.ordinal <= last) reversed.push(`${event.ordinal} after ${last}`);
    lastOf.set(event.key!, event.ordinal);
    handled[event.ordinal]!++;
    if (random() < 0.01) return Promise.resolve();
  }, {
    lanes: new LanePlan(8),
    maxQueueBytes: 200_000,
    retry: { attempts: Infinity, minDelayMs: 0, maxDelayMs: 0 },
  });
  const running = harness.run();
  for (let ordinal = 0; ordinal < COUNT; ordinal++) {
    harness.offerEvent(insertOf(`k${Math.floor(random() * 50)}`, { ordinal }));
    const room = harness.delivery.room();
    if (room !== null) await room;
  }
  await inTime("all to be handled", harness.delivery.drained(), 60_000);
  harness.stop();
  await running;
  assertGreater(faults, COUNT / 25);
  assertEquals(reversed, [], `seed ${seed}`);
  assertEquals(handled.findIndex((times) => times !== 1), -1);
  assertEquals(harness.frontier.confirmed, BigInt(COUNT));
});

test("an event for which there is no key is not half in the queue", async () => {
  const harness = new Harness(() => {}, {
    lanes: new LanePlan(4, ({ key }) => key === "2" ? undefined! : key!),
  });
  harness.offer(1);
  const bytes = harness.delivery.queueBytes;
  const transaction = harness.frontier.begin();
  assertThrows(() => {
    harness.delivery.offer(insertOf("2"), 100, transaction, DOCUMENTS);
  }, DeliveryError);
  assertEquals([harness.delivery.queueBytes, transaction.events, transaction.pending], [
    bytes,
    0,
    0,
  ]);
  await harness.drain();
  assertEquals(harness.delivery.queueBytes, 0);
});

describe("the same where it is told to stop at a random moment, and what is confirmed is exact", () => {
  for (const handlers of [["single"], ["batch"], ["single", "batch"]] as const) {
    test(`with ${handlers.join(" and ")}`, async () => {
      await play(40, { handlers: [...handlers], stops: true });
      await play(40, { handlers: [...handlers], stops: true, faults: 0.1 });
    });
  }
});

describe("while it is held nothing begins, and nothing is lost by it:", () => {
  for (const kind of ["single", "batch"] as const) {
    test(kind, async () => {
      await play(40, { handlers: [kind], holds: true });
    });

    test(`${kind}, where handlers fail and are to be tried again`, async () => {
      await play(40, { handlers: [kind], holds: true, faults: 0.2 });
    });
  }
});
