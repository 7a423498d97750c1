/** Embedders that fail, on the way from a table to its store: nothing is lost, and errors say what it was. */

import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLess,
  assertLessOrEqual,
  assertMatch,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import {
  HandlerError,
  isRetryable,
  type PgStream,
  type PgStreamOptions,
  type SyncOptions,
} from "../../mod.ts";
import { EmbedError, openAiEmbedder } from "../../src/sync/mod.ts";
import { seededRandom } from "../support/random.ts";
import { type OpenAiServer, startOpenAi, vectorOf } from "../support/servers/open_ai.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { started, until, within } from "../support/streams.ts";
import { memoryStore, type SyncedStore } from "../support/synced_stores.ts";
import { SyncedTable } from "../support/synced_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

const DIMENSIONS = 4;
const ROWS = 200;
/** Of streams and of embedders: tried often enough for what passes, and no longer than a test takes. */
const RETRY = { attempts: 3, minDelayMs: 1, maxDelayMs: 10 };
const BATCH = { maxTexts: 10, maxDelayMs: 1, timeoutMs: 300, retry: RETRY };

/** A table, a store, and a server of embeddings between them. */
class World {
  readonly table: SyncedTable;
  readonly server: OpenAiServer;
  readonly store: SyncedStore = memoryStore();
  readonly #streams: PgStream[] = [];

  private constructor(table: SyncedTable, server: OpenAiServer) {
    this.table = table;
    this.server = server;
  }

  static async open(): Promise<World> {
    const table = await SyncedTable.create(db);
    await table.query(`INSERT INTO $ SELECT n, 'title ' || n, 'text ' || n
      FROM generate_series(1, ${ROWS}) n`);
    return new World(table, await startOpenAi({ dimensions: DIMENSIONS }));
  }

  stream(options: Partial<SyncOptions> = {}, streamOptions: PgStreamOptions = {}) {
    const embed = openAiEmbedder({ model: "model", url: this.server.url });
    const stream = this.table.stream(
      this.store.open(),
      { embed, batch: BATCH, ...options },
      { retry: RETRY, ...streamOptions },
    );
    this.#streams.push(stream);
    return stream;
  }

  /** Starts, waits for all rows but these, and stops. */
  async fills(
    { without = [], ...options }: Partial<SyncOptions> & { without?: number[] } = {},
    streamOptions: PgStreamOptions = {},
  ): Promise<void> {
    const stream = this.stream(options, streamOptions);
    await stream.setup();
    const { stop, ended } = await started(stream);
    const failed = ended.then((error) => {
      if (error !== null) throw error;
    });
    await Promise.race([this.agrees(without), failed]);
    await stop();
  }

  /** Waits until the store has all rows but these, with vectors of their texts. */
  async agrees(without: number[] = []): Promise<void> {
    const rows = await this.table.query<{ id: string; body: string }>(
      "SELECT id::text, body FROM $ ORDER BY $.id",
    );
    const wanted = rows.filter(({ id }) => !without.includes(Number(id)))
      .map(({ id, body }) => `${id}: ${vectorOf(body, DIMENSIONS)}`);
    let found: string[] = [];
    await until("the store to agree", async () => {
      const points = await this.store.points();
      found = points.map(({ key, vector }) => `${key}: ${vector}`)
        .sort((a, b) => parseInt(a) - parseInt(b));
      return JSON.stringify(found) === JSON.stringify(wanted);
    }).catch((error) => {
      assertEquals(found, wanted);
      throw error;
    });
  }

  /** What `start()` is rejected with. */
  async failure(options: Partial<SyncOptions> = {}): Promise<HandlerError> {
    const stream = this.stream(options);
    await stream.setup();
    const error = await within("start() to end", stream.start().then(() => null, (error) => error));
    assertInstanceOf(error, HandlerError, String(error));
    // Which row it was, and what to do.
    assertEquals([error.table, error.operation], [this.table.name, "insert"]);
    assertMatch(
      error.message,
      new RegExp(`insert of public.${this.table.name} at [0-9A-F]+/[0-9A-F]+`),
    );
    assertInstanceOf(error.cause, EmbedError);
    assert(error.cause.hint);
    assert(!`${error} ${error.cause}`.includes("text "), "a value of a row is in an error");
    return error;
  }

  /** How often each text was asked for. */
  asked(): Map<string, number> {
    const times = new Map<string, number>();
    for (const text of this.server.requests.flatMap(({ input }) => input)) {
      times.set(text, (times.get(text) ?? 0) + 1);
    }
    return times;
  }

