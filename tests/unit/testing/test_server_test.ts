/** A stream that has no server does with events what it does with those of one. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import {
  type AnyRow,
  type ChangeEvent,
  HandlerError,
  type LaneKey,
  MemorySink,
  PgStream,
  PgStreamError,
  type PgStreamOptions,
  type Transaction,
} from "../../../mod.ts";
import { insert, message, remove, TestServer, truncate, update } from "../../../src/testing/mod.ts";

function streamOf(options: PgStreamOptions = {}): PgStream {
  return new PgStream({ logger: false, ...options }).watch("documents");
}

const doc = (id: number, title = "x") => insert("documents", { id, title });
const nameOf = ({ operation, key, backfill }: ChangeEvent) =>
  `${backfill ? "read" : operation} ${key}`;

/** A stream that writes down what it is given. */
function recording(options: PgStreamOptions = {}): {
  server: TestServer;
  stream: PgStream;
  seen: ChangeEvent[];
} {
  const seen: ChangeEvent[] = [];
  const stream = streamOf(options).onChange((event) => void seen.push(event));
  return { server: new TestServer(stream), stream, seen };
}

async function kindOf(promise: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => promise, PgStreamError)).kind;
}

describe("feed()", () => {
  test("hands out transactions in order, numbered and dated as a server does", async () => {
    const { server, seen } = recording();
    const report = await server.feed([
      [doc(1), update("documents", { id: 1, title: "y" })],
      [remove("documents", { id: 1 }), truncate("documents")],
    ]);
    assertEquals(seen.map(nameOf), ["insert 1", "update 1", "delete 1", "truncate null"]);
    assertEquals(report.handled, seen);
    assertEquals(seen.map(({ ordinal }) => ordinal), [0, 1, 0, 1]);
    assertEquals(new Set(seen.map(({ lsn }) => lsn)).size, 2);
    assertEquals(new Set(seen.map(({ xid }) => xid)).size, 2);
    assertEquals([report.skipped, report.retries, report.failure], [[], 0, null]);
  });

  test("gives the same events in each run of the tests", async () => {
    const runs = [recording(), recording()];
    for (const { server } of runs) await server.feed([[doc(1)], [doc(2), doc(3)]]);
    assertEquals(runs[0]!.seen, runs[1]!.seen);
  });

  test("confirms what is handled, and does not hand it out again", async () => {
    const { server, stream, seen } = recording();
    const before = server.confirmedLsn;
    const report = await server.feed([doc(1)]);
    assert(report.confirmedLsn > before);
    assertEquals(report.confirmedLsn, server.walLsn);
    assertEquals(stream.status().confirmedLsn, server.walLsn);
    await server.feed([doc(2)]);
    await server.feed([]);
    assertEquals(seen.map(nameOf), ["insert 1", "insert 2"]);
    assertEquals(stream.status().transactions, 2);
  });

  test("rejects as start() does where the handler fails, with what it threw", async () => {
    const stream = streamOf({ retry: { attempts: 1 } }).onChange(() => {
      throw new TypeError("mine");
    });
    const error = await assertRejects(
      () => new TestServer(stream).feed([doc(1)]),
      HandlerError,
      "insert of public.documents",
    );
    assertEquals((error.cause as Error).message, "mine");
    assertEquals(stream.status().state, "failed");
  });

  test("tells of a failure that may be, and confirms nothing of its transaction", async () => {
    let ill = true;
    const stream = streamOf({ retry: { attempts: 1 } }).onChange((event) => {
      if (event.key === "3" && ill) throw new Error("ill");
    });
    const server = new TestServer(stream);
    const first = server.commit(doc(1));
    const report = await server.feed([doc(2), doc(3)], { mayFail: true });
    assert(report.failure instanceof HandlerError);
    assertEquals([report.failure.operation, report.failure.ordinal], ["insert", 1]);
    assertEquals(report.handled.map(nameOf), ["insert 1", "insert 2"]);
    assertEquals(report.confirmedLsn, first);
    ill = false;
    const again = await server.feed([]);
    assertEquals(again.handled.map(nameOf), ["insert 2", "insert 3"]);
    assertEquals(again.confirmedLsn, server.walLsn);
  });

  test("with mayFail still throws what is not a handler's failure", async () => {
    assertEquals(
      await kindOf(new TestServer(streamOf()).feed([doc(1)], { mayFail: true })),
      "no-handler",
    );
  });

  test("tries again at once, and tells how often, and how long it would have waited", async () => {
    const stream = streamOf({ retry: { attempts: 3, minDelayMs: 60_000, maxDelayMs: 60_000 } });
    const attempts: number[] = [];
    stream.onChange((_, __, { attempt }) => {
      attempts.push(attempt);
      if (attempt < 3) throw Object.assign(new Error("slow down"), { retryAfterMs: 3_600_000 });
    });
    const began = performance.now();
    const report = await new TestServer(stream).feed([doc(1)]);
    assert(performance.now() - began < 30_000);
    assertEquals(attempts, [1, 2, 3]);
    assertEquals([report.retries, report.waitedMs], [2, 7_200_000]);
  });

  test("skips what onFailure gives up", async () => {
    const stream = streamOf({ retry: { attempts: 2 }, onFailure: () => "skip" });
    stream.onChange((event) => {
      if (event.key === "2") throw new Error("poison");
    });
    const server = new TestServer(stream);
    const report = await server.feed([doc(1), doc(2), doc(3)]);
    assertEquals(report.handled.map(nameOf), ["insert 1", "insert 3"]);
    assertEquals(report.skipped.map(nameOf), ["insert 2"]);
    assertEquals([report.retries, report.confirmedLsn], [1, server.walLsn]);
  });

  test("fills batches by the stream's own limits, and waits for no more", async () => {
    const sizes: number[] = [];
    const stream = streamOf().onBatch((events) => void sizes.push(events.length), {
      maxEvents: 4,
      maxDelayMs: 3_600_000,
    });
    await new TestServer(stream).feed([[doc(1), doc(2), doc(3)], [doc(4), doc(5), doc(6)]]);
    assertEquals(sizes, [4, 2]);
  });

  test("splits a batch that fails around the event that cannot be handled", async () => {
    const stream = streamOf({ retry: { attempts: 2 }, onFailure: () => "skip" });
    stream.onBatch((events) => {
      if (events.some(({ key }) => key === "5")) throw new Error("poison");
    });
    const events = Array.from({ length: 8 }, (_, i) => doc(i));
    const report = await new TestServer(stream).feed(events);
    assertEquals(report.skipped.map(nameOf), ["insert 5"]);
    assertEquals(report.handled.length, 7);
  });

  test("spreads keys over lanes, and keeps the order of each", async () => {
    const running = new Set<string>();
    let most = 0;
    const done: string[] = [];
    const stream = streamOf({ concurrency: 4 }).onChange(async (event) => {
      assertEquals(running.has(event.key!), false);
      running.add(event.key!);
      most = Math.max(most, running.size);
      await new Promise((resolve) => setTimeout(resolve, 1));
      running.delete(event.key!);
      done.push(`${event.key} ${event.row.title}`);
    });
    const events = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((id) => [
      doc(id, "a"),
      update("documents", { id }, { unchanged: ["title"] }),
      remove("documents", { id }),
    ]);
    await new TestServer(stream).feed(events);
    assert(most > 1, `${most} at once`);
    const ofFirst = done.filter((line) => line.startsWith("1 "));
    assertEquals(ofFirst, ["1 a", "1 undefined", "1 undefined"]);
  });

  test("a key of the stream's own takes the primary key's place", async () => {
    const key: LaneKey = (event) => {
      if (event.key === "2") throw new Error("no key");
      return "all";
    };
    const stream = streamOf({ concurrency: 2, key }).onChange(() => {});
    assertEquals(await kindOf(new TestServer(stream).feed([doc(1), doc(2)])), "lane-key");
  });

  test("a transaction that is larger than the queue passes through", async () => {
    let most = 0;
    const stream = streamOf({ maxQueueBytes: 1000 });
    stream.onChange(() => void (most = Math.max(most, stream.status().queueBytes)));
    const server = new TestServer(stream);
    const { handled } = await server.feed(Array.from({ length: 500 }, (_, i) => doc(i)));
    assertEquals(handled.length, 500);
    assert(most < 2000, `${most} bytes`);
    assertEquals(server.confirmedLsn, server.walLsn);
  });

  test("is over with what was there when it began", async () => {
    const stream = streamOf();
    const server = new TestServer(stream);
    stream.onChange((event) => {
      if (event.key === "1") server.commit(doc(2));
    });
    assertEquals((await server.feed([doc(1)])).handled.map(nameOf), ["insert 1"]);
    assertEquals((await server.feed([])).handled.map(nameOf), ["insert 2"]);
  });

  test("knows rows by the key that they were given with, though it changes", async () => {
    const { server, seen } = recording();
    const row = { id: 1, title: "x" };
    await server.feed([doc(1), insert("documents", row, { key: ["title", "id"] }), doc(1)]);
    assertEquals(seen.map(({ key }) => key), ["1", '["x","1"]', "1"]);
  });

  test("what a handler does to an event is not seen when it comes again", async () => {
    const titles: unknown[] = [];
    const stream = streamOf().onChange((event) => {
      titles.push(event.row.title);
      event.row.title = "spoilt";
    });
    const server = new TestServer(stream);
    await server.feed([doc(1, "as it was")]);
    await server.replay();
    assertEquals(titles, ["as it was", "as it was"]);
  });
});

