/** Rows that cannot be handled, in the hands of what splits batches: one is given up, and nothing is done twice. */

import { assertEquals, assertRejects } from "@std/assert";
import { test } from "node:test";
import type { ChangeEvent } from "../../../src/change.ts";
import { Attempts } from "../../../src/delivery/attempts.ts";
import { HandlerError } from "../../../src/delivery/errors.ts";
import { silentLogger } from "../../../src/logger.ts";
import { SinkError } from "../../../src/sinks/sink.ts";
import { EmbedError } from "../../../src/sync/embedder.ts";
import type { SyncOptions } from "../../../src/sync/options.ts";
import { insertOf } from "../delivery/harness.ts";
import { contextOf, PlainSink, RecordingSink, rowOf, Synced } from "./synced.ts";

const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
const POISON = "6";

/** Events of one transaction, whose texts are their keys', and what became of them: a `!` where it was skipped. */
async function play(
  made: Synced<RecordingSink | PlainSink>,
  onFailure: "stop" | "skip" = "skip",
): Promise<string> {
  const settled: string[] = [];
  const attempts = new Attempts({
    handlers: [{
      batch: true,
      call: (events, { signal }) => made.rows.handle(events, contextOf({ signal })),
    }],
    retry: { attempts: 3, minDelayMs: 0, maxDelayMs: 0 },
    onFailure: onFailure === "stop" ? onFailure : () => onFailure,
    logger: silentLogger,
    onRetry: () => {},
    random: () => 0.5,
  });
  const events: ChangeEvent[] = KEYS.map((key, ordinal) =>
    insertOf(key, { ordinal, row: rowOf(key, `text ${key}`) })
  );
  const { signal } = new AbortController();
  await attempts.handle(events, signal, () => Promise.resolve(true), (count, skipped) => {
    for (const { key } of events.splice(0, count)) settled.push(`${key}${skipped ? "!" : ""}`);
  });
  return settled.join(" ");
}

const EXPECTED = KEYS.map((key) => key === POISON ? `${key}!` : key).join(" ");
const GOOD_TEXTS = KEYS.filter((key) => key !== POISON).map((key) => `text ${key}`);
const keysIn = (points: Iterable<{ id: unknown }>) =>
  [...points].map(({ id }) => JSON.parse(id as string)[1]).sort();

function refuses(made: Synced<RecordingSink | PlainSink>, error: () => Error): void {
  made.embedder.refuse = (texts) => {
    if (texts.includes(`text ${POISON}`)) throw error();
  };
}

const refused = () => new EmbedError("too long", { kind: "embed-refused", status: 400 });

test("a text that the embedder does not take costs its event alone, and no other text is embedded twice", async () => {
  for (
    const error of [
      refused,
      () => new Error("whatever"),
      () => Object.assign(new Error(), { status: 422 }),
    ]
  ) {
    for (const sink of [new RecordingSink(), new PlainSink()]) {
      const made = new Synced<RecordingSink | PlainSink>(sink);
      refuses(made, error);
      assertEquals(await play(made), EXPECTED);
      assertEquals(made.embedder.take(), GOOD_TEXTS);
      const points = sink instanceof PlainSink ? sink.points.values() : sink.points();
      assertEquals(keysIn(points), KEYS.filter((key) => key !== POISON));
    }
  }
});

test("a stream that stops there says which event it was, and what the embedder said", async () => {
  const made = new Synced(new RecordingSink());
  refuses(made, refused);
  const error = await assertRejects(() => play(made, "stop"), HandlerError);
  assertEquals([error.table, error.ordinal], ["documents", KEYS.indexOf(POISON)]);
  assertEquals((error.cause as EmbedError).kind, "embed-refused");
  // Those before it are done, and come again as what is there already.
  assertEquals(keysIn(made.sink.points()), KEYS.slice(0, KEYS.indexOf(POISON)));
});

test("a row that a function of the user's fails on costs its event alone", async () => {
  const fail = (id: string) => {
    if (id === POISON) throw new TypeError("x");
    return id;
  };
  const failing: Partial<SyncOptions>[] = [
    { text: ({ id, body }) => fail(id) && body },
    { payload: ({ id }) => ({ id: fail(id) }) },
  ];
  for (const options of failing) {
    const made = new Synced(new RecordingSink(), options);
    assertEquals(await play(made), EXPECTED);
    assertEquals(made.embedder.take(), GOOD_TEXTS);
  }
});

test("a row that the store refuses costs its event alone, and nothing is embedded twice", async () => {
  for (const retryable of [false, true]) {
    const made = new Synced(new RecordingSink());
    made.sink.fail = (call) => {
      if (call.method === "apply" && call.rows.some(({ key }) => key === POISON)) {
        throw new SinkError("no", { kind: "sink-rejected", sink: "memory", retryable });
      }
    };
    assertEquals(await play(made), EXPECTED);
    assertEquals(made.embedder.take(), KEYS.map((key) => `text ${key}`));
    assertEquals(keysIn(made.sink.points()), KEYS.filter((key) => key !== POISON));
  }
});

test("an embedder that fails for a while costs nothing, and no text is embedded twice", async () => {
  const made = new Synced(new RecordingSink(), {
    batch: { maxTexts: 2, maxDelayMs: 1, retry: { attempts: 1, minDelayMs: 0, maxDelayMs: 0 } },
  });
  let calls = 0;
  made.embedder.refuse = () => {
    if (++calls % 2 === 1) {
      throw new EmbedError("down", { kind: "embed-unavailable", retryable: true });
    }
  };
  assertEquals(await play(made), KEYS.join(" "));
  assertEquals(made.embedder.take(), KEYS.map((key) => `text ${key}`));
});
