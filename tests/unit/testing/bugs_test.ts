/** The usual mistakes of handlers, each of which a test with no server tells. */

import { assertEquals, AssertionError, assertRejects } from "@std/assert";
import { test } from "node:test";
import {
  HandlerError,
  MemorySink,
  PgStream,
  type PgStreamOptions,
  type Sink,
} from "../../../mod.ts";
import type { ChangeEvent } from "../../../mod.ts";
import { insert, remove, TestServer, update } from "../../../src/testing/mod.ts";

type Handler = (event: ChangeEvent, sink: Sink) => Promise<unknown>;

const embed = (text: string): Promise<number[]> => Promise.resolve([text.length, 1]);

/** As it should be. */
const right: Handler = async (event, sink) => {
  if (event.operation === "truncate") return;
  if (event.oldKey !== null) await sink.delete(event.oldKey);
  if (event.operation === "delete") return await sink.delete(event.key);
  if (event.unchanged.includes("content")) return;
  if (event.row.content === null) return await sink.delete(event.key);
  await sink.upsert({ id: event.key, vector: await embed(event.row.content) });
};

const forgetsOldKey: Handler = async (event, sink) => {
  if (event.operation === "truncate") return;
  await right(event.operation === "update" ? { ...event, oldKey: null } : event, sink);
};

/** Takes a column that the server did not send for one that is NULL. */
const takesUnchangedForNull: Handler = async (event, sink) => {
  if (event.operation === "truncate" || event.operation === "delete") return;
  const content: string | null = event.row.content ?? null;
  if (content === null) await sink.delete(event.key);
  else await sink.upsert({ id: event.key, vector: await embed(content) });
};

const embedsNull: Handler = async (event, sink) => {
  if (event.operation !== "insert") return;
  await sink.upsert({ id: event.key, vector: await embed(event.row.content) });
};

/** Counts on each event coming once. */
function addsUp(): Handler {
  const totals = new Map<string, number>();
  return async (event, sink) => {
    if (event.operation !== "insert") return;
    const total = (totals.get("all") ?? 0) + 1;
    totals.set("all", total);
    await sink.upsert({ id: "total", vector: [total, 1] });
  };
}

/** Does not wait for the sink. */
const waitsForNothing: Handler = (event, sink) => {
  if (event.operation === "insert") {
    void embed(event.row.content).then((vector) => sink.upsert({ id: event.key, vector }));
  }
  return Promise.resolve();
};

function setUp(
  handler: Handler,
  options: PgStreamOptions = {},
): { server: TestServer; sink: MemorySink } {
  const sink = new MemorySink();
  const stream = new PgStream({ logger: false, ...options }).watch("documents").sink(sink);
  return { server: new TestServer(stream.onChange(handler)), sink };
}

const bread = insert("documents", { id: 1, content: "bread" });

/** A user's tests. */
const checks: Record<string, (handler: Handler) => Promise<void>> = {
  async "a changed key"(handler) {
    const { server, sink } = setUp(handler);
    const row = { id: 2, content: "bread" };
    await server.feed([bread, update("documents", row, { oldRow: { id: 1 } })]);
    assertEquals(sink.points().map(({ id }) => id), ["2"]);
  },
  async "an unchanged text"(handler) {
    const { server, sink } = setUp(handler);
    await server.feed([bread, update("documents", { id: 1 }, { unchanged: ["content"] })]);
    assertEquals(sink.get(1)?.vector, [5, 1]);
  },
  async "a text that is NULL"(handler) {
    const { server, sink } = setUp(handler, { retry: { attempts: 1 } });
    await server.feed([bread, insert("documents", { id: 2, content: null })]);
    assertEquals(sink.points().map(({ id }) => id), ["1"]);
  },
  async "a row that is deleted"(handler) {
    const { server, sink } = setUp(handler);
    await server.feed([bread, remove("documents", { id: 1 })]);
    assertEquals(sink.size, 0);
  },
  async "events that come again"(handler) {
    const { server, sink } = setUp(handler);
    await server.feed([bread, insert("documents", { id: 2, content: "cheese" })]);
    const before = structuredClone(sink.points());
    await server.replay();
    assertEquals(sink.points(), before);
  },
  async "a store that takes its time"(handler) {
    const { server, sink } = setUp(handler);
    const upsert = sink.upsert.bind(sink);
    sink.upsert = async (point) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      await upsert(point);
    };
    await server.feed([bread]);
    assertEquals(sink.size, 1);
  },
};

for (const [name, check] of Object.entries(checks)) {
  test(`a handler that is right passes: ${name}`, () => check(right));
}

/** A mistake, the test that tells it, and what that fails with. */
interface Bug {
  bug: string;
  handler: () => Handler;
  check: string;
  error: typeof AssertionError | typeof HandlerError;
}

const bugs: Bug[] = [
  {
    bug: "forgets the old key",
    handler: () => forgetsOldKey,
    check: "a changed key",
    error: AssertionError,
  },
  {
    bug: "takes what is unchanged for NULL",
    handler: () => takesUnchangedForNull,
    check: "an unchanged text",
    error: AssertionError,
  },
  {
    bug: "embeds NULL",
    handler: () => embedsNull,
    check: "a text that is NULL",
    error: HandlerError,
  },
  {
    bug: "leaves out deletes",
    handler: () => embedsNull,
    check: "a row that is deleted",
    error: AssertionError,
  },
  {
    bug: "counts on events coming once",
    handler: addsUp,
    check: "events that come again",
    error: AssertionError,
  },
  {
    bug: "does not wait for its sink",
    handler: () => waitsForNothing,
    check: "a store that takes its time",
    error: AssertionError,
  },
];
for (const { bug, handler, check, error } of bugs) {
  test(`a handler that ${bug} does not pass: ${check}`, async () => {
    await assertRejects(() => checks[check]!(handler()), error);
  });
}
