import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { Frontier } from "../../../src/delivery/frontier.ts";
import { PgStreamError } from "../../../src/errors.ts";
import { SlotError } from "../../../src/replication/errors.ts";
import type { SystemIdentity } from "../../../src/replication/server.ts";
import { type Continuation, continueAt } from "../../../src/stream/continuation.ts";
import { isSlotLost, type KnownSystem } from "../../../src/stream/position.ts";

interface Situation {
  /** The slot's position. */
  slot: bigint;
  /** What the stream has handled; null: it has not been connected yet. */
  handled: bigint | null;
  wal?: bigint;
  known?: KnownSystem | null;
  failover?: boolean;
  shared?: boolean;
  /** How far a standby has come. */
  replayed?: bigint | null;
}

const HERE: KnownSystem = { systemId: "7", timeline: 1 };

function decide(
  { slot, handled, wal = 1000n, known = HERE, failover = false, shared = false, replayed = null }:
    Situation,
): Continuation {
  const identity = { ...HERE, walLsn: wal, databaseName: "db" } as unknown as SystemIdentity;
  const frontier = handled === null ? null : new Frontier(handled);
  const found = { slotName: "docs", identity, confirmedLsn: slot, failover, replayedLsn: replayed };
  return continueAt(found, known, frontier, shared);
}

describe("goes on", () => {
  const cases: [string, Situation, Continuation][] = [
    [
      "at the slot's position, the first time",
      { slot: 100n, handled: null, known: null },
      { startLsn: 100n, queued: "finish" },
    ],
    [
      "at the slot's position, the first time of another run",
      { slot: 100n, handled: null },
      { startLsn: 100n, queued: "finish" },
    ],
    [
      "at what is handled, which is what was confirmed",
      { slot: 100n, handled: 100n },
      { startLsn: 100n, queued: "keep" },
    ],
    [
      "at what is handled, though the server has forgotten it (9)",
      { slot: 40n, handled: 100n },
      { startLsn: 100n, queued: "keep" },
    ],
    [
      "at the very end of the server's WAL",
      { slot: 1000n, handled: 1000n, wal: 1000n },
      { startLsn: 1000n, queued: "keep" },
    ],
    [
      "at what is handled, though a standby was restarted and has not come there again",
      { slot: 40n, handled: 100n, wal: 60n, replayed: 60n },
      { startLsn: 100n, queued: "keep" },
    ],
    [
      "at LSNs beyond 2^53",
      { slot: 2n ** 63n, handled: 2n ** 63n + 1n, wal: 2n ** 64n - 1n },
      { startLsn: 2n ** 63n + 1n, queued: "keep" },
    ],
    [
      "where another consumer has come meanwhile, in turns",
      { slot: 200n, handled: 100n, shared: true },
      { startLsn: 200n, queued: "drop" },
    ],
    [
      "where nobody has come meanwhile, though there are turns",
      { slot: 100n, handled: 100n, shared: true },
      { startLsn: 100n, queued: "keep" },
    ],
    [
      "where one's own handlers went on meanwhile, though there are turns",
      { slot: 100n, handled: 150n, shared: true },
      { startLsn: 150n, queued: "keep" },
    ],
    [
      "at the slot's position on a promoted standby, ahead of it or not (12)",
      { slot: 80n, handled: 100n, known: { ...HERE, timeline: 0 }, failover: true },
      { startLsn: 80n, queued: "finish" },
    ],
    [
      "at the slot's position on a promoted standby, behind it or not (12)",
      { slot: 120n, handled: 100n, known: { ...HERE, timeline: 0 }, failover: true },
      { startLsn: 120n, queued: "finish" },
    ],
    [
      "on a promoted standby in another run",
      { slot: 120n, handled: null, known: { ...HERE, timeline: 0 }, failover: true },
      { startLsn: 120n, queued: "finish" },
    ],
  ];
  for (const [how, situation, expected] of cases) {
    test(how, () => assertEquals(decide(situation), expected));
  }
});

describe("refuses", () => {
  const other = { ...HERE, systemId: "8" };
  const earlier = { ...HERE, timeline: 0 };
  const cases: [string, Situation, kind: string, names: string[]][] = [
    ["another server (47)", { slot: 1n, handled: 1n, known: other }, "system-changed", ["7", "8"]],
    [
      "another server, whatever else is wrong or allowed (47)",
      { slot: 9n, handled: 1n, known: { ...other, timeline: 0 }, failover: true, shared: true },
      "system-changed",
      ["7", "8"],
    ],
    [
      "another server in another run (47)",
      { slot: 1n, handled: null, known: other },
      "system-changed",
      ["7", "8"],
    ],
    [
      "another timeline, where the slot is not one that outlives a fail-over (47)",
      { slot: 1n, handled: 1n, known: earlier },
      "timeline-changed",
      ["0", "1"],
    ],
    [
      "another timeline in another run, though there are turns (47)",
      { slot: 1n, handled: null, known: earlier, shared: true },
      "timeline-changed",
      ["0", "1"],
    ],
    [
      "a slot that is further than what was ever confirmed (12)",
      { slot: 0x65n, handled: 0x64n },
      "slot-moved",
      ["0/65", "0/64"],
    ],
    [
      "a server whose WAL ends before what is handled (4)",
      { slot: 0x10n, handled: 0x65n, wal: 0x64n },
      "lsn-beyond-server",
      ["0/65", "0/64"],
    ],
  ];
  for (const [what, situation, kind, names] of cases) {
    test(what, () => {
      const error = assertThrows(() => decide(situation), SlotError, 'Slot "docs"');
      assertEquals([error.kind, error.slotName], [kind, "docs"]);
      for (const name of names) assert(error.message.includes(name), error.message);
      assert(error.hint!.includes("onSlotLost"), "the way out");
      assertEquals(error.retryable, false);
      assert(isSlotLost(error), "a slot that is made anew is a way out");
    });
  }
});

test("a slot is lost where changes may be, and not where it is only out of reach", () => {
  const lost = (kind: string) => isSlotLost(new SlotError("x", { kind, slotName: "docs" }));
  for (const kind of ["slot-missing", "slot-lost", "slot-moved"]) assert(lost(kind), kind);
  for (const kind of ["slot-in-use", "slot-plugin", "slot-database", "slot-two-phase"]) {
    assert(!lost(kind), kind);
  }
  assert(!isSlotLost(new PgStreamError("x", { kind: "slot-lost" })));
  assert(!isSlotLost(new Error("slot-lost")));
  assert(!isSlotLost(undefined));
});
