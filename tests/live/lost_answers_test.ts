/** A network that loses the store's answers: what was written is written again, and nothing older comes last. */

import { assertEquals, assertGreater } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, PgStream, type Sink, type SinkLike } from "../../mod.ts";
import { PgVectorSink } from "../../src/sinks/pgvector.ts";
import { QdrantSink } from "../../src/sinks/qdrant.ts";
import { seededRandom } from "../support/random.ts";
import { startPgvector } from "../support/servers/pgvector.ts";
import { startQdrant } from "../support/servers/qdrant.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  type Contents,
  pgvectorContents,
  qdrantContents,
  tableContents,
  vectorOf,
  writeAtRandom,
} from "../support/store_model.ts";
import { TcpProxy } from "../support/tcp_proxy.ts";
import { newTable, openClient, sleep, started, until } from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

/** Each change as it comes: the sink alone decides what becomes of two writes to one id. */
async function write(events: readonly ChangeEvent[], sink: Sink): Promise<void> {
  for (const event of events) {
    if (event.oldKey !== null) await sink.delete(event.oldKey);
    if (event.operation === "delete") await sink.delete(event.key!);
    else {
      const { v } = event.row as { v: string };
      await sink.upsert({ id: event.key!, vector: vectorOf(v), payload: { v } });
    }
  }
}

async function follow(
  batch: boolean,
  proxy: TcpProxy,
  makeSink: (table: string) => SinkLike,
  contents: (table: string) => Promise<Contents>,
): Promise<void> {
  const seed = Date.now() & 0xffff;
  console.log(`seed ${seed}`);
  const random = seededRandom(seed);
  const { table, slotName, teardown } = await newTable(db, "answers");
  const stream = new PgStream({
    dsn: db.dsn,
    slotName,
    logger: false,
    concurrency: 4,
    retry: { attempts: 1000, minDelayMs: 2, maxDelayMs: 20 },
  }).watch(table).sink(makeSink(table));
  /** Keys whose changes are in hand twice at once. */
  const inHand = new Set<string>();
  const together: string[] = [];
  const handle = async (events: ChangeEvent[], sink: Sink) => {
    const keys = new Set(
      events.flatMap(({ key, oldKey }) => [key!, ...oldKey === null ? [] : [oldKey]]),
    );
    for (const key of keys) if (inHand.has(key)) together.push(key);
    for (const key of keys) inHand.add(key);
    try {
      await write(events, sink);
    } finally {
      for (const key of keys) inHand.delete(key);
    }
  };
  if (batch) {
    stream.onBatch((events, sink) => handle(events as ChangeEvent[], sink), { maxEvents: 5 });
  } else stream.onChange((event, sink) => handle([event as ChangeEvent], sink));
  const running = await started(stream);
  let writing = true;
  const losing = (async () => {
    while (writing) {
      proxy.losesAnswers = false;
      await sleep(random() * 60);
      proxy.losesAnswers = true;
      await sleep(random() * 15);
    }
    proxy.losesAnswers = false;
  })();
  try {
    await writeAtRandom(db, table, { seed, transactions: 100, keys: 12 });
    const { transactions } = stream.status();
    await until("a good part", () => {
      const status = stream.status();
      return status.retries >= 5 && status.transactions >= transactions;
    }, 30_000);
  } finally {
    writing = false;
    await losing;
  }
  await db.query(`INSERT INTO ${table} VALUES (1000, 'the last')`);
  const { promise: handled, resolve } = Promise.withResolvers<void>();
  const watching = setInterval(() => {
    if (stream.status().lagBytes === 0 && stream.status().queueBytes === 0) resolve();
  }, 50);
  await until("the last row", async () => (await contents(table))["1000"] !== undefined, 30_000);
  await handled;
  clearInterval(watching);
  const { retries, state, skipped } = stream.status();
  await running.stop();
  assertEquals({ state, skipped, together }, { state: "streaming", skipped: 0, together: [] });
  assertEquals(await contents(table), await tableContents(db, table), `seed ${seed}`);
  assertGreater(proxy.lost, 0, `seed ${seed}`);
  console.log(`${proxy.lost} answers lost, ${retries} retries`);
  await teardown();
}

describe("a store whose answers are lost ends as the table does:", () => {
  for (const how of ["event", "batch"]) {
    test(`Qdrant, by ${how} (33)`, async () => {
      const server = await startQdrant();
      const proxy = await TcpProxy.start(server.url);
      try {
        await follow(
          how === "batch",
          proxy,
          (collectionName) =>
            new QdrantSink({
              url: proxy.through(server.url),
              collectionName,
              createCollection: { size: 3, distance: "Dot" },
            }),
          (table) => qdrantContents(server.url, table),
        );
        // What is not waited for, or may be applied in another order, proves nothing.
        const writes = server.requests.filter(({ path }) => /\/points(\/delete)?$/.test(path));
        assertGreater(writes.length, 0);
        assertEquals(
          new Set(writes.map(({ query }) => query)),
          new Set(["?wait=true&ordering=strong"]),
        );
      } finally {
        await proxy.stop();
        await server.close();
      }
    });

    test(`pgvector, by ${how} (33)`, async () => {
      const server = await startPgvector();
      const sql = openClient(server.dsn);
      const proxy = await TcpProxy.start(server.dsn);
      try {
        await follow(
          how === "batch",
          proxy,
          (table) =>
            new PgVectorSink({
              dsn: proxy.through(server.dsn),
              table,
              createTable: { dimensions: 3 },
            }),
          (table) => pgvectorContents(sql, table),
        );
      } finally {
        await sql.end({ timeout: 1 });
        await proxy.stop();
        await server.stop();
      }
    });
  }
});
