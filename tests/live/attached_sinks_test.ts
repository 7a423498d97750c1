/** The sinks that a stream was given: the handler gets that very object, and stop() closes them all. */

import { assert, assertEquals, assertInstanceOf, assertStrictEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import {
  type ChangeEvent,
  MemorySink,
  PgStream,
  PgStreamError,
  type PointId,
  type Sink,
  type SinkLike,
  type VectorPoint,
} from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { newTable, started, until, within } from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

const outcomeOf = (promise: Promise<unknown>): Promise<unknown> =>
  within("the stream to end", promise.then(() => null, (error) => error));

describe("a sink of two methods", () => {
  /** What a user may write; the methods need their `this`. */
  function twoMethods() {
    return {
      calls: [] as string[],
      upsert(point: VectorPoint): Promise<void> {
        this.calls.push(`upsert ${point.id}`);
        return Promise.resolve();
      },
      delete(id: PointId): Promise<void> {
        this.calls.push(`delete ${id}`);
        return Promise.resolve();
      },
    };
  }

  /** Runs one event through the handler. */
  async function withSink(given: SinkLike, use: (sink: Sink) => unknown): Promise<void> {
    const { table, make, teardown } = await newTable(db, "sinks");
    const stream = make(() => {}).sink(given);
    stream.onChange((_event: ChangeEvent, sink: Sink) => use(sink));
    const running = await started(stream);
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    await until(
      "the event",
      () => stream.status().events.insert === 1 || stream.status().state === "failed",
    );
    await running.stop();
    await teardown();
  }

  test("is what the handler gets, with the other methods added", async () => {
    const given = twoMethods();
    await withSink(given, async (sink) => {
      assertStrictEquals<unknown>(sink, given);
      await sink.upsertMany([{ id: 1, vector: [1] }, { id: 2, vector: [2] }]);
      await sink.deleteMany([2, 1]);
      await sink.close();
      await sink[Symbol.asyncDispose]();
    });
    assertEquals(given.calls, ["upsert 1", "upsert 2", "delete 2", "delete 1"]);
  });

  test("may be of a class with private fields", async () => {
    class Counting {
      #points = 0;
      get points(): number {
        return this.#points;
      }
      upsert(): Promise<void> {
        this.#points++;
        return Promise.resolve();
      }
      delete(): Promise<void> {
        this.#points--;
        return Promise.resolve();
      }
    }
    const given = new Counting();
    await withSink(given, async (sink) => {
      assertStrictEquals<unknown>(sink, given);
      await sink.upsertMany([1, 2, 3].map((id) => ({ id, vector: [1] })));
      await sink.deleteMany([1]);
    });
    assertEquals(given.points, 2);
  });

  test("keeps what it has itself", async () => {
    const own = {
      ...twoMethods(),
      closed: 0,
      upsertMany(points: readonly VectorPoint[]): Promise<void> {
        own.calls.push(`upsertMany ${points.length}`);
        return Promise.resolve();
      },
      close(): Promise<void> {
        own.closed++;
        return Promise.resolve();
      },
    };
    await withSink(own, async (sink) => {
      await sink.upsertMany([{ id: 1, vector: [1] }]);
      await sink.deleteMany([1]);
      assertEquals(own.closed, 0);
    });
    assertEquals(own.calls, ["upsertMany 1", "delete 1"]);
    assert(own.closed > 0);
  });
});

describe("a sink whose close() rejects", () => {
  const cause = new Error("the sink's own");

  /** Three sinks; the one in the middle cannot be closed, ever. */
  function threeSinks(stream: PgStream): { closed: string[] } {
    const closed: string[] = [];
    const sinkOf = (name: string): SinkLike => ({
      upsert: () => Promise.resolve(),
      delete: () => Promise.resolve(),
      close() {
        closed.push(name);
        return name === "second" ? Promise.reject(cause) : Promise.resolve();
      },
    });
    for (const name of ["first", "second", "third"]) stream.sink(sinkOf(name));
    return { closed };
  }

  function checkError(error: unknown): void {
    assertInstanceOf(error, PgStreamError, `${error}`);
    assertEquals(error.kind, "sink-close");
    assert(error.hint);
    let found: unknown = error.cause;
    if (found instanceof AggregateError) found = found.errors[0];
    assertStrictEquals(found, cause);
  }

  test("fails stop() once, and the other sinks are closed", async () => {
    const { make, teardown } = await newTable(db, "closing");
    const stream = make(() => {});
    const { closed } = threeSinks(stream);
    const { ended } = await started(stream);
    const stopped = await outcomeOf(stream.stop());
    const start = await within("start()", ended);
    // Who waits for either is told; who waits for both need not be told twice.
    checkError(start ?? stopped);
    assertEquals([...new Set(closed)].sort(), ["first", "second", "third"]);
    assertEquals(await outcomeOf(stream.stop()), null);
    assertEquals(await outcomeOf(stream[Symbol.asyncDispose]()), null);
    await teardown();
  });

  test("of a table alone is closed by stop(), though the stream never ran", async () => {
    let closed = 0;
    const sink = new MemorySink();
    sink.close = () => Promise.resolve(++closed);
    const stream = new PgStream({ dsn: db.dsn });
    stream.sync("documents", {
      text: () => "text",
      embed: () => Promise.resolve([]),
      model: "none",
      sink,
    });
    await stream.stop();
    assertEquals(closed, 1);
  });

  test("fails a start() that an abort ended, and no stop() after it", async () => {
    const { make, teardown } = await newTable(db, "closing");
    const stream = make(() => {});
    const { closed } = threeSinks(stream);
    const abort = new AbortController();
    const { ended } = await started(stream, { signal: abort.signal });
    abort.abort();
    checkError(await within("start()", ended));
    assertEquals([...new Set(closed)].sort(), ["first", "second", "third"]);
    assertEquals(await outcomeOf(stream.stop()), null);
    await teardown();
  });

  test("does not hide why the stream failed", async () => {
    const { table, make, teardown } = await newTable(db, "closing");
    const stream = make(() => {
      throw new Error("the handler's own");
    });
    const { closed } = threeSinks(stream);
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    const failed = await outcomeOf(stream.start());
    assertEquals((failed as PgStreamError).kind, "handler-failed");
    checkError(await outcomeOf(stream.stop()));
    assertEquals([...new Set(closed)].sort(), ["first", "second", "third"]);
    assertEquals(await outcomeOf(stream.stop()), null);
    await teardown();
  });
});
