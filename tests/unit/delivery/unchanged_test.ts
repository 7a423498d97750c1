import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent, UpdateEvent } from "../../../src/change.ts";
import type { DeliveryOptions } from "../../../src/delivery/delivery.ts";
import { DeliveryError } from "../../../src/delivery/errors.ts";
import { Frontier } from "../../../src/delivery/frontier.ts";
import type { Failure, Handler } from "../../../src/delivery/handler.ts";
import { LanePlan } from "../../../src/delivery/lane_plan.ts";
import { TransactionQueue } from "../../../src/delivery/transaction_queue.ts";
import { readFailed } from "../../../src/backfill/unchanged_reader.ts";
import type { UnchangedReader, UnreadEvent } from "../../../src/delivery/unchanged.ts";
import { PgStreamError } from "../../../src/errors.ts";
import {
  batch,
  DOCUMENTS,
  Gate,
  Harness,
  insertOf,
  inTime,
  isSettled,
  single,
  turn,
  updateOf,
} from "./harness.ts";

const large = (key: string, oldKey: string | null = null): UpdateEvent =>
  updateOf(key, oldKey, { row: { id: key }, unchanged: ["body"] });

/** A database of one column: of each key `body KEY`, but for those that are gone. */
class Bodies implements UnchangedReader {
  limit = 100;
  readonly gone = new Set<string>();
  /** Keys of each read, as they were asked for. */
  readonly reads: string[] = [];
  /** What the next reads are rejected with. */
  readonly failures: unknown[] = [];
  gate: Gate | null = null;

  async read(unread: readonly UnreadEvent[], signal: AbortSignal): Promise<void> {
    this.reads.push(unread.map(({ event }) => event.key).join(" "));
    await turn();
    const stopped = new Promise((resolve) => signal.addEventListener("abort", resolve));
    await Promise.race([this.gate?.passed, ...(this.gate === null ? [] : [stopped])]);
    signal.throwIfAborted();
    if (this.failures.length > 0) throw readFailed(DOCUMENTS.name, this.failures.shift());
    for (const { event, table } of unread) {
      assertStrictEquals(table, DOCUMENTS);
      assertEquals(event.unchanged, ["body"], `read twice: ${event.key}`);
      if (this.gone.has(event.key!)) continue;
      (event.row as Record<string, string>).body = `body ${event.key}`;
      event.unchanged = [];
    }
  }
}

const bodyOf = ({ row, unchanged }: ChangeEvent) =>
  (row as { body?: string }).body ?? `-${unchanged}`;

/** Offers the events, and takes what was handled. */
async function handled(
  bodies: Bodies,
  events: ChangeEvent[],
  options: Partial<DeliveryOptions> = {},
): Promise<string[]> {
  const seen: string[] = [];
  const harness = new Harness((event) => void seen.push(bodyOf(event)), {
    unchanged: bodies,
    ...options,
  });
  for (const event of events) harness.offerEvent(event);
  await inTime("the end", harness.drain());
  assertEquals(harness.frontier.confirmed, BigInt(events.length));
  return seen;
}