  async close(): Promise<void> {
    for (const stream of this.#streams) await stream.stop({ timeoutMs: 100 });
    await this.server[Symbol.asyncDispose]();
    await this.table.remove();
  }
}

describe("an embedder that fails at times", () => {
  test("costs no row, and no more calls than those that failed", async () => {
    const seed = Date.now() & 0xffff;
    console.log(`seed ${seed}`);
    const random = seededRandom(seed);
    const world = await World.open();
    try {
      let [calls, failures] = [0, 0];
      const embed = openAiEmbedder({ model: "model", url: world.server.url });
      const failing = Object.assign(
        (texts: readonly string[], context: { signal: AbortSignal }) => {
          calls++;
          if (random() >= 0.1) return embed(texts, context);
          failures++;
          return Promise.reject(new Error("now and then"));
        },
        { model: "model" },
      );
      const retry = { ...RETRY, attempts: 10 };
      await world.fills({ embed: failing, batch: { ...BATCH, maxTexts: 2, retry } });
      assertGreater(failures, 0);
      // Those that failed before they were asked for were not asked for.
      assertEquals(Math.max(...world.asked().values()), 1);
      assertEquals(calls - failures, world.server.requests.length);
    } finally {
      await world.close();
    }
  });

  test("and is away for longer than it is tried, ends the stream; the next start goes on, and embeds what is missing", async () => {
    const world = await World.open();
    try {
      await world.fills();
      const before = world.server.requests.length;
      await world.table.query(
        `INSERT INTO $ SELECT n, 't', 'text ' || n FROM generate_series(301, 340) n`,
      );
      for (let n = 0; n < 200; n++) world.server.fail({ status: 503 });
      const { kind, status, retryable } = (await world.failure()).cause as EmbedError;
      assertEquals([kind, status, retryable], ["embed-unavailable", 503, true]);
      // Each batch as often as it may be, for each try of the handler; nothing is split for it but once.
      const failed = world.server.headers.length - before;
      assertLessOrEqual(failed, 4 * RETRY.attempts * (RETRY.attempts + 8));
      world.server.requests.length = 0;
      world.server.failures.length = 0;
      await world.fills();
      assertEquals([...world.asked()].length, 40);
      assertEquals(Math.max(...world.asked().values()), 1);
    } finally {
      await world.close();
    }
  });
});

test("an embedder that asks for patience gets it from all calls, and no text is lost or asked for twice", async () => {
  const world = await World.open();
  try {
    const calls: number[] = [];
    let refusedMs = Infinity;
    const timed: typeof fetch = async (...call) => {
      calls.push(performance.now());
      const response = await fetch(...call);
      if (response.status === 429) refusedMs = performance.now();
      return response;
    };
    world.server.fail({ status: 429, headers: { "retry-after": "1" } });
    const embed = openAiEmbedder({ model: "model", url: world.server.url, fetch: timed });
    await world.fills({ embed });
    // Who was about to call when the answer came could not know.
    const during = calls.filter((ms) => ms > refusedMs + 300 && ms < refusedMs + 990);
    assertEquals(during, []);
    assertGreater(calls.filter((ms) => ms > refusedMs + 990).length, 0);
    assertEquals(world.asked().size, ROWS);
    assertEquals(Math.max(...world.asked().values()), 1);
  } finally {
    await world.close();
  }
});

test("an embedder that hangs is given up in time, and asked again", async () => {
  const world = await World.open();
  try {
    world.server.fail({ hang: "answer" });
    world.server.fail({ hang: "body" });
    world.server.fail({ drop: true });
    await world.fills();
    assertGreaterOrEqual(world.server.abandoned, 2);
    assertEquals(world.asked().size, ROWS);
    assertEquals([...world.asked().values()].filter((times) => times > 2), []);
  } finally {
    await world.close();
  }
});

test("an embedder that never answers does not keep a stream from stopping, and what it had comes again", async () => {
  const world = await World.open();
  try {
    let calls = 0;
    const hanging = Object.assign(() => {
      calls++;
      return new Promise<never>(() => {});
    }, { model: "model" });
    const stream = world.stream({ embed: hanging, batch: { ...BATCH, timeoutMs: 3_600_000 } });
    await stream.setup();
    const { stop } = await started(stream);
    await until("it to be asked", () => calls > 0);
    const at = performance.now();
    await stop();
    assertLess(performance.now() - at, 5000);
    await world.fills();
  } finally {
    await world.close();
  }
});

describe("an answer that cannot be one", () => {
  const wrong: [string, Parameters<OpenAiServer["fail"]>[0], RegExp][] = [
    [
      "of too few vectors",
      { change: (answer) => ({ ...answer, data: answer.data.slice(1) }) },
      /9 vectors for 10 texts|not each/,
    ],
    [
      "of other dimensions",
      {
        change: (answer) => ({
          ...answer,
          data: answer.data.map((one) => ({ ...one, embedding: [1, 2] })),
        }),
      },
      /dimensions/,
    ],
    [
      "of no numbers",
      {
        change: (answer) => ({
          ...answer,
          data: answer.data.map((one) => ({ ...one, embedding: [1, null, 3, 4] })),
        }),
      },
      /number|finite/,
    ],
  ];
  for (const [name, failure] of wrong) {
    test(`${name}, once, is asked for again`, async () => {
      const world = await World.open();
      try {
        const dimensions = DIMENSIONS;
        const embed = openAiEmbedder({ model: "model", url: world.server.url, dimensions });
        world.server.fail(failure);
        await world.fills({ embed });
        assertEquals(world.asked().size, ROWS);
        assertEquals([...world.asked().values()].filter((times) => times > 1).length, 10);
      } finally {
        await world.close();
      }
    });
  }

  test("each time ends the stream, says what is wrong with it, and is asked for a bounded number of times", async () => {
    for (const [, failure, text] of wrong) {
      const world = await World.open();
      try {
        for (let n = 0; n < 5000; n++) world.server.fail(failure);
        const dimensions = DIMENSIONS;
        const embed = openAiEmbedder({ model: "model", url: world.server.url, dimensions });
        const error = await world.failure({ embed });
        const { kind, message } = error.cause as EmbedError;
        assertEquals([kind, isRetryable(error.cause)], ["embed-answer", false]);
        if (!/too few/.test(message)) {
          assertMatch(message, new RegExp(`${text.source}|vectors for`));
        }
        assertLess(Math.max(...world.asked().values()), 60);
        assertEquals((await world.store.points()).length, 0);
      } finally {
        await world.close();
      }
    }
  });

  test("of dimensions that the store does not take is the store's error, and names both", async () => {
    const world = await World.open();
    try {
      await world.fills();
      await world.table.query(`INSERT INTO $ VALUES (1000, 't', 'text 1000')`);
      const embed = openAiEmbedder({ model: "model", url: world.server.url, dimensions: 3 });
      const stream = world.stream({ embed });
      await stream.setup();
      const error = await within("start()", stream.start().then(() => null, (error) => error));
      assertInstanceOf(error, HandlerError);
      assertMatch((error.cause as Error).message, /3.*4|4.*3/);
      await world.fills();
    } finally {
      await world.close();
    }
  });
});

describe("a text that the embedder refuses", () => {
  /** Refuses calls with the text of row 77. */
  function refusing(server: OpenAiServer) {
    const embed = openAiEmbedder({ model: "model", url: server.url });
    return Object.assign(
      (texts: readonly string[], context: { signal: AbortSignal }) =>
        texts.includes("text 77")
          ? Promise.reject(
            new EmbedError("It is too long", {
              ...{ kind: "embed-refused", status: 400, hint: "Cut it" },
            }),
          )
          : embed(texts, context),
      { model: "model" },
    );
  }

  test("ends the stream, and names the row by its place; all before it is there", async () => {
    const world = await World.open();
    try {
      await world.table.query("UPDATE $ SET body = 'other' WHERE id = 77");
      await world.fills();
      await world.table.query(`BEGIN;
        INSERT INTO $ SELECT n, 't', 'more ' || n FROM generate_series(401, 420) n;
        INSERT INTO $ VALUES (421, 't', 'text 77');
        INSERT INTO $ SELECT n, 't', 'more ' || n FROM generate_series(422, 440) n;
        COMMIT`);
      const { cause, ordinal } = await world.failure({ embed: refusing(world.server) });
      assertEquals([(cause as EmbedError).kind, ordinal], ["embed-refused", 20]);
      assertEquals((await world.store.points()).filter(({ key }) => Number(key) > 400).length, 20);
      world.server.requests.length = 0;
      await world.fills();
      // What was embedded before is there.
      assertEquals(world.asked().size, 20);
    } finally {
      await world.close();
    }
  });

  test('is skipped with onFailure: "skip", alone; all others are there, embedded once', async () => {
    const world = await World.open();
    try {
      const skipped: (string | null)[] = [];
      const onFailure: PgStreamOptions["onFailure"] = ({ events, error }) => {
        skipped.push(...events.map(({ key }) => key));
        assertInstanceOf(error, EmbedError);
        return "skip";
      };
      await world.fills({ embed: refusing(world.server), without: [77] }, { onFailure });
      assertEquals(skipped, ["77"]);
      assertEquals([world.asked().size, Math.max(...world.asked().values())], [ROWS - 1, 1]);
      // Its next text is one that is taken.
      await world.table.query("UPDATE $ SET body = 'other' WHERE id = 77");
      await world.fills({ embed: refusing(world.server) }, { onFailure });
      assertEquals(skipped, ["77"]);
    } finally {
      await world.close();
    }
  });
});
