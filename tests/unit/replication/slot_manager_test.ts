import { assert, assertEquals, assertInstanceOf, assertStringIncludes } from "@std/assert";
import { test } from "node:test";
import { PgStreamError } from "../../../src/errors.ts";
import { SlotManager, type SlotManagerOptions } from "../../../src/replication/slot_manager.ts";

/** Nobody listens there: what is wrong has to be told before anybody connects. */
const dsn = "postgresql://user:canary@127.0.0.1:1/db";

async function refusal(options: SlotManagerOptions): Promise<PgStreamError> {
  const error = await Promise.resolve()
    .then(() => new SlotManager({ dsn, logger: false, ...options }).setup())
    .then(() => null, (error) => error);
  assertInstanceOf(error, PgStreamError);
  assert(error.hint !== undefined, error.message);
  return error;
}

test("a time limit that cannot be is refused, and named", async () => {
  for (const createTimeoutMs of [0, -1, NaN, -Infinity]) {
    const error = await refusal({ tables: ["documents"], createTimeoutMs });
    assertEquals(error.kind, "invalid-option", String(createTimeoutMs));
    assertStringIncludes(error.message, "createTimeoutMs");
  }
});

test("a table's name that cannot be read is refused, and named", async () => {
  for (const table of ['a"b', "", ".", "a.", ".b", '"a', '"a"b', "a\0b"]) {
    const error = await refusal({ tables: ["documents", table] });
    assertEquals(error.kind, "table-name", JSON.stringify(table));
    assertStringIncludes(error.message, JSON.stringify(table));
  }
});

test("a slot that goes with its session cannot survive a failover, and that is told at once", async () => {
  const error = await refusal({ tables: ["documents"], temporary: true, failover: true });
  assertEquals(error.kind, "invalid-option");
  assertStringIncludes(error.message, "temporary");
});
