import { assert, assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { SlotError } from "../../../src/replication/errors.ts";
import { checkSlotName } from "../../../src/replication/names.ts";
import { checkSlot, slotNameTaken } from "../../../src/replication/slot_check.ts";
import type { Slot } from "../../../src/replication/slot_state.ts";

const GOOD: Slot = {
  plugin: "pgoutput",
  database: "app",
  activePid: null,
  temporary: false,
  twoPhase: false,
  failover: false,
  copy: false,
  confirmedFlushLsn: 1n,
  creating: false,
  invalidated: null,
};

function refusalOf(slot: Partial<Slot>): SlotError {
  return assertThrows(() => checkSlot("docs", { ...GOOD, ...slot }, "app"), SlotError);
}

test("a slot's name is what the server takes: 1 to 63 of a–z, 0–9 and _", () => {
  for (const name of ["a", "0", "_", "pgstream", "docs_2", "a".repeat(63)]) checkSlotName(name);
});

test("any other slot name is refused before there is a connection, and can inject nothing", () => {
  const names = ["", "a".repeat(64), "Docs", "my-slot", "a b", "a\n", "\na", "a.b", "ä", "a\0"];
  for (const name of [...names, 'a"; SELECT 1', "a' OR '", "a;", "１"]) {
    const error = assertThrows(() => checkSlotName(name), SlotError, JSON.stringify(name));
    assertEquals([error.kind, error.slotName], ["slot-name", name]);
    assert(error.hint!.includes("63"), error.hint);
  }
});

test("a slot of ours passes, whether or not somebody streams from it", () => {
  checkSlot("docs", GOOD, "app");
  checkSlot("docs", { ...GOOD, activePid: 4711 }, "app");
});

test("a slot of another plugin, or a physical one, is named and not touched", () => {
  const plugin = refusalOf({ plugin: "wal2json" });
  assertEquals(plugin.kind, "slot-plugin");
  assert(plugin.message.includes('"docs"') && plugin.message.includes('"wal2json"'));
  const physical = refusalOf({ plugin: null, database: null, confirmedFlushLsn: null });
  assertEquals(physical.kind, "slot-plugin");
  assert(physical.message.includes("physical"), physical.message);
});

test("a slot of another database is named with both databases", () => {
  const error = refusalOf({ database: "App" });
  assertEquals(error.kind, "slot-database");
  assert(error.message.includes('"App"') && error.message.includes('"app"'), error.message);
});

test("a two-phase slot is refused: prepared transactions would be skipped", () => {
  assertEquals(refusalOf({ twoPhase: true }).kind, "slot-two-phase");
});

test("an invalidated slot says why, and that changes are gone", () => {
  for (const reason of ["wal_removed", "idle_timeout", "conflict"]) {
    const error = refusalOf({ invalidated: reason });
    assertEquals(error.kind, "slot-lost");
    assert(error.message.includes(reason) && error.message.includes("gone"), error.message);
  }
});

test("each refusal names the slot and gives a statement to run; none is worth a retry", () => {
  const troubles: Partial<Slot>[] = [
    { plugin: "wal2json" },
    { plugin: null, database: null },
    { database: "other" },
    { twoPhase: true },
    { invalidated: "wal_removed" },
  ];
  for (const trouble of troubles) {
    const error = refusalOf(trouble);
    assertEquals([error.slotName, error.retryable], ["docs", false]);
    assert(error.message.includes('"docs"'), error.message);
    assert(error.hint!.includes("pg_drop_replication_slot('docs')"), error.hint);
  }
});

test("a slot that goes with somebody else's session is told from one that stays, and may be free soon", () => {
  const error = refusalOf({ temporary: true, activePid: 4711 });
  assertEquals([error.kind, error.activePid, error.retryable], ["slot-in-use", 4711, true]);
  assert(error.message.includes("temporary") && error.message.includes("4711"), error.message);
});

test("a temporary slot takes nobody's name: a lasting one has to go first, others are waited for", () => {
  const lasting = slotNameTaken("docs", GOOD);
  assertEquals([lasting.kind, lasting.retryable], ["slot-exists", false]);
  assert(lasting.message.includes('"docs"') && lasting.hint!.includes("slotName"), lasting.message);
  const passing: (Partial<Slot> | null)[] = [
    { temporary: true, activePid: 4711 },
    { creating: true, activePid: 4711 },
    null,
  ];
  for (const slot of passing) {
    const error = slotNameTaken("docs", slot && { ...GOOD, ...slot });
    assertEquals([error.kind, error.retryable], ["slot-in-use", true]);
    assertEquals(error.activePid, slot?.activePid ?? undefined);
    assert(!error.message.includes("undefined"), error.message);
  }
});

test("a standby's copy of a slot is no slot yet, and may be one soon", () => {
  const error = refusalOf({ copy: true, failover: true });
  assertEquals([error.kind, error.slotName, error.retryable], ["slot-standby", "docs", true]);
});
