import { assert, assertEquals, assertGreater } from "@std/assert";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { ChangeEvent, LogicalMessage } from "../../../src/change.ts";
import { Delivery } from "../../../src/delivery/delivery.ts";
import type { EventQueue } from "../../../src/delivery/event_queue.ts";
import { Frontier, type TrackedTransaction } from "../../../src/delivery/frontier.ts";
import { Intake } from "../../../src/delivery/intake.ts";
import { LanePlan } from "../../../src/delivery/lane_plan.ts";
import { TransactionQueue } from "../../../src/delivery/transaction_queue.ts";
import { parseLsn } from "../../../src/lsn.ts";
import { silentLogger } from "../../../src/logger.ts";
import { seededRandom } from "../../support/random.ts";
import { batch, inTime, ONCE, single } from "./harness.ts";
import { type Arrival, ModelServer, watchedAs } from "./model_server.ts";

function nameOf(item: ChangeEvent | LogicalMessage): string {
  const lone = item.operation === "message" && !item.transactional;
  return lone ? `message ${parseLsn(item.lsn)}` : `${parseLsn(item.lsn)}/${item.ordinal}`;
}

function feed(intake: Intake, arrival: Arrival): void {
  if (arrival.type === "keepalive") intake.keepalive(arrival.walEnd);
  else if (arrival.message.type !== "relation") intake.accept(arrival.message, 50);
  else intake.declare(arrival.message, watchedAs(arrival.message));
}

/** Holds what is offered until it is handled by hand. */
class ManualQueue implements Partial<EventQueue> {
  readonly offered: string[] = [];
  readonly waiting: { name: string; transaction: TrackedTransaction }[] = [];

  offer(event: ChangeEvent, _bytes: number, transaction: TrackedTransaction): void {
    this.offered.push(nameOf(event));
    this.waiting.push({ name: nameOf(event), transaction });
    this.frontier.expect(transaction);
  }
  offerMessage(message: LogicalMessage, _bytes: number, transaction: TrackedTransaction): void {
    this.offered.push(nameOf(message));
    this.waiting.push({ name: nameOf(message), transaction });
    this.frontier.expect(transaction);
  }
  commit(): void {}
  barrier(): void {}

  readonly frontier: Frontier;
  constructor(frontier: Frontier) {
    this.frontier = frontier;
  }
}

/** A client without a stream: it can be cut off, and go on. */
class Client {
  readonly frontier: Frontier;
  readonly queue: ManualQueue;
  readonly intake: Intake;
  readonly handled = new Set<string>();
  readonly #server: ModelServer;

  constructor(server: ModelServer, confirmed = 0n) {
    this.#server = server;
    this.frontier = new Frontier(confirmed);
    this.queue = new ManualQueue(this.frontier);
    this.intake = new Intake(
      this.queue as unknown as EventQueue,
      this.frontier,
      null,
      prefixes,
    );
  }

  /** A connection that breaks after so many messages. @returns false where all of them came */
  receive(messages: number, from = this.frontier.confirmed, where = ""): boolean {
    this.intake.connected();
    for (const arrival of this.#server.connect(from)) {
      if (messages-- === 0) return true;
      feed(this.intake, arrival);
      this.check(where);
    }
    return false;
  }

  /** @param place in what waits */
  handle(place: number): void {
    const [entry] = this.queue.waiting.splice(place, 1);
    if (entry === undefined) return;
    this.handled.add(entry.name);
    this.frontier.handled(entry.transaction);
  }

  /** What is confirmed is such that whatever is not handled would come again. */
  check(where: string): void {
    const { confirmed } = this.frontier;
    for (const { name, transaction } of this.#server.expected) {
      if (this.handled.has(name) || transaction.commitLsn >= confirmed) continue;
      throw new Error(`${name} is not handled, ${confirmed} confirmed: ${where}`);
    }
  }

