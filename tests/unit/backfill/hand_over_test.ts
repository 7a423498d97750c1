import { assertEquals, assertStrictEquals } from "@std/assert";
import { describe, test } from "node:test";
import { HandOver, type Window } from "../../../src/backfill/hand_over.ts";
import { parseSnapshot } from "../../../src/backfill/snapshot.ts";
import type { ChangeEvent } from "../../../src/change.ts";
import { Frontier, type TrackedTransaction } from "../../../src/delivery/frontier.ts";
import { deleteOf, DOCUMENTS, insertOf, truncateOf, updateOf } from "../delivery/harness.ts";

const { name } = DOCUMENTS;

/** A hand-over that follows one table, and the transactions that pass it. */
class Passing {
  readonly frontier = new Frontier(0n);
  readonly handOver = new HandOver(this.frontier);

  constructor() {
    this.handOver.follow(name);
  }

  /** Lets a transaction pass, whose commit record is at `lsn`. */
  pass(xid: number, lsn: bigint, ...events: ChangeEvent[]): TrackedTransaction {
    const transaction = this.frontier.begin();
    this.handOver.begin(transaction, xid, lsn);
    for (const event of events) this.handOver.event(event, DOCUMENTS);
    this.frontier.commit(transaction, lsn + 8n);
    return transaction;
  }

  open(snapshot: string, lsn: bigint): Window | null {
    this.handOver.pause();
    return this.handOver.open(name, parseSnapshot(snapshot), lsn);
  }

  /** As on a standby, which had replayed up to `replayed` before the snapshot. */
  openReplayed(replayed: bigint, lsn: bigint): Window | null {
    this.handOver.pause();
    return this.handOver.open(name, { replayed }, lsn);
  }
}

/** What a promise has come to by now; null: to nothing yet. */
async function settled(promise: Promise<unknown>): Promise<unknown> {
  const later = new Promise((resolve) => setTimeout(() => resolve(null), 0));
  return await Promise.race([promise.then((value) => value ?? "settled"), later]);
}

describe("the place of a chunk in the stream:", () => {
  test("without a chunk nothing is held back", () => {
    assertStrictEquals(new HandOver(new Frontier(0n)).gate(1n), null);
  });

  test("while its snapshot is taken, no transaction is handed out", async () => {
    const { handOver } = new Passing();
    handOver.pause();
    const gate = handOver.gate(1n)!;
    assertEquals(await settled(gate), null);
    handOver.abandon();
    assertEquals(await settled(gate), "settled");
    assertStrictEquals(handOver.gate(1n), null);
  });

  test("what commits before it goes before it, the rest waits until it is queued", async () => {
    const passing = new Passing();
    const window = passing.open("10:10:", 100n)!;
    assertStrictEquals(passing.handOver.gate(99n), null);
    assertEquals(await settled(window.arrived), null);
    const gate = passing.handOver.gate(100n)!;
    assertEquals(await settled(window.arrived), true);
    assertEquals(await settled(gate), null);
    passing.handOver.close(window);
    assertEquals(await settled(gate), "settled");
    assertStrictEquals(passing.handOver.gate(100n), null);
  });

  test("on a quiet server it is reached by the position of a keepalive", async () => {
    const passing = new Passing();
    const window = passing.open("10:10:", 100n)!;
    passing.handOver.reached(99n);
    assertEquals(await settled(window.arrived), null);
    passing.handOver.reached(100n);
    assertEquals(await settled(window.arrived), true);
  });

  test("a snapshot that does not show what was handed out is no place (39)", () => {
    const passing = new Passing();
    passing.pass(10, 50n, insertOf("a"));
    assertStrictEquals(passing.open("10:10:", 100n), null);
    assertStrictEquals(passing.open("10:12:10", 100n), null);
    assertEquals(passing.open("11:11:", 100n)?.lsn, 100n);
  });

  test("what was handed out before the table was followed is not known: its writers are waited for", () => {
    const passing = new Passing();
    passing.handOver.unfollow(name);
    passing.pass(10, 50n, insertOf("a"));
    passing.handOver.follow(name);
    assertEquals(passing.open("10:10:", 100n)?.lsn, 100n);
  });

  test("a stream that is lost voids it, unless it had come there", async () => {
    const early = new Passing();
    const before = early.open("10:10:", 100n)!;
    early.handOver.lose();
    assertEquals(await settled(before.arrived), false);
    assertStrictEquals(early.handOver.gate(200n), null);

    const late = new Passing();
    const after = late.open("10:10:", 100n)!;
    late.handOver.reached(100n);
    late.handOver.lose();
    assertEquals(await settled(after.arrived), true);
    assertEquals(await settled(late.handOver.gate(200n)!), null);
  });

  test("a snapshot that was on its way when the stream was lost is no place", () => {
    const { handOver } = new Passing();
    handOver.pause();
    handOver.lose();
    assertStrictEquals(handOver.open(name, parseSnapshot("10:10:"), 100n), null);
  });
});