test("replay() hands out everything again, rows of a backfill too", async () => {
  const { server, seen } = recording();
  await server.feed([[insert("documents", { id: 9, title: "old" }, { backfill: true })], [doc(1)]]);
  const { handled, confirmedLsn } = await server.replay();
  assertEquals(handled.map(nameOf), ["read 9", "insert 1"]);
  assertEquals(handled, seen.slice(2));
  assertEquals(seen.slice(2), seen.slice(0, 2));
  assertEquals(confirmedLsn, server.walLsn);
});

describe("rows of a backfill", () => {
  const old = (id: number) => insert("documents", { id, title: "old" }, { backfill: true });

  test("come between transactions, in none of them, and confirm nothing", async () => {
    const { server, seen } = recording();
    const before = server.confirmedLsn;
    const report = await server.feed([truncate("documents", { backfill: true }), old(1), old(2)]);
    assertEquals(report.confirmedLsn, before);
    await server.feed([[doc(3)], [old(4)]]);
    assertEquals(seen.map(nameOf), ["read null", "read 1", "read 2", "insert 3", "read 4"]);
    assertEquals(seen.map(({ ordinal }) => ordinal), [-1, -1, -1, 0, -1]);
  });

  test("are wanted alone", async () => {
    const { server } = recording();
    const error = assertThrows(() => server.commit(old(1), doc(2)), PgStreamError);
    assertEquals(error.kind, "invalid-change");
    assertEquals((await server.feed([])).handled, []);
  });

  test("wait for no batch to be filled", async () => {
    const stream = streamOf();
    const sizes: number[] = [];
    stream.onBatch((events) => {
      sizes.push(events.length);
      void stream.stop();
    }, { maxDelayMs: 3_600_000 });
    const server = new TestServer(stream);
    server.commit(old(1), old(2));
    await stream.start();
    assertEquals(sizes, [2]);
  });

  test("that were not handled come again, as do those that the handler failed on", async () => {
    let ill = true;
    const stream = streamOf({ retry: { attempts: 1 }, backfill: "initial" }).onChange((event) => {
      if (event.key === "2" && ill) throw new Error("ill");
    });
    const server = new TestServer(stream);
    const report = await server.feed([old(1), old(2)], { mayFail: true });
    assertEquals(report.handled.map(nameOf), ["read 1"]);
    ill = false;
    assertEquals((await server.feed([])).handled.map(nameOf), ["read 1", "read 2"]);
    assertEquals((await server.feed([])).handled, []);
  });
});

