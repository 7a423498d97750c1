import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { statusIntervalMs } from "../../../src/replication/status_updates.ts";

test("status updates come three times within wal_sender_timeout, and every 10 s at least", () => {
  const known: [number, number][] = [
    [60_000, 10_000],
    [30_000, 10_000],
    [29_999, 9999],
    [5000, 1666],
    [2000, 666],
    [3, 1],
    [2_147_483_647, 10_000],
  ];
  for (const [timeoutMs, intervalMs] of known) {
    assertEquals(statusIntervalMs(timeoutMs), intervalMs);
  }
});

test("a server that never times out still hears from us", () => {
  assertEquals(statusIntervalMs(0), 10_000);
});

test("no timeout makes a timer that runs without pause", () => {
  for (let timeoutMs = 1; timeoutMs < 100; timeoutMs++) assert(statusIntervalMs(timeoutMs) >= 1);
});