  finish(where: string): void {
    while (this.queue.waiting.length > 0) this.handle(0);
    this.check(where);
    assertEquals(this.queue.offered, this.#server.expected.map(({ name }) => name), where);
    assertEquals(this.frontier.confirmed, this.#server.walEnd, where);
    assertEquals(this.frontier.unfinished, 0, where);
  }
}

/** Of those messages that somebody handles. */
const prefixes = new Set(["outbox"]);

/** The same log for every test of a seed; connections differ in keepalives only. Every other one has messages. */
function serverOf(seed: number, transactions: number, messages = seed % 2 === 0): ModelServer {
  return new ModelServer(seededRandom(seed)).write(transactions, messages);
}

describe("a log in which transactions interleave", () => {
  test("has rows whose LSNs go backwards, and equal the end of another transaction", () => {
    let [backwards, equal] = [0, 0];
    for (let seed = 1; seed <= 20; seed++) {
      const { transactions } = serverOf(seed, 12);
      const ends = new Set(transactions.map(({ endLsn }) => endLsn));
      const rows = transactions.flatMap(({ changes }) => changes.map(({ rowLsn }) => rowLsn));
      for (let i = 1; i < rows.length; i++) if (rows[i]! < rows[i - 1]!) backwards++;
      for (const rowLsn of rows) if (ends.has(rowLsn)) equal++;
    }
    assertGreater(backwards, 20);
    assertGreater(equal, 20);
  });

  test("is handed out whole and in the order of commits, each event once (2)", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const client = new Client(serverOf(seed, 12));
      client.receive(Infinity, 0n, `seed ${seed}`);
      client.finish(`seed ${seed}`);
    }
  });
});

describe("what comes again after a cut is left out, up to what was queued, handled or not:", () => {
  test("at every message, from every position that was confirmed (44)", () => {
    let again = 0;
    for (let seed = 1; seed <= 6; seed++) {
      for (const share of [0, 0.5, 1]) {
        let more = true;
        for (let cut = 0; more; cut++) {
          const where = `seed ${seed}, cut after ${cut}, ${share} handled`;
          const client = new Client(serverOf(seed, 6));
          more = client.receive(cut, 0n, where);
          const random = seededRandom(cut);
          const positions = new Set([0n]);
          for (let i = client.queue.waiting.length * share; i >= 1; i--) {
            client.handle(Math.floor(random() * client.queue.waiting.length));
            client.check(where);
            positions.add(client.frontier.confirmed);
          }
          // A server that crashed may have forgotten the last ones: any of them.
          const all = [...positions];
          const from = all[Math.floor(random() * all.length)]!;
          again += client.queue.offered.length;
          client.receive(Infinity, from, where);
          client.finish(where);
        }
      }
    }
    assertGreater(again, 1000, "much came a second time");
  });

  test("at two messages, the second cut before, at and behind the first one (44)", () => {
    for (let seed = 1; seed <= 2; seed++) {
      let more = true;
      for (let first = 0; more; first++) {
        let moreAgain = true;
        for (let second = 0; moreAgain; second++) {
          const where = `seed ${seed}, cuts after ${first} and ${second}`;
          const client = new Client(serverOf(seed, 4));
          more = client.receive(first, 0n, where);
          moreAgain = client.receive(second, 0n, where);
          client.receive(Infinity, 0n, where);
          client.finish(where);
        }
      }
    }
  });

  test("at random, again and again, while events are handled in any order (44) (1) (3)", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = seededRandom(seed);
      const below = (n: number) => Math.floor(random() * n);
      const server = serverOf(seed, 15);
      const client = new Client(server);
      let confirmed = 0n;
      let more = true;
      while (more) {
        const where = `seed ${seed}`;
        more = client.receive(below(60), client.frontier.confirmed, where);
        for (let i = below(20); i > 0; i--) {
          client.handle(below(Math.min(client.queue.waiting.length, 5)));
          client.check(where);
          assert(client.frontier.confirmed >= confirmed, `went back: ${where}`);
          ({ confirmed } = client.frontier);
        }
      }
      client.finish(`seed ${seed}`);
    }
  });

  test("and a process that dies finds all that was not handled, and nothing before what was confirmed (1)", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = seededRandom(seed);
      const server = serverOf(seed, 10);
      const first = new Client(server);
      first.receive(Math.floor(random() * 120), 0n, `seed ${seed}`);
      for (let i = Math.floor(random() * 40); i > 0; i--) first.handle(0);
      const { confirmed } = first.frontier;
      const second = new Client(server, confirmed);
      for (const name of first.handled) second.handled.add(name);
      second.receive(Infinity, confirmed, `seed ${seed}`);
      const { expected } = server;
      const names = expected.filter(({ transaction }) => transaction.commitLsn >= confirmed);
      assertEquals(second.queue.offered, names.map(({ name }) => name), `seed ${seed}`);
      for (const { name } of expected) {
        assert(first.handled.has(name) || second.queue.offered.includes(name), `seed ${seed}`);
      }
    }
  });
});

