import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { emptyStatus } from "../../../src/stream/status.ts";

test("the status of a stream that never ran says so, and survives JSON", () => {
  const status = emptyStatus();
  assertEquals(status.state, "idle");
  assertEquals([status.receivedLsn, status.confirmedLsn], ["0/0", "0/0"]);
  assertEquals(status.events, { insert: 0, update: 0, delete: 0, truncate: 0 });
  assertEquals(JSON.parse(JSON.stringify(status)), status);
});

test("two streams do not count into one another's status", () => {
  const [one, other] = [emptyStatus(), emptyStatus()];
  one.events.insert++;
  one.transactions++;
  assertEquals(other, emptyStatus());
});
