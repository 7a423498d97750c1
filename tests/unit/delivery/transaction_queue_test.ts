import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLessOrEqual,
  assertStrictEquals,
} from "@std/assert";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { ChangeEvent } from "../../../src/change.ts";
import { Frontier, type TrackedTransaction } from "../../../src/delivery/frontier.ts";
import { Intake } from "../../../src/delivery/intake.ts";
import { type TransactionPart, TransactionQueue } from "../../../src/delivery/transaction_queue.ts";
import { formatLsn } from "../../../src/lsn.ts";
import type { Relation } from "../../../src/pgoutput/mod.ts";
import { seededRandom } from "../../support/random.ts";
import { insertOf, inTime, isSettled, OVERHEAD, turn } from "./harness.ts";

/** A queue with a frontier. Transactions end at 10, 20, 30 … */
class Pull {
  readonly frontier = new Frontier(0n);
  readonly queue: TransactionQueue;
  readonly stopping = new AbortController();
  readonly settled: ChangeEvent[] = [];
  progress = 0;
  #begun = 0n;
  #open: TrackedTransaction | null = null;
  #ordinal = 0;

  constructor(maxQueueBytes = 1_000_000) {
    this.queue = new TransactionQueue({
      frontier: this.frontier,
      maxQueueBytes,
      onSettled: (event) => this.settled.push(event),
      onProgress: () => this.progress++,
    });
  }