describe("columns that were not sent", () => {
  test("are read before the handler gets the event, with those of events that wait behind it", async () => {
    const bodies = new Bodies();
    const events = [large("1"), insertOf("2"), large("3"), large("4"), updateOf("5"), large("6")];
    assertEquals(await handled(bodies, events), ["body 1", "-", "body 3", "body 4", "-", "body 6"]);
    assertEquals(bodies.reads, ["1 3 4 6"]);
  });

  test("are read for as many events as the reader takes", async () => {
    const bodies = new Bodies();
    bodies.limit = 3;
    const events = Array.from({ length: 8 }, (_, index) => large(`${index}`));
    await handled(bodies, events);
    assertEquals(bodies.reads, ["0 1 2", "3 4 5", "6 7"]);
  });

  test("of a row that is gone stay as they are, and are not asked for again", async () => {
    const bodies = new Bodies();
    bodies.gone.add("2");
    const seen = await handled(bodies, [large("1"), large("2"), large("3")]);
    assertEquals(seen, ["body 1", "-body", "body 3"]);
    assertEquals(bodies.reads, ["1 2 3"]);
  });

  test("are taken from the old row where all of it was sent, as REPLICA IDENTITY FULL does", async () => {
    const bodies = new Bodies();
    const full = updateOf("1", null, {
      row: { id: "1" },
      oldRow: { id: "1", body: "the old body" },
      unchanged: ["body"],
    });
    const part = updateOf("2", "1", { row: { id: "2" }, oldRow: { id: "1" }, unchanged: ["body"] });
    assertEquals(await handled(bodies, [full, part]), ["the old body", "body 2"]);
    assertEquals(full.unchanged, []);
    assertEquals(bodies.reads, ["2"]);
  });

  test("are not read of tables that need not be whole", async () => {
    const bodies = Object.assign(new Bodies(), { wants: () => false });
    assertEquals(await handled(bodies, [large("1")]), ["-body"]);
    assertEquals(bodies.reads, []);
  });

  test("are asked for by nobody where all were sent", async () => {
    const bodies = new Bodies();
    await handled(bodies, [insertOf("1"), updateOf("2")], { lanes: new LanePlan(3) });
    assertEquals(bodies.reads, []);
  });

  test("are read once in many lanes, those of a changed key too", async () => {
    const bodies = new Bodies();
    const events = Array.from(
      { length: 60 },
      (_, index) => index % 7 === 3 ? large(`${index}`, `${index - 1}`) : large(`${index}`),
    );
    const seen = await handled(bodies, events, { lanes: new LanePlan(6) });
    assertEquals([...seen].sort(), events.map(({ key }) => `body ${key}`).sort());
    const asked = bodies.reads.flatMap((keys) => keys.split(" "));
    assertEquals(asked.length, 60);
    assert(bodies.reads.length < 40, `${bodies.reads.length} reads`);
  });

  test("are read at once for all of a batch", async () => {
    const bodies = new Bodies();
    bodies.limit = 1;
    const seen: string[][] = [];
    const handlers: Handler[] = [batch((events) => void seen.push(events.map(bodyOf)))];
    const harness = new Harness(handlers, {
      unchanged: bodies,
      batch: { maxEvents: 3, maxBytes: 100_000, maxDelayMs: 1000 },
    });
    for (const event of [large("1"), insertOf("2"), large("3"), insertOf("4"), large("5")]) {
      harness.offerEvent(event);
    }
    await inTime("the end", harness.drain());
    assertEquals(seen, [["body 1", "-", "body 3"], ["-", "body 5"]]);
    assertEquals(bodies.reads, ["1 3", "5"]);
  });
});

describe("a read that fails", () => {
  const retry = { attempts: 3, minDelayMs: 0, maxDelayMs: 0 };

  test("is tried again as a handler is", async () => {
    const bodies = new Bodies();
    bodies.failures.push(new Error("no"), new Error("no"));
    let retries = 0;
    const onRetry = () => void retries++;
    const seen = await handled(bodies, [large("1"), large("2")], { retry, onRetry });
    assertEquals([seen, retries], [["body 1", "body 2"], 2]);
    assertEquals(bodies.reads, ["1 2", "1", "1", "2"]);
  });

  test("for good ends the stream with an error of its own, and no handler is called", async () => {
    const bodies = new Bodies();
    const cause = new PgStreamError("may not", { kind: "select-privilege", hint: "Run: GRANT" });
    bodies.failures.push(cause);
    const seen: string[] = [];
    const harness = new Harness((event) => void seen.push(event.key!), {
      unchanged: bodies,
      retry,
    });
    harness.offerEvent(large("1"));
    const error = await assertRejects(() => harness.run(), DeliveryError);
    assertEquals([error.kind, error.retryable], ["read-unchanged", false]);
    assert(error.message.includes("documents"), error.message);
    assertStrictEquals(error.cause, cause);
    assertEquals([seen, harness.frontier.confirmed, bodies.reads], [[], 0n, ["1"]]);
  });

  test("is a failure of the event in hand, which may be skipped, and of none that was read with it", async () => {
    for (const kind of ["single", "batch"] as const) {
      const bodies = new Bodies();
      const failures: Failure[] = [];
      const seen: string[] = [];
      const handlers = kind === "single"
        ? [single((event) => void seen.push(bodyOf(event)))]
        : [batch((events) => void seen.push(...events.map(bodyOf)))];
      const harness = new Harness(handlers, {
        unchanged: {
          limit: 2,
          read: (unread, signal) => {
            // Whatever else is read with it.
            if (unread.some(({ event }) => event.key === "2")) {
              return Promise.reject(readFailed(DOCUMENTS.name, new Error("no")));
            }
            return bodies.read(unread, signal);
          },
        },
        batch: kind === "single" ? null : { maxEvents: 4, maxBytes: 100_000, maxDelayMs: 1000 },
        retry: { ...retry, attempts: 2 },
        onFailure: (failure) => {
          failures.push(failure);
          return "skip";
        },
      });
      for (const key of ["3", "2", "4"]) harness.offerEvent(large(key));
      await inTime("the end", harness.drain());
      const keys = failures.map(({ events }) => events.map(({ key }) => key).join());
      assertEquals(keys, ["2"]);
      assert(failures.every(({ error }) => (error as DeliveryError).kind === "read-unchanged"));
      assertEquals(seen, ["body 3", "body 4"]);
      assertEquals(harness.frontier.confirmed, 3n);
    }
  });

  test("ends at once where the stream is told to stop", async () => {
    const bodies = new Bodies();
    bodies.gate = new Gate();
    const harness = new Harness(() => {}, { unchanged: bodies, retry });
    harness.offerEvent(large("1"));
    const running = harness.run();
    await turn();
    harness.stop();
    await inTime("the end", running);
    assertEquals(harness.frontier.confirmed, 0n);
  });
});

