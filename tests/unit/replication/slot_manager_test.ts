import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { test } from "node:test";
import { PgStreamError } from "../../../src/errors.ts";
import { ReplicationError } from "../../../src/replication/errors.ts";
import { SlotManager, type SlotManagerOptions } from "../../../src/replication/slot_manager.ts";
import { startScripted, welcome } from "../../support/scripted_server.ts";

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
  for (const name of ["createTimeoutMs", "answerTimeoutMs"] as const) {
    for (const limit of [0, -1, NaN, -Infinity]) {
      const error = await refusal({ tables: ["documents"], [name]: limit });
      assertEquals(error.kind, "invalid-option", String(limit));
      assertStringIncludes(error.message, name);
    }
  }
});

test("a server that falls silent does not hold setup() or teardown() for ever", async () => {
  const server = await startScripted(async (peer) => {
    await welcome(peer);
    while ((await peer.message()).type !== "X");
  });
  try {
    const limits = { createTimeoutMs: 50, answerTimeoutMs: 50, tables: ["documents"] };
    const dsn = `postgresql://app@127.0.0.1:${server.port}/db?sslmode=disable`;
    const slots = new SlotManager({ dsn, logger: false, ...limits });
    for (const call of [() => slots.setup(), () => slots.teardown()]) {
      const error = await assertRejects(call, ReplicationError);
      assertEquals([error.kind, error.retryable], ["connection-silent", true]);
    }
    const endless = new SlotManager({ dsn, logger: false, ...limits, answerTimeoutMs: Infinity });
    const signal = AbortSignal.timeout(200);
    assertEquals(await endless.setup({ signal }).catch((reason) => reason), signal.reason);
  } finally {
    await server.stop();
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