test("another server, or a slot made anew, is begun from its own position, and nothing of it is left out (44)", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = seededRandom(seed);
    const client = new Client(serverOf(seed, 8));
    client.receive(Math.floor(random() * 100), 0n, `seed ${seed}`);
    const before = [...client.queue.waiting];
    // Its positions are lower, higher, or the very same.
    const start = [0x1000n, 0x1_0000_0000n, 0x9_0000_0000n][seed % 3]!;
    const server = new ModelServer(random, start).write(8, seed % 2 === 0);
    client.intake.restart(start);
    assertEquals(client.frontier.confirmed, start);
    const next = new Client(server, start);
    const offered = client.queue.offered.length;
    client.intake.connected();
    for (const arrival of server.connect(start)) feed(client.intake, arrival);
    next.receive(Infinity, start, `seed ${seed}`);
    assertEquals(client.queue.offered.slice(offered), next.queue.offered, `seed ${seed}`);
    // What is finished of the old one moves nothing.
    const { confirmed } = client.frontier;
    for (const { transaction } of before) client.frontier.handled(transaction);
    assertEquals(client.frontier.confirmed, confirmed, `seed ${seed}`);
    for (const entry of client.queue.waiting.splice(0).slice(before.length)) {
      client.frontier.handled(entry.transaction);
    }
    assertEquals(client.frontier.confirmed, server.walEnd, `seed ${seed}`);
  }
});

/** A whole client: real queues, a handler that takes its time, connections that are cut. */
class Consumer {
  readonly handled: string[] = [];
  readonly #random: () => number;
  readonly #server: ModelServer;
  readonly #where: string;

  constructor(server: ModelServer, seed: number) {
    this.#server = server;
    this.#random = seededRandom(seed + 1_000_000);
    this.#where = `seed ${seed}`;
  }

