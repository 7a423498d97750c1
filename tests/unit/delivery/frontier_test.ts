import { assert, assertEquals, assertGreaterOrEqual, assertLess } from "@std/assert";
import { describe, test } from "node:test";
import { Frontier, type TrackedTransaction } from "../../../src/delivery/frontier.ts";
import { heapBytes } from "../../support/collect_garbage.ts";
import { seededRandom } from "../../support/random.ts";

/** A transaction with this many events, received whole, none of them handled. */
function receive(frontier: Frontier, endLsn: bigint, events: number): TrackedTransaction {
  const transaction = frontier.begin();
  for (let event = 0; event < events; event++) frontier.expect(transaction);
  frontier.commit(transaction, endLsn);
  return transaction;
}

describe("what is confirmed", () => {
  test("the commit's end, once its events are handled, and nothing before (1)", () => {
    const frontier = new Frontier(100n);
    const transaction = receive(frontier, 200n, 2);
    assertEquals(frontier.confirmed, 100n);
    frontier.handled(transaction);
    assertEquals(frontier.confirmed, 100n);
    frontier.handled(transaction);
    assertEquals(frontier.confirmed, 200n);
  });

  test("nothing of a transaction whose events are handled before its Commit was read", () => {
    const frontier = new Frontier(100n);
    const transaction = frontier.begin();
    frontier.expect(transaction);
    frontier.handled(transaction);
    assertEquals(frontier.confirmed, 100n);
    frontier.expect(transaction);
    frontier.commit(transaction, 200n);
    assertEquals(frontier.confirmed, 100n, "its last event is not handled yet");
    frontier.handled(transaction);
    assertEquals(frontier.confirmed, 200n);
  });

  test("a later transaction that is done first waits for the one before it", () => {
    const frontier = new Frontier(0n);
    const [first, second, third] = [1n, 2n, 3n].map((lsn) => receive(frontier, lsn, 1));
    frontier.handled(third!);
    frontier.handled(second!);
    assertEquals(frontier.confirmed, 0n);
    frontier.handled(first!);
    assertEquals(frontier.confirmed, 3n);
  });

  test("a transaction without watched rows is confirmed when nothing before it is pending", () => {
    const frontier = new Frontier(0n);
    receive(frontier, 10n, 0);
    assertEquals(frontier.confirmed, 10n);
    const pending = receive(frontier, 20n, 1);
    receive(frontier, 30n, 0);
    assertEquals(frontier.confirmed, 10n);
    frontier.handled(pending);
    assertEquals(frontier.confirmed, 30n);
  });

  test("what the server has already is never taken back (3)", () => {
    const frontier = new Frontier(1000n);
    receive(frontier, 900n, 0);
    frontier.keepalive(950n);
    frontier.handled(receive(frontier, 999n, 1));
    assertEquals(frontier.confirmed, 1000n);
  });

  test("LSNs beyond 2^53 are told apart", () => {
    const frontier = new Frontier(2n ** 63n);
    frontier.handled(receive(frontier, 2n ** 63n + 1n, 1));
    assertEquals(frontier.confirmed, 2n ** 63n + 1n);
  });
});

describe("a keepalive", () => {
  test("moves an idle stream on (6)", () => {
    const frontier = new Frontier(0n);
    frontier.keepalive(500n);
    assertEquals(frontier.confirmed, 500n);
  });

  test("confirms nothing while an event waits (5)", () => {
    const frontier = new Frontier(0n);
    const pending = receive(frontier, 10n, 1);
    for (let walEnd = 20n; walEnd < 120n; walEnd++) frontier.keepalive(walEnd);
    assertEquals(frontier.confirmed, 0n);
    frontier.handled(pending);
    assertEquals(frontier.confirmed, 119n);
  });

  test("confirms nothing in the middle of a transaction, handled as far as it came or not", () => {
    const frontier = new Frontier(0n);
    const open = frontier.begin();
    frontier.keepalive(50n);
    frontier.expect(open);
    frontier.handled(open);
    frontier.keepalive(60n);
    assertEquals(frontier.confirmed, 0n);
    frontier.commit(open, 40n);
    assertEquals(frontier.confirmed, 60n);
  });

  test("between two transactions confirms neither of them", () => {
    const frontier = new Frontier(0n);
    const first = receive(frontier, 10n, 1);
    frontier.keepalive(20n);
    const second = receive(frontier, 30n, 1);
    frontier.keepalive(40n);
    frontier.handled(second);
    assertEquals(frontier.confirmed, 0n);
    frontier.handled(first);
    assertEquals(frontier.confirmed, 40n);

    const third = receive(frontier, 50n, 1);
    frontier.keepalive(60n);
    receive(frontier, 70n, 1);
    frontier.handled(third);
    assertEquals(frontier.confirmed, 60n, "the one behind the keepalive is pending");
  });

  test("older than the line's end takes nothing away from it", () => {
    const frontier = new Frontier(0n);
    const first = receive(frontier, 10n, 1);
    frontier.handled(receive(frontier, 100n, 1));
    frontier.keepalive(50n);
    frontier.handled(first);
    assertEquals(frontier.confirmed, 100n);
  });
});