  /** Events of the transaction that is open; begins one where none is. */
  offer(count = 1, bytes = 100): this {
    if (this.#open === null) {
      this.#begun += 10n;
      this.#ordinal = 0;
      this.#open = this.frontier.begin();
    }
    for (let i = 0; i < count; i++) {
      const ordinal = this.#ordinal++;
      const event = insertOf(`${this.#begun}/${ordinal}`, { lsn: formatLsn(this.#begun), ordinal });
      this.queue.offer(event, bytes, this.#open);
    }
    return this;
  }

  commit(): this {
    const transaction = this.#open!;
    this.#open = null;
    this.frontier.commit(transaction, this.#begun);
    this.queue.commit(transaction);
    return this;
  }

  transaction(events: number, bytes = 100): this {
    return this.offer(events, bytes).commit();
  }

  next(): Promise<TransactionPart> {
    return inTime("the next part", this.queue.next()) as Promise<TransactionPart>;
  }
}

const keysOf = (part: TransactionPart) => part.events.map((event) => event.key).join(" ");

describe("a transaction", () => {
  test("comes whole, with its commit's LSN, and is confirmed by its ack", async () => {
    const pull = new Pull().transaction(3);
    const part = await pull.next();
    assertEquals([part.lsn, part.last, keysOf(part)], ["0/A", true, "10/0 10/1 10/2"]);
    assertEquals([pull.frontier.confirmed, pull.settled.length], [0n, 0]);
    part.ack();
    assertEquals([pull.frontier.confirmed, pull.settled.length, pull.progress], [10n, 3, 1]);
  });

  test("is not handed out before it is whole", async () => {
    const pull = new Pull().offer(2);
    const next = pull.queue.next();
    assertEquals(await isSettled(next), false);
    pull.offer(1).commit();
    assertEquals(keysOf((await next)!), "10/0 10/1 10/2");
  });

  test("that is large comes in parts, in order, of which the last one says so", async () => {
    const pull = new Pull(16 * (100 + OVERHEAD)).offer(11);
    const parts: TransactionPart[] = [];
    for (let i = 0; i < 2; i++) parts.push(await pull.next());
    pull.commit();
    parts.push(await pull.next());
    assertEquals(parts.map((part) => part.last), [false, false, true]);
    assertEquals(parts.map((part) => part.events.length), [4, 4, 3]);
    assertEquals(new Set(parts.map((part) => part.lsn)), new Set(["0/A"]));
    assertEquals(
      parts.map(keysOf).join(" "),
      Array.from({ length: 11 }, (_, i) => `10/${i}`).join(" "),
    );
  });

  test("whose last event fills a part has no empty one behind it", async () => {
    const pull = new Pull(16 * (100 + OVERHEAD)).transaction(8).transaction(1);
    const parts = [await pull.next(), await pull.next(), await pull.next()];
    assertEquals(parts.map((part) => [part.lsn, part.events.length, part.last]), [
      ["0/A", 4, false],
      ["0/A", 4, true],
      ["0/14", 1, true],
    ]);
  });

  test("without events is not handed out, and is confirmed", async () => {
    const pull = new Pull().offer(0).commit().offer(0).commit().transaction(1);
    assertEquals(pull.frontier.confirmed, 20n);
    assertEquals((await pull.next()).lsn, "0/1E");
  });
});

describe("an ack", () => {
  test("counts once", async () => {
    const pull = new Pull().transaction(2).transaction(2);
    const [first, second] = [await pull.next(), await pull.next()];
    first.ack();
    first.ack();
    second.ack();
    first.ack();
    assertEquals([pull.frontier.confirmed, pull.settled.length, pull.progress], [20n, 4, 2]);
    assertEquals(pull.frontier.transactions, 2);
  });

  test("in any order confirms what has no gap before it", async () => {
    const pull = new Pull().transaction(1).transaction(1).transaction(1);
    const parts = [await pull.next(), await pull.next(), await pull.next()];
    parts[2]!.ack();
    parts[1]!.ack();
    assertEquals(pull.frontier.confirmed, 0n);
    parts[0]!.ack();
    assertEquals(pull.frontier.confirmed, 30n);
  });

  test("before the last part confirms nothing, whether or not the rest has come", async () => {
    const pull = new Pull(4 * (100 + OVERHEAD)).offer(3);
    const first = await pull.next();
    assertEquals(first.last, false);
    first.ack();
    assertEquals(pull.frontier.confirmed, 0n);
    const second = await pull.next();
    second.ack();
    pull.commit();
    assertEquals(pull.frontier.confirmed, 0n, "one event is not handed out yet");
    const third = await pull.next();
    assertEquals([first, second, third].map((part) => part.last), [false, false, true]);
    third.ack();
    assertEquals(pull.frontier.confirmed, 10n);
  });

  test("of the last part alone confirms nothing", async () => {
    const pull = new Pull(4 * (100 + OVERHEAD)).transaction(2);
    const [first, last] = [await pull.next(), await pull.next()];
    last.ack();
    assertEquals(pull.frontier.confirmed, 0n);
    first.ack();
    assertEquals(pull.frontier.confirmed, 10n);
  });

  test("still counts after the queue has ended", async () => {
    const pull = new Pull().transaction(1);
    const running = pull.queue.run(pull.stopping);
    const part = await pull.next();
    pull.stopping.abort();
    part.ack();
    pull.queue.done();
    await running;
    assertEquals(pull.frontier.confirmed, 10n);
  });
});

describe("the budget", () => {
  test("is left when a part is handed over, acknowledged or not", async () => {
    const pull = new Pull(2 * (100 + OVERHEAD)).transaction(2).transaction(1);
    const room = pull.queue.room();
    assertInstanceOf(room, Promise);
    await pull.next();
    assertEquals(await isSettled(room), true);
    await pull.next();
    await pull.next();
    assertEquals([pull.queue.queueBytes, pull.queue.room()], [0, null]);
  });

  test("admits an event of any size where nothing is queued, and the one that shows that a part is over", async () => {
    const pull = new Pull(10);
    assertStrictEquals(pull.queue.room(), null);
    pull.offer(1, 1_000_000);
    assertStrictEquals(pull.queue.room(), null, "nobody can know yet that it is not the last one");
    pull.offer(1, 1_000_000);
    const room = pull.queue.room();
    assertInstanceOf(room, Promise);
    assertEquals((await pull.next()).last, false);
    assertEquals(await isSettled(room), true);
  });

  test("is given back for what is dropped", async () => {
    const pull = new Pull(10).transaction(1).offer(1);
    const room = pull.queue.room();
    assertInstanceOf(room, Promise);
    pull.queue.drop();
    assertEquals(await isSettled(room), true);
    assertEquals([pull.queue.queueBytes, pull.queue.room()], [0, null]);
    assertEquals(await isSettled(pull.queue.next()), false, "nothing is left");
  });
});

describe("stopping", () => {
  test("ends at once where nothing is in hand, and hands out nothing more", async () => {
    const pull = new Pull(10).transaction(1).transaction(1);
    const running = pull.queue.run(pull.stopping);
    const room = pull.queue.room();
    pull.stopping.abort();
    await inTime("the end", running);
    assertEquals(await isSettled(room!), true);
    assertStrictEquals(pull.queue.room(), null);
    assertEquals(await pull.queue.next(), null);
  });

  test("waits for the part in hand until the consumer is done with it", async () => {
    for (const end of ["done", "next"] as const) {
      const pull = new Pull().transaction(1).transaction(1);
      const running = pull.queue.run(pull.stopping);
      const part = await pull.next();
      pull.stopping.abort();
      assertEquals(await isSettled(running), false);
      part.ack();
      if (end === "done") pull.queue.done();
      else assertEquals(await pull.queue.next(), null);
      await inTime("the end", running);
      assertEquals(pull.frontier.confirmed, 10n);
    }
  });

  test("wakes a consumer that waits for the next transaction", async () => {
    const pull = new Pull().offer(1);
    const running = pull.queue.run(pull.stopping);
    const next = pull.queue.next();
    pull.stopping.abort("enough");
    assertEquals(await inTime("the end", next), null);
    await running;
  });

  test("before it began hands out nothing", async () => {
    const pull = new Pull().transaction(1);
    pull.stopping.abort();
    await inTime("the end", pull.queue.run(pull.stopping));
    assertEquals(await pull.queue.next(), null);
  });
});

describe("while it is held", () => {
  test("nothing is handed out, and everything afterwards", async () => {
    const pull = new Pull();
    pull.queue.hold();
    const next = pull.queue.next();
    pull.transaction(1);
    assertEquals(await isSettled(next), false);
    pull.queue.release();
    assertEquals((await inTime("the part", next))!.lsn, "0/A");
  });

  test("a stop ends it", async () => {
    const pull = new Pull().transaction(1);
    const running = pull.queue.run(pull.stopping);
    pull.queue.hold();
    const next = pull.queue.next();
    pull.stopping.abort();
    assertEquals(await inTime("the end", next), null);
    await running;
  });
});

describe("a transaction that was cut off by the loss of its slot", () => {
  const relation: Relation = {
    type: "relation",
    xid: null,
    oid: 1,
    schema: "public",
    name: "documents",
    replicaIdentity: "default",
    columns: [{ name: "id", typeOid: 25, typeModifier: -1, key: true }],
  };
  const table = { name: { schema: "public", table: "documents" }, primaryKey: ["id"] };
  const begin = (
    finalLsn: bigint,
  ) => ({ type: "begin", finalLsn, commitTimeUs: 0n, xid: 1 } as const);
  const insert = (
    id: string,
  ) => ({ type: "insert", xid: null, relation, row: { id }, unchanged: [] } as const);
  const commit = (commitLsn: bigint) =>
    ({ type: "commit", flags: 0, commitLsn, endLsn: commitLsn + 8n, commitTimeUs: 0n }) as const;

  /** An intake whose connection broke inside of a transaction, and which goes on at 100. */
  function cutOff(): { pull: Pull; intake: Intake } {
    const pull = new Pull();
    const intake = new Intake(pull.queue, pull.frontier);
    intake.connected();
    intake.declare(relation, table);
    intake.accept(begin(10n), 10);
    intake.accept(insert("half"), 10);
    intake.restart(100n);
    intake.connected();
    intake.declare(relation, table);
    return { pull, intake };
  }

  test("is not mixed with the next one, which is confirmed like any other", async () => {
    const { pull, intake } = cutOff();
    for (const message of [begin(110n), insert("a"), commit(110n)]) intake.accept(message, 10);
    const part = await pull.next();
    assertEquals([part.lsn, part.last, keysOf(part)], ["0/6E", true, "a"]);
    part.ack();
    assertEquals([pull.frontier.confirmed, pull.frontier.unfinished], [118n, 0]);
    assertEquals(pull.queue.queueBytes, 0);
  });

  test("is never said to be whole, where the next one has no events of its own", async () => {
    const { pull, intake } = cutOff();
    for (const message of [begin(110n), commit(110n)]) intake.accept(message, 10);
    assertEquals(await isSettled(pull.queue.next()), false);
    assertEquals(pull.frontier.confirmed, 118n);
  });
});

/** One random history. */
async function play(seed: number): Promise<void> {
  const random = seededRandom(seed);
  const below = (n: number) => Math.floor(random() * n);
  const where = `seed ${seed}`;
  const maxQueueBytes = 1 + below(8000);
  const pull = new Pull(maxQueueBytes);
  const running = pull.queue.run(pull.stopping);
  const sizes: number[] = [];
  let largest = 0;

  const produce = async () => {
    for (let transaction = 0; transaction < 25; transaction++) {
      sizes.push(below(random() < 0.2 ? 60 : 5));
      pull.offer(0);
      for (let i = 0; i < sizes.at(-1)!; i++) {
        await inTime(`room: ${where}`, Promise.resolve(pull.queue.room()));
        const bytes = below(random() < 0.02 ? 50_000 : 300);
        largest = Math.max(largest, bytes + OVERHEAD);
        pull.offer(1, bytes);
        const most = Math.max(maxQueueBytes + largest, maxQueueBytes / 4 + 2 * largest);
        assertLessOrEqual(pull.queue.queueBytes, most, where);
        if (random() < 0.05) await setImmediate();
      }
      pull.commit();
    }
  };

  const got: { lsn: bigint; events: number; acked: boolean; last: boolean }[] = [];
  /** The end of the last transaction before which all is acknowledged. */
  const confirmable = () => {
    let confirmed = 0n;
    for (const [place, size] of sizes.entries()) {
      const lsn = BigInt(place + 1) * 10n;
      const acked = got.filter((part) => part.lsn === lsn && part.acked);
      if (acked.reduce((sum, part) => sum + part.events, 0) < size) break;
      confirmed = lsn;
    }
    return confirmed;
  };
  const check = () => {
    assert(pull.frontier.confirmed <= confirmable(), `too much is confirmed: ${where}`);
  };
  const consume = async () => {
    const waiting: (() => void)[] = [];
    for (let part = await pull.queue.next(); part !== null; part = await pull.queue.next()) {
      const entry = {
        lsn: BigInt(`0x${part.lsn.slice(2)}`),
        events: part.events.length,
        acked: false,
        last: part.last,
      };
      const before = got.at(-1);
      assert(part.events.length > 0, where);
      for (const event of part.events) assertEquals(event.lsn, part.lsn, where);
      // Parts of one transaction follow one another, and so do their events.
      const goesOn = before !== undefined && !before.last;
      assertEquals(goesOn, before?.lsn === entry.lsn, where);
      got.push(entry);
      const { ack } = part;
      waiting.push(() => {
        entry.acked = true;
        ack();
        if (random() < 0.2) ack();
      });
      while (waiting.length > 0 && random() < 0.5) {
        waiting.splice(below(waiting.length), 1)[0]!();
        check();
      }
      if (random() < 0.3) await turn();
    }
    for (const ack of waiting) ack();
    check();
  };

  const consuming = consume();
  await inTime(`all to be offered: ${where}`, produce());
  while (got.reduce((sum, part) => sum + part.events, 0) < sizes.reduce((a, b) => a + b, 0)) {
    await turn();
  }
  pull.stopping.abort();
  await inTime(`the end: ${where}`, Promise.all([consuming, running]));
  assertEquals(pull.frontier.confirmed, 250n, where);
  assertEquals([pull.queue.queueBytes, pull.frontier.unfinished], [0, 0], where);
  const counts = sizes.map((_, place) =>
    got.filter((part) => part.lsn === BigInt(place + 1) * 10n)
      .reduce((sum, part) => sum + part.events, 0)
  );
  assertEquals(counts, sizes, where);
  assertEquals(pull.settled.length, sizes.reduce((a, b) => a + b, 0), where);
}

test("no random history stalls, mixes transactions, or confirms what is not acknowledged", async () => {
  for (let seed = 1; seed <= 60; seed++) await play(seed);
});

describe("what is to be called between two events", () => {
  /** Notes calls and events in the order in which they come. */
  function calling(): { pull: Pull; log: string[]; call: (name: string) => void } {
    const pull = new Pull();
    const log: string[] = [];
    const call = (name: string) =>
      pull.queue.barrier(async () => {
        await turn();
        log.push(name);
      });
    return { pull, log, call };
  }

  test("parts a transaction there, and is called when the part behind it is asked for", async () => {
    const { pull, log, call } = calling();
    call("a");
    pull.offer(2);
    call("b");
    call("c");
    pull.offer(1).commit();
    const first = await pull.next();
    assertEquals([keysOf(first), first.last, log], ["10/0 10/1", false, ["a"]]);
    const second = await pull.next();
    assertEquals([keysOf(second), second.last, log], ["10/2", true, ["a", "b", "c"]]);
    first.ack();
    assertEquals(pull.frontier.confirmed, 0n);
    second.ack();
    assertEquals([pull.frontier.confirmed, pull.queue.queueBytes], [10n, 0]);
  });

  test("between two transactions parts none of them", async () => {
    const { pull, log, call } = calling();
    pull.transaction(1);
    call("a");
    pull.transaction(2);
    assertEquals([keysOf(await pull.next()), log], ["10/0", []]);
    const part = await pull.next();
    assertEquals([keysOf(part), part.last, log], ["20/0 20/1", true, ["a"]]);
  });

  test("is called in order, before what comes next, where the rest was dropped", async () => {
    const { pull, log, call } = calling();
    call("a");
    pull.transaction(1);
    call("b");
    pull.offer(1);
    call("c");
    pull.queue.drop();
    pull.commit();
    assertEquals(log, []);
    pull.transaction(1);
    assertEquals([keysOf(await pull.next()), log], ["30/0", ["a", "b", "c"]]);
  });
});