describe("rows of a chunk that are stale are left out:", () => {
  test("keys that a transaction touched which commits before it and is not shown", () => {
    const passing = new Passing();
    const window = passing.open("10:12:10", 100n)!;
    passing.pass(9, 50n, updateOf("shown"));
    passing.pass(10, 60n, updateOf("hidden"), deleteOf("deleted"), updateOf("to", "from"));
    passing.pass(12, 70n, insertOf("later"));
    const current = ["shown", "hidden", "deleted", "to", "from", "later", "other"]
      .filter((key) => window.isCurrent(key));
    assertEquals(current, ["shown", "other"]);
  });

  test("all of them, where such a transaction emptied the table", () => {
    const passing = new Passing();
    const window = passing.open("10:12:10", 100n)!;
    passing.pass(10, 60n, truncateOf());
    assertEquals(window.isCurrent("any"), false);
  });

  test("none, where it changed another table", () => {
    const passing = new Passing();
    const other = { ...name, table: "other" };
    passing.handOver.follow(other);
    const window = passing.open("10:12:10", 100n)!;
    const transaction = passing.frontier.begin();
    passing.handOver.begin(transaction, 10, 60n);
    passing.handOver.event(updateOf("a"), { ...DOCUMENTS, name: other });
    assertEquals(window.isCurrent("a"), true);
  });

  test("it is told that some are, for who would take back with a truncate event what stands in for them", () => {
    const passing = new Passing();
    const window = passing.open("10:12:10", 100n)!;
    passing.pass(9, 50n, updateOf("shown"));
    assertEquals(window.isTouched, false);
    passing.pass(10, 60n, updateOf("hidden"));
    assertEquals(window.isTouched, true);
    const other = new Passing();
    const emptied = other.open("10:12:10", 100n)!;
    other.pass(10, 60n, truncateOf());
    assertEquals(emptied.isTouched, true);
  });

  test("it is read anew where changes do not tell their key, or are too many to remember", () => {
    const unkeyed = new Passing();
    const window = unkeyed.open("10:12:10", 100n)!;
    unkeyed.handOver.begin(unkeyed.frontier.begin(), 10, 60n);
    unkeyed.handOver.event(updateOf("a"), { ...DOCUMENTS, keyed: false });
    assertEquals(window.spoilt, true);

    const many = new Passing();
    const large = many.open("10:12:10", 100n)!;
    many.pass(10, 60n, ...Array.from({ length: 10_001 }, (_, id) => insertOf(`${id}`)));
    assertEquals(large.spoilt, true);
  });
});

describe("keys are read again", () => {
  const partial = { unchanged: ["body"] };

  test("whose unchanged values nobody was given: moved ones, and those that were left out", () => {
    const passing = new Passing();
    passing.pass(8, 10n, updateOf("plain", null, partial));
    passing.pass(9, 20n, updateOf("moved", "before", partial));
    passing.pass(9, 30n, updateOf("moved whole", "before"));
    passing.open("10:12:10", 100n);
    passing.pass(10, 60n, updateOf("left out", null, partial), updateOf("left out whole"));
    assertEquals(passing.handOver.take(name, 10).map(([key]) => key), ["moved", "left out"]);
    assertEquals(passing.handOver.take(name, 10), []);
  });

  test("before their transaction is confirmed, or a crash would lose them", () => {
    const passing = new Passing();
    passing.pass(9, 20n, updateOf("moved", "before", partial), updateOf("moved", "x", partial));
    assertEquals(passing.frontier.confirmed, 0n);
    const taken = passing.handOver.take(name, 10);
    assertEquals(passing.frontier.confirmed, 0n);
    passing.handOver.done(taken);
    assertEquals(passing.frontier.confirmed, 28n);
  });

  test("once more, where reading them failed, though the same ones came again meanwhile", () => {
    const passing = new Passing();
    passing.pass(9, 20n, updateOf("moved", "before", partial));
    const taken = passing.handOver.take(name, 10);
    passing.pass(9, 30n, updateOf("moved", "before", partial));
    passing.handOver.putBack(name, taken);
    const again = passing.handOver.take(name, 10);
    assertEquals(again.map(([key]) => key), ["moved"]);
    passing.handOver.done(again);
    assertEquals(passing.frontier.confirmed, 38n);
  });

  test("no more, where the table is done with: nothing stays unconfirmed", () => {
    const passing = new Passing();
    passing.pass(9, 20n, updateOf("moved", "before", partial));
    passing.handOver.unfollow(name);
    assertEquals(passing.frontier.confirmed, 28n);
  });
});

describe("on a standby", () => {
  test("what was handed out before the snapshot was replayed before it: it is shown", () => {
    const passing = new Passing();
    passing.pass(10, 50n, insertOf("a"));
    assertEquals(passing.openReplayed(40n, 100n)?.lsn, 100n);
    // And is no trouble for a snapshot after the promotion, though that does not know better.
    passing.handOver.abandon();
    assertEquals(passing.open("10:10:", 100n)?.lsn, 100n);
  });

  test("rows are left out that were changed by what it may not show: all that commits from there on", () => {
    const passing = new Passing();
    const window = passing.openReplayed(60n, 100n)!;
    passing.pass(13, 59n, updateOf("shown"));
    passing.pass(11, 60n, updateOf("unknown"));
    passing.pass(12, 99n, deleteOf("hidden"));
    assertEquals(["shown", "unknown", "hidden"].map((key) => window.isCurrent(key)), [
      true,
      false,
      false,
    ]);
  });

  test("values that a change did not tell are read again, where its row is left out", () => {
    const passing = new Passing();
    const window = passing.openReplayed(60n, 100n)!;
    passing.pass(11, 60n, updateOf("a", null, { unchanged: ["body"] }));
    passing.handOver.close(window);
    assertEquals(passing.handOver.take(name, 10).map(([key]) => key), ["a"]);
  });
});