describe("whoever pulls", () => {
  function pulling(bodies: Bodies, attempts = 3) {
    const frontier = new Frontier(0n);
    const queue = new TransactionQueue({
      frontier,
      maxQueueBytes: 1_000_000,
      unchanged: { reader: bodies, retry: { attempts, minDelayMs: 0, maxDelayMs: 0 } },
      onSettled: () => {},
      onProgress: () => {},
    });
    const stop = new AbortController();
    const running = queue.run(stop);
    const commit = (events: ChangeEvent[]) => {
      const transaction = frontier.begin();
      for (const event of events) queue.offer(event, 100, transaction, DOCUMENTS);
      frontier.commit(transaction, 10n);
      queue.commit(transaction);
    };
    const next = () => inTime("the next part", queue.next());
    return { frontier, queue, stop, running, commit, next };
  }

  test("gets events that are whole, in parts that are no larger than what is read at once", async () => {
    const bodies = new Bodies();
    bodies.limit = 2;
    const { frontier, queue, commit, next } = pulling(bodies);
    commit([insertOf("1"), large("2"), large("3"), insertOf("4"), large("5"), insertOf("6")]);
    const first = (await next())!;
    assertEquals(first.events.map(bodyOf), ["-", "body 2", "body 3", "-"]);
    const second = (await next())!;
    assertEquals(second.events.map(bodyOf), ["body 5", "-"]);
    assertEquals([first.last, second.last, queue.queueBytes], [false, true, 0]);
    assertEquals(bodies.reads, ["2 3", "5"]);
    second.ack();
    assertEquals(frontier.confirmed, 0n);
    first.ack();
    assertEquals(frontier.confirmed, 10n);
  });

  test("is not bothered by a read that fails and passes, and is told of one that does not", async () => {
    const bodies = new Bodies();
    bodies.failures.push(new Error("no"), new Error("no"));
    const { commit, next, queue } = pulling(bodies);
    commit([large("1")]);
    assertEquals((await next())!.events.map(bodyOf), ["body 1"]);
    bodies.failures.push(new Error("1"), new Error("2"), new Error("3"));
    commit([large("2")]);
    const error = await assertRejects(() => queue.next(), DeliveryError);
    assertEquals([error.kind, (error.cause as Error).message], ["read-unchanged", "3"]);
    assertEquals(bodies.reads.length, 6);
  });

  test("waits while there is no server to ask, and not for a read when it is told to stop", async () => {
    const bodies = new Bodies();
    bodies.failures.push(new Error("no"));
    const { commit, queue, stop, running } = pulling(bodies);
    commit([large("1")]);
    const part = queue.next();
    await Promise.resolve();
    queue.hold();
    assertEquals(await isSettled(part), false);
    assertEquals(bodies.reads.length, 1);
    queue.release();
    assertEquals((await inTime("the part", part))!.events.map(bodyOf), ["body 1"]);
    bodies.gate = new Gate();
    commit([large("2")]);
    const last = queue.next();
    await turn();
    stop.abort();
    assertEquals(await inTime("the end", last), null);
    queue.done();
    await inTime("the end", running);
  });
});