  /** One process's life. @param dies true where it ends without a word. @returns what it has confirmed */
  async live(
    confirmed: bigint,
    kind: "events" | "batches" | "pull",
    dies: boolean,
  ): Promise<bigint> {
    const frontier = new Frontier(confirmed);
    const hooks = {
      frontier,
      maxQueueBytes: 1 + this.#below(20_000),
      onSettled: () => {},
      onProgress: () => {},
    };
    const stop = new AbortController();
    const queue = kind === "pull" ? new TransactionQueue(hooks) : new Delivery({
      ...hooks,
      messageHandlers: new Map([["outbox", [(message) => this.#handle([message])]]]),
      handlers: kind === "events"
        ? [single((event) => this.#handle([event]))]
        : [batch((events) => this.#handle(events))],
      lanes: new LanePlan(1),
      batch: kind === "events" ? null : { maxEvents: 5, maxBytes: 5000, maxDelayMs: 3_600_000 },
      retry: ONCE,
      onFailure: "stop",
      logger: silentLogger,
      onRetry: () => {},
      random: this.#random,
    });
    const intake = new Intake(queue, frontier, null, prefixes);
    const running = queue.run(stop);
    const pulling = queue instanceof TransactionQueue ? this.#pull(queue) : Promise.resolve();
    if (dies) void this.#dieSoon(stop);
    const ended = () => dies && stop.signal.aborted;
    for (let whole = false; !whole && !ended();) {
      queue.release();
      whole = await this.#receive(intake, queue, frontier, ended);
      queue.hold();
      // What is in hand is finished between two connections.
      for (let i = this.#below(5); i > 0; i--) await setImmediate();
    }
    queue.release();
    if (!dies) {
      const settled = async () => {
        await queue.drained();
        while (frontier.unfinished > 0) await setImmediate();
      };
      await inTime(`all to be handled: ${this.#where}`, settled());
    }
    stop.abort();
    await inTime(`the end: ${this.#where}`, Promise.all([running, pulling]));
    return frontier.confirmed;
  }

  async #receive(
    intake: Intake,
    queue: EventQueue,
    frontier: Frontier,
    ended: () => boolean,
  ): Promise<boolean> {
    intake.connected();
    let messages = 10 + this.#below(100);
    for (const arrival of this.#server.connect(frontier.confirmed)) {
      if (messages-- === 0 || ended()) return false;
      feed(intake, arrival);
      await inTime(`room: ${this.#where}`, Promise.resolve(queue.room()));
    }
    return true;
  }

  async #pull(queue: TransactionQueue): Promise<void> {
    const acks: (() => void)[] = [];
    for (let part = await queue.next(); part !== null; part = await queue.next()) {
      await this.#handle(part.events);
      acks.push(part.ack);
      // In any order, some much later.
      while (acks.length > 0 && this.#random() < 0.6) {
        acks.splice(this.#below(acks.length), 1)[0]!();
      }
      if (acks.length > 3 || this.#random() < 0.5) { for (const ack of acks.splice(0)) ack(); }
      await setImmediate();
      for (const ack of acks.splice(0)) ack();
    }
  }

  async #handle(events: readonly (ChangeEvent | LogicalMessage)[]): Promise<void> {
    const choice = this.#random();
    if (choice < 0.1) await setImmediate();
    else if (choice < 0.5) await null;
    this.handled.push(...events.map(nameOf));
  }

  async #dieSoon(stop: AbortController): Promise<void> {
    for (let i = this.#below(100); i > 0; i--) await setImmediate();
    stop.abort();
  }

  #below(n: number): number {
    return Math.floor(this.#random() * n);
  }
}

for (const kind of ["events", "batches", "pull"] as const) {
  test(`cut connections alone hand out nothing twice and nothing out of order: ${kind} (44)`, async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const server = serverOf(seed, 20, kind !== "pull" && seed % 2 === 0);
      const consumer = new Consumer(server, seed);
      const confirmed = await consumer.live(0n, kind, false);
      assertEquals(consumer.handled, server.expected.map(({ name }) => name), `seed ${seed}`);
      assertEquals(confirmed, server.walEnd, `seed ${seed}`);
    }
  });

  test(`a process that dies loses nothing, and repeats what was not confirmed, in order: ${kind} (5)`, async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const server = serverOf(seed, 20, kind !== "pull" && seed % 2 === 0);
      const consumer = new Consumer(server, seed);
      let confirmed = 0n;
      for (let life = 0; life < 4; life++) {
        const next = await consumer.live(confirmed, kind, life < 3);
        assert(next >= confirmed, `seed ${seed}`);
        confirmed = next;
        consumer.handled.push("died");
      }
      const expected = server.expected.map(({ name }) => name);
      // Each life is a run of the expected events without a gap; together they leave none out.
      let reached = 0;
      for (
        const life of consumer.handled.join().split("died").map((names) =>
          names.replace(/^,|,$/g, "")
        )
      ) {
        if (life === "") continue;
        const names = life.split(",");
        const begin = expected.indexOf(names[0]!);
        assert(begin <= reached, `seed ${seed}: a gap before ${names[0]}`);
        assertEquals(names, expected.slice(begin, begin + names.length), `seed ${seed}`);
        reached = Math.max(reached, begin + names.length);
      }
      assertEquals(reached, expected.length, `seed ${seed}`);
    }
  });
}