describe("what will be confirmed once events are handled that are in hand", () => {
  test("is the end of the last transaction that is whole then, with nothing unfinished before it", () => {
    const frontier = new Frontier(0n);
    const [a, b] = [receive(frontier, 100n, 1), receive(frontier, 200n, 2)];
    const open = frontier.begin();
    frontier.expect(open);
    assertEquals(frontier.after(new Map()), 0n);
    assertEquals(frontier.after(new Map([[a, 1]])), 100n);
    assertEquals(frontier.after(new Map([[a, 1], [b, 1]])), 100n);
    assertEquals(frontier.after(new Map([[a, 1], [b, 2]])), 200n);
    assertEquals(frontier.after(new Map([[b, 2]])), 0n);
    // Its Commit was not read yet.
    assertEquals(frontier.after(new Map([[a, 1], [b, 2], [open, 1]])), 200n);
    frontier.commit(open, 300n);
    assertEquals(frontier.after(new Map([[a, 1], [b, 2], [open, 1]])), 300n);
    assertEquals(frontier.confirmed, 0n);
    // Nor what holds it back beside its events.
    frontier.expect(a);
    assertEquals(frontier.after(new Map([[a, 1], [b, 2], [open, 1]])), 0n);
  });
});

test("events may be handled several at once", () => {
  const frontier = new Frontier(0n);
  const transaction = receive(frontier, 10n, 5);
  frontier.handled(transaction, 2);
  frontier.handled(transaction, 0);
  assertEquals(frontier.confirmed, 0n);
  frontier.handled(transaction, 3);
  assertEquals(frontier.confirmed, 10n);
});

describe("a restart", () => {
  test("forgets what is unfinished, and goes on where it is told, lower or higher", () => {
    for (const position of [0n, 5n, 1000n]) {
      const frontier = new Frontier(0n);
      frontier.handled(receive(frontier, 10n, 1));
      const [half, open] = [receive(frontier, 20n, 2), frontier.begin()];
      frontier.keepalive(30n);
      frontier.restart(position);
      assertEquals([frontier.confirmed, frontier.unfinished], [position, 0]);
      // Handlers may still be busy with what is forgotten.
      frontier.handled(half, 2);
      frontier.commit(open, 40n);
      assertEquals([frontier.confirmed, frontier.unfinished], [position, 0]);
      frontier.handled(receive(frontier, position + 7n, 1));
      assertEquals(frontier.confirmed, position + 7n);
      assertEquals(frontier.transactions, 2, "the forgotten one was never handled whole");
    }
  });
});

test("the oldest commit of which something is left is known, and no keepalive is one", () => {
  const frontier = new Frontier(0n);
  const begin = (commitTimeMs: number, endLsn: bigint) => {
    const transaction = frontier.begin(commitTimeMs);
    frontier.expect(transaction);
    frontier.commit(transaction, endLsn);
    return transaction;
  };
  frontier.keepalive(1n);
  assertEquals(frontier.oldestCommitTimeMs, null);
  const [first, second] = [begin(100, 10n), begin(50, 20n)];
  frontier.keepalive(30n);
  assertEquals(frontier.oldestCommitTimeMs, 100, "in commit order, whatever the clock said");
  frontier.handled(second);
  assertEquals(frontier.oldestCommitTimeMs, 100);
  frontier.handled(first);
  assertEquals(frontier.oldestCommitTimeMs, null);
  begin(200, 40n);
  assertEquals(frontier.oldestCommitTimeMs, 200);
  frontier.restart(0n);
  assertEquals(frontier.oldestCommitTimeMs, null);
});

test("only transactions that gave the handler something are counted", () => {
  const frontier = new Frontier(0n);
  receive(frontier, 10n, 0);
  frontier.keepalive(20n);
  assertEquals(frontier.transactions, 0);
  const first = receive(frontier, 30n, 1);
  const second = receive(frontier, 40n, 2);
  receive(frontier, 50n, 0);
  frontier.keepalive(60n);
  frontier.handled(second);
  frontier.handled(second);
  assertEquals(frontier.transactions, 0, "the first one still holds it back");
  frontier.handled(first);
  assertEquals(frontier.transactions, 2);
  assertEquals(frontier.unfinished, 0);
});

/** The promise, word for word: keeps everything for ever and looks at all of it each time. */
class Model {
  readonly line: {
    transaction: TrackedTransaction | null;
    endLsn: bigint | null;
    events: number;
    pending: number;
  }[] = [];
  readonly start: bigint;

  constructor(start: bigint) {
    this.start = start;
  }

  get confirmed(): bigint {
    let confirmed = this.start;
    for (const { endLsn, pending } of this.line) {
      if (endLsn === null || pending > 0) break;
      if (endLsn > confirmed) confirmed = endLsn;
    }
    return confirmed;
  }

  get transactions(): number {
    const first = this.line.findIndex(({ endLsn, pending }) => endLsn === null || pending > 0);
    return this.line.slice(0, first === -1 ? undefined : first).filter(({ events }) => events > 0)
      .length;
  }
}