describe("the stream's own methods read what was committed:", () => {
  test("start() and stop(), which closes the sinks", async () => {
    const closed = Promise.withResolvers<void>();
    const sink = new MemorySink();
    sink.close = () => Promise.resolve(closed.resolve());
    const third = Promise.withResolvers<void>();
    const stream = streamOf().sink(sink).onChange(async (event, sink) => {
      await sink.upsert({ id: event.key!, vector: [1] });
      if (event.key === "3") third.resolve();
    });
    const states: string[] = [];
    stream.onStateChange((state) => states.push(state));
    const server = new TestServer(stream);
    server.commit(doc(1));
    const running = stream.start();
    server.commit(doc(2));
    await new Promise((resolve) => setTimeout(resolve, 5));
    server.commit(doc(3));
    await third.promise;
    await stream.stop();
    await Promise.all([running, closed.promise]);
    assertEquals(sink.points().map(({ id }) => id), ["1", "2", "3"]);
    assertEquals(server.confirmedLsn, server.walLsn);
    assertEquals(states, ["connecting", "streaming", "stopping", "stopped"]);
  });

  test("a stop in the middle of a transaction confirms nothing of it", async () => {
    const stream = streamOf({ maxQueueBytes: 1 });
    const seen: string[] = [];
    let stopping = true;
    stream.onChange((event) => {
      seen.push(event.key!);
      if (event.key === "2" && stopping) void stream.stop();
    });
    const server = new TestServer(stream);
    const first = server.commit(doc(1));
    server.commit(doc(2), doc(3));
    await stream.start();
    assertEquals([seen, server.confirmedLsn], [["1", "2"], first]);
    stopping = false;
    await server.feed([]);
    assertEquals(seen, ["1", "2", "2", "3"]);
  });

  test("a stop from the last event of a transaction confirms it", async () => {
    const stream = streamOf();
    stream.onChange((event) => {
      if (event.key === "2") void stream.stop();
    });
    const server = new TestServer(stream);
    const end = server.commit(doc(1), doc(2));
    await stream.start();
    assertEquals(server.confirmedLsn, end);
  });

  test("changes(), of which what is not acknowledged comes again", async () => {
    const stream = streamOf();
    const server = new TestServer(stream);
    const first = server.commit(doc(1));
    server.commit(doc(2), doc(3));
    const taken: string[][] = [];
    const take = async (
      ack: (transaction: Transaction<Record<string, AnyRow>>, index: number) => void,
    ) => {
      let index = 0;
      for await (const transaction of stream.changes()) {
        taken.push((transaction.events as ChangeEvent[]).map(nameOf));
        ack(transaction, index++);
        if (transaction.events.length === 2) break;
      }
    };
    await take((transaction, index) => index === 0 && transaction.ack());
    assertEquals(server.confirmedLsn, first);
    await take((transaction) => transaction.ack());
    assertEquals(taken, [["insert 1"], ["insert 2", "insert 3"], ["insert 2", "insert 3"]]);
    assertEquals(server.confirmedLsn, server.walLsn);
  });

  test("a transaction that is acknowledged before the one in front of it waits for that", async () => {
    const stream = streamOf();
    const server = new TestServer(stream);
    const start = server.confirmedLsn;
    server.commit(doc(1));
    server.commit(doc(2));
    const taken: Transaction<Record<string, AnyRow>>[] = [];
    for await (const transaction of stream.changes()) {
      if (taken.push(transaction) < 2) continue;
      taken[1]!.ack();
      await new Promise((resolve) => setTimeout(resolve, 1));
      assertEquals(server.confirmedLsn, start);
      taken[0]!.ack();
      break;
    }
    assertEquals(server.confirmedLsn, server.walLsn);
  });

  test("a stream that was set up before has no server any more", async () => {
    const stream = streamOf({
      dsn: "postgresql://app@127.0.0.1:1/production?sslmode=disable",
      backfill: "initial",
    }).onChange(() => {});
    assertEquals(await kindOf(stream.setup()), "connection-refused");
    const { handled } = await new TestServer(stream).feed([doc(1)]);
    assertEquals(handled.length, 1);
  });

  test("what only a server can do says that there is none, and connects to nobody", async () => {
    const { stream } = recording({ dsn: "postgresql://real@127.0.0.1:1/production" });
    assertEquals(await kindOf(stream.setup()), "no-server");
    assertEquals(await kindOf(stream.teardown()), "no-server");
    const running = stream.start();
    while (stream.status().state !== "streaming") {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assertEquals(await kindOf(stream.backfill("documents")), "no-server");
    await stream.stop();
    await running;
  });
});

describe("what no stream would ever get is an error:", () => {
  test("an event of a table that is not watched", async () => {
    const { server, seen } = recording();
    const events = [insert("Documents", { id: 1 })];
    assertEquals(await kindOf(server.feed(events, { mayFail: true })), "not-watched");
    const row = insert("Documents", { id: 1 }, { backfill: true });
    assertEquals(await kindOf(recording().server.feed([row])), "not-watched");
    assertEquals(seen, []);
  });

  test("a column that is not among those that are watched", async () => {
    const seen: unknown[] = [];
    const stream = new PgStream({ logger: false }).watch("documents", { columns: ["id", "title"] })
      .onChange(({ row }) => void seen.push({ ...row }));
    const server = new TestServer(stream);
    await server.feed([insert("documents", { id: 1, title: "a" })]);
    const error = await server.feed([insert("documents", { id: 2, title: "b", secret: "s" })])
      .catch((error) => error);
    assertEquals([error.kind, seen], ["invalid-change", [{ id: "1", title: "a" }]]);
    assert(error.message.includes("secret"), error.message);
  });

  test("an update that tells nothing of a column that the table has", async () => {
    const { server, seen } = recording();
    await server.feed([doc(1)]);
    const error = assertThrows(
      () => server.commit(doc(2), update("documents", { id: 1 })),
      PgStreamError,
      "nothing of title",
    );
    assertEquals(error.kind, "invalid-change");
    await server.feed([update("documents", { id: 1 }, { unchanged: ["title"] })]);
    await server.feed([update("documents", { id: 1, title: "y", added: 1 })]);
    assertEquals(seen.map(nameOf), ["insert 1", "update 1", "update 1"]);
  });

  test("an event of another making", () => {
    const { server } = recording();
    const error = assertThrows(() => server.commit({ ...doc(1) }), PgStreamError);
    assertEquals(error.kind, "invalid-change");
  });

  test("a server for a stream that runs", async () => {
    const { stream } = recording();
    const running = stream.start();
    assertEquals(assertThrows(() => new TestServer(stream), PgStreamError).kind, "already-running");
    await stream.stop();
    await running;
  });
});

test("events fit the stream's tables, or do not compile", async () => {
  interface Doc {
    id: string;
    title: string | null;
    state: "draft" | "done";
  }
  const stream = new PgStream<{ documents: Doc; "blog.articles": { id: string } }>();
  stream.watch("documents", "blog.articles").onChange(() => {});
  const server = new TestServer(stream);
  const row: Doc = { id: "3", title: null, state: "done" };
  const { handled } = await server.feed([
    insert("documents", { id: 1, title: null, state: "draft" }),
    insert("documents", row),
    insert("blog.articles", { id: 2 }),
    update("documents", { id: 1, state: "done" }, { unchanged: ["title"] }),
    remove("documents", { id: 1 }),
    truncate("blog.articles"),
  ]);
  const [event] = handled;
  if (event?.operation === "insert" && event.table === "documents") {
    const state: "draft" | "done" = event.row.state;
    assertEquals(state, "draft");
  }
  const wrong = () => [
    // @ts-expect-error no such table
    server.commit(insert("nope", { id: 1 })),
    // @ts-expect-error a column is missing
    server.commit(insert("documents", { id: 1, title: "x" })),
    // @ts-expect-error no such state
    server.commit(insert("documents", { id: 1, title: "x", state: "gone" })),
    // @ts-expect-error no such table
    server.feed([[truncate("nope")]]),
  ];
  assertEquals(wrong.length, 0);
});

describe("messages", () => {
  function outbox(options: PgStreamOptions = {}): {
    server: TestServer;
    stream: PgStream;
    seen: string[];
  } {
    const seen: string[] = [];
    const stream = streamOf(options).onChange((event) => void seen.push(nameOf(event)))
      .onMessage("outbox", ({ content, lsn, ordinal }) => {
        seen.push(`${new TextDecoder().decode(content)} ${lsn} ${ordinal}`);
        content.fill(0);
      });
    return { server: new TestServer(stream), stream, seen };
  }

  test("come in their place, are counted, and come again as they were", async () => {
    const { server, stream, seen } = outbox({ concurrency: 4 });
    const report = await server.feed([
      [doc(1), message("outbox", "a"), doc(2), message("others", "b"), doc(3)],
      [message("outbox", "c", { transactional: false })],
      [message("others", "d", { transactional: false })],
    ]);
    const lsns = report.messages.map(({ lsn }) => lsn);
    const expected = ["insert 1", `a ${lsns[0]} 1`, "insert 2", "insert 3", `c ${lsns[1]} 0`];
    assertEquals([seen[1], seen[4]], [expected[1], expected[4]]);
    assertEquals([...seen].sort(), [...expected].sort());
    assertEquals(report.handled.map(({ ordinal }) => ordinal).sort(), [0, 2, 4]);
    assertEquals(report.confirmedLsn, server.walLsn);
    assertEquals(stream.status().messages, 2);
    assertEquals((await server.feed([])).messages, [], "it is confirmed");
    const again = await server.replay();
    assertEquals(again.messages.length, 2);
    assertEquals([seen[6], seen[9]], [expected[1], expected[4]]);
  });

  test("that fail are told apart from events", async () => {
    const stream = streamOf({ onFailure: () => "skip" }).onChange(() => {})
      .onMessage("outbox", () => Promise.reject(new Error("no")));
    const server = new TestServer(stream);
    const report = await server.feed([doc(1), message("outbox", Uint8Array.of(1))]);
    assertEquals([report.handled.length, report.skipped.length], [1, 0]);
    assertEquals(report.messages, []);
    assertEquals(report.skippedMessages.map(({ content }) => [...content]), [[1]]);
    const strict = streamOf({ retry: { attempts: 1 } }).onChange(() => {})
      .onMessage("outbox", () => Promise.reject(new Error("no")));
    const { failure } = await new TestServer(strict).feed([message("outbox", "a")], {
      mayFail: true,
    });
    assert(failure instanceof HandlerError && failure.prefix === "outbox");
  });

  test("are not sent where nobody asks for them: they count in no ordinal", async () => {
    const { server, seen } = recording();
    const lone = message("outbox", "b", { transactional: false });
    await server.feed([[message("outbox", "a"), doc(1)], [lone]]);
    assertEquals(seen.map(({ ordinal }) => ordinal), [0]);
    assertEquals(server.confirmedLsn, server.walLsn);
  });

  test("of no transaction cannot stand in one, and others' are not known", () => {
    const { server } = outbox();
    const lone = message("outbox", "a", { transactional: false });
    assertThrows(() => server.commit(doc(1), lone), PgStreamError, "stands in one");
    assertThrows(() => server.commit({ ...lone }), PgStreamError, "message()");
  });
});

test("a handler of messages is called for its prefix exactly, beside others of the same, one after the other", async () => {
  const seen: string[] = [];
  const stream = streamOf().onChange(() => {});
  for (const [name, prefix] of [["1", "a"], ["2", "a"], ["3", "A"], ["4", ""]] as const) {
    stream.onMessage(prefix, async () => {
      await Promise.resolve();
      seen.push(name);
    });
  }
  await new TestServer(stream).feed([message("a", ""), message("", ""), message("A ", "")]);
  assertEquals(seen, ["1", "2", "4"]);
  assertThrows(() => stream.onMessage(undefined as unknown as string, () => {}), PgStreamError);
  assertThrows(() => stream.onMessage("a", "b" as unknown as () => void), PgStreamError);
});

test("rows with other columns are told to onSchemaChange, in their place; unchanged ones stay unchanged", async () => {
  const log: string[] = [];
  const stream = streamOf({ readUnchanged: true, concurrency: 3 })
    .onChange(({ row, unchanged }) => void log.push(`${Object.keys(row)}|${unchanged}`))
    .onSchemaChange(({ added, removed }) =>
      void log.push(`+${added.map(({ name }) => name)} -${removed.map(({ name }) => name)}`)
    );
  const server = new TestServer(stream);
  await server.feed([doc(1), insert("documents", { id: 2, body: "x" })]);
  await server.feed([update("documents", { id: 2 }, { unchanged: ["body"] })]);
  await server.feed([doc(3)]);
  assertEquals(log, [
    "id,title|",
    "+body -title",
    "id,body|",
    "id|body",
    "+title -body",
    "id,title|",
  ]);
});