/** One random history: `openAtOnce` is 1 for protocol 1, where transactions do not interleave. */
function compareWithModel(seed: number, openAtOnce: number): void {
  const random = seededRandom(seed);
  const below = (n: number) => Math.floor(random() * n);
  const start = BigInt(below(50));
  const frontier = new Frontier(start);
  const model = new Model(start);
  const where = (step: number) => `seed ${seed}, openAtOnce ${openAtOnce}, step ${step}`;
  let lsn = BigInt(below(50));
  let before = frontier.confirmed;
  // Some histories have a handler that keeps up, some one that is far behind.
  const eagerness = random();

  const check = (step: number) => {
    assertGreaterOrEqual(frontier.confirmed, before, `went back: ${where(step)}`);
    assertEquals(frontier.confirmed, model.confirmed, where(step));
    assertEquals(frontier.transactions, model.transactions, where(step));
    before = frontier.confirmed;
  };
  const open = () => model.line.filter(({ endLsn }) => endLsn === null);
  const handleOne = () => {
    const waiting = model.line.filter(({ pending }) => pending > 0);
    const entry = waiting[below(waiting.length)];
    if (entry === undefined) return;
    entry.pending--;
    frontier.handled(entry.transaction!);
  };

  for (let step = 0; step < 300; step++) {
    const entry = open()[below(openAtOnce)];
    if (random() < eagerness / 2) handleOne();
    else if (random() < 0.2) {
      // Now and then it repeats, or is older than, what came before it.
      const walEnd = lsn + BigInt(below(20) - 5);
      model.line.push({ transaction: null, endLsn: walEnd, events: 0, pending: 0 });
      frontier.keepalive(walEnd);
    } else if (open().length < openAtOnce && random() < 0.5) {
      const transaction = frontier.begin();
      model.line.push({ transaction, endLsn: null, events: 0, pending: 0 });
    } else if (entry !== undefined && random() < 0.6) {
      entry.events++;
      entry.pending++;
      frontier.expect(entry.transaction!);
    } else if (entry !== undefined) {
      lsn += BigInt(1 + below(10));
      entry.endLsn = lsn;
      frontier.commit(entry.transaction!, lsn);
    }
    check(step);
  }
  for (const entry of open()) {
    lsn += 1n;
    entry.endLsn = lsn;
    frontier.commit(entry.transaction!, lsn);
    check(300);
  }
  while (model.line.some(({ pending }) => pending > 0)) {
    handleOne();
    check(301);
  }
  const highest = model.line.reduce((max, { endLsn }) => endLsn! > max ? endLsn! : max, start);
  assertEquals(frontier.confirmed, highest, `all is done: ${where(302)}`);
  assertEquals(frontier.unfinished, 0, where(302));
}

test("no random history confirms more, or less, than what is handled", () => {
  for (let seed = 1; seed <= 300; seed++) compareWithModel(seed, 1);
});

test("nor where transactions are open side by side", () => {
  for (let seed = 1; seed <= 300; seed++) compareWithModel(seed, 4);
});

describe("a long life", () => {
  const COUNT = 1_000_000;

  /** A million transactions through a window of `window` unfinished ones. Milliseconds. */
  function pass(window: number): number {
    const frontier = new Frontier(0n);
    const waiting: TrackedTransaction[] = new Array(window);
    const began = performance.now();
    for (let i = 0; i < COUNT; i++) {
      if (i >= window) frontier.handled(waiting[i % window]!);
      waiting[i % window] = receive(frontier, BigInt(i + 1), 1);
    }
    assertEquals(frontier.confirmed, BigInt(COUNT - window));
    assertEquals(frontier.unfinished, window);
    return performance.now() - began;
  }

  test("a million transactions cost the same however many are in flight", () => {
    pass(1);
    const [few, many] = [pass(10), pass(20_000)];
    // A step whose cost grew with what is in flight would make it thousands of times slower.
    assertLess(many, few * 20 + 1000);
  });

  test("a million handled transactions leave nothing in memory", async () => {
    const frontier = new Frontier(0n);
    const before = await heapBytes();
    for (let i = 1; i <= COUNT; i++) frontier.handled(receive(frontier, BigInt(i), 1));
    const grown = await heapBytes() - before;
    assert(grown < 4_000_000, `${grown} bytes more`);
    assertEquals(frontier.confirmed, BigInt(COUNT));
  });

  test("a handler that hangs gathers no keepalives and no transactions of unwatched tables", () => {
    const frontier = new Frontier(0n);
    const stuck = receive(frontier, 1n, 1);
    for (let lsn = 2n; lsn <= 100_000n; lsn++) {
      receive(frontier, lsn, 0);
      frontier.keepalive(lsn);
    }
    assertLess(frontier.unfinished, 10);
    assertEquals(frontier.confirmed, 0n);
    frontier.handled(stuck);
    assertEquals(frontier.confirmed, 100_000n);
    assertEquals(frontier.transactions, 1);
  });
});
