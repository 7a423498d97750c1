/** What a stream's metrics, probes and spans say, beside what was done and what the server says. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { context, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import parsePrometheus from "parse-prometheus-text-format";
import { after, before, describe, test } from "node:test";
import { MemorySink, PgStream, PgStreamError, type PgStreamOptions } from "../../mod.ts";
import { serveMetrics } from "../../src/cli/metrics_server.ts";
import { openTelemetry, readSlots, StreamMetrics } from "../../src/inspect/mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { started, uniqueName, until } from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(async () => {
  await db?.stop();
});

/** What passes by itself, with words that nobody else is to see. */
function busy(): PgStreamError {
  return new PgStreamError("canary", { kind: "busy", retryable: true });
}

interface Family {
  name: string;
  metrics: { value?: string; labels?: Record<string, string>; count?: string }[];
}

/** As a scraper without OpenMetrics reads it. */
async function scrape(url: string): Promise<(name: string, labels?: string) => number> {
  const response = await fetch(`${url}/metrics`);
  assertMatch(response.headers.get("content-type")!, /^text\/plain; version=0\.0\.4/);
  const families = parsePrometheus(await response.text()) as Family[];
  return (name, labels = "{}") => {
    const family = families.find((family) => family.name === `pgstream_${name}`);
    const found = family?.metrics.find((metric) => JSON.stringify(metric.labels ?? {}) === labels);
    return Number(found?.value ?? found?.count ?? NaN);
  };
}

async function probe(url: string, path: string): Promise<[status: number, text: string]> {
  const response = await fetch(url + path);
  return [response.status, (await response.text()).trim()];
}

/** A synced table with a stream that is measured. */
async function measured(
  { embed, ...options }: PgStreamOptions & {
    embed?: (texts: readonly string[]) => Promise<number[][]>;
  } = {},
) {
  const table = uniqueName("measured");
  const slotName = uniqueName("measured");
  await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY, body text)`);
  const metrics = new StreamMetrics({ slot: { dsn: db.dsn, slotName, logger: false } });
  const sink = new MemorySink();
  const stream = new PgStream({
    dsn: db.dsn,
    slotName,
    logger: false,
    observer: metrics,
    retry: { minDelayMs: 1, maxDelayMs: 1 },
    ...options,
  }).sink(sink);
  stream.sync(table, {
    text: (row) => row.body as string,
    embed: embed ?? ((texts) => Promise.resolve(texts.map((text) => [text.length]))),
    model: "length@1",
    // Rows that are written while it starts would be handed out twice.
    backfill: "never",
    batch: { retry: { attempts: 2, minDelayMs: 1, maxDelayMs: 1 } },
  });
  await stream.setup();
  const server = await serveMetrics({
    port: 0,
    host: "127.0.0.1",
    stream,
    metrics,
    maxLagSeconds: 5,
  });
  const end = async () => {
    await server.close();
    await stream.stop();
    await stream.teardown();
    await db.query(`DROP TABLE ${table}`);
  };
  return { table, slotName, stream, metrics, sink, url: server.url, end };
}

describe("metrics of a stream", () => {
  test("are what was done: changes by table, texts, rows, failures, retries", async () => {
    let calls = 0;
    const { table, stream, url, end } = await measured({
      embed: (texts) => {
        if (++calls === 1) return Promise.reject(busy());
        return Promise.resolve(texts.map((text) => [text.length]));
      },
    });
    await db.query(`INSERT INTO ${table} SELECT n, 'text ' || n FROM generate_series(1, 30) n`);
    const running = await started(stream);
    await until("the rows", () => stream.status().events.insert === 30);
    await db.query(`UPDATE ${table} SET body = 'other' WHERE id <= 10`);
    await db.query(`DELETE FROM ${table} WHERE id > 25`);
    await until("the changes", () => stream.status().events.delete === 5);
    const value = await scrape(url);
    const changes = (operation: string) =>
      value("changes_total", JSON.stringify({ table: `public.${table}`, operation }));
    assertEquals(["insert", "update", "delete", "truncate"].map(changes), [30, 10, 5, 0]);
    // Ten rows have one text now.
    assertEquals(value("embedded_texts_total"), 31);
    assertEquals(value("embed_failures_total"), 1);
    assertEquals(value("embed_duration_seconds"), calls);
    assert(value("written_rows_total") >= 30);
    assert(value("batch_duration_seconds") >= 1);
    assertEquals(value("state", '{"state":"streaming"}'), 1);
    await running.stop();
    await end();
  });

  test("say how far behind the slot is as the server does, and near nothing where it stands still", async () => {
    const held = Promise.withResolvers<void>();
    let asked = false;
    const { table, slotName, stream, url, end } = await measured({
      embed: async (texts) => {
        asked = true;
        await held.promise;
        return texts.map((text) => [text.length]);
      },
    });
    const running = await started(stream);
    await db.query(`INSERT INTO ${table} VALUES (1, 'held')`);
    const committed = (await db.query<{ now: string }>("SELECT now()::text"))[0]!.now;
    await until("the embedder", () => asked);
    await db.query(
      `CREATE TABLE ${table}_other AS SELECT repeat('x', 500) FROM generate_series(1, 4000)`,
    );
    const [server] = await readSlots({ dsn: db.dsn, slotName, logger: false });
    const value = await scrape(url);
    assert(server!.lagBytes! > 1_000_000, `${server!.lagBytes}`);
    const near = (found: number, wanted: number) =>
      assert(Math.abs(found - wanted) <= wanted * 0.05, `${found}, not ${wanted}`);
    near(value("slot_lag_bytes"), server!.lagBytes!);
    near(value("slot_retained_wal_bytes"), server!.retainedWalBytes!);
    assertEquals(value("slot_active"), 1);
    const [row] = await db.query<{ bytes: string }>(
      `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::text AS bytes
        FROM pg_replication_slots WHERE slot_name = $1`,
      [slotName],
    );
    near(value("slot_lag_bytes"), Number(row!.bytes));
    const seconds = await until("a lag in seconds", () => stream.status().lagSeconds || null);
    const [age] = await db.query<{ seconds: number }>(
      "SELECT EXTRACT(epoch FROM now() - $1::timestamptz)::float AS seconds",
      [committed],
    );
    assert(Math.abs(age!.seconds - seconds) <= Math.max(0.3, seconds * 0.05));
    held.resolve();
    await until("the row", () => stream.status().events.insert === 1);
    await running.stop();
    await db.query(`DROP TABLE ${table}_other`);
    await end();
  });

  test("are served as OpenMetrics to who asks for it, and nothing else is served", async () => {
    const { url, end } = await measured();
    const response = await fetch(`${url}/metrics`, {
      headers: { accept: "application/openmetrics-text; version=1.0.0, text/plain;q=0.5" },
    });
    assertMatch(response.headers.get("content-type")!, /^application\/openmetrics-text/);
    assertMatch(await response.text(), /\n# EOF\n$/);
    assertEquals((await probe(url, "/"))[0], 404);
    const posted = await fetch(`${url}/metrics`, { method: "POST" });
    assertEquals(posted.status, 405);
    await posted.body?.cancel();
    await end();
  });

  test("are refused where another process listens there, with the way out", async () => {
    const { url, stream, metrics, end } = await measured();
    const port = Number(new URL(url).port);
    const options = { port, host: "127.0.0.1", stream, metrics, maxLagSeconds: 5 };
    const error = await assertRejects(() => serveMetrics(options), Error, "EADDRINUSE");
    assertMatch(error.message, /choose another --metrics-port/);
    await end();
  });
});

describe("probes of a stream", () => {
  test("tell that it is alive from the beginning, ready only while it streams, and why not", async () => {
    const { stream, url, end } = await measured();
    assertEquals(await probe(url, "/readyz"), [503, "the stream is idle"]);
    assertEquals(await probe(url, "/healthz"), [200, "ok"]);
    const running = await started(stream);
    await until("it to stream", () => stream.status().state === "streaming");
    assertEquals(await probe(url, "/readyz"), [200, "ok"]);
    await running.stop();
    assertEquals(await probe(url, "/readyz"), [503, "the stream is stopped"]);
    assertEquals(await probe(url, "/healthz"), [503, "the stream is stopped"]);
    await end();
  });

  test("tell that it failed, and that it is behind", async () => {
    const late = { state: "streaming", lagSeconds: 6 };
    const { table, stream, url, metrics, end } = await measured({
      embed: () => Promise.reject(new Error("never")),
      retry: { attempts: 1 },
    });
    const server = await serveMetrics({
      port: 0,
      host: "127.0.0.1",
      metrics,
      maxLagSeconds: 5,
      stream: { status: () => ({ ...stream.status(), ...late }) },
    });
    assertEquals(await probe(server.url, "/readyz"), [
      503,
      "the stream is 6 s behind, more than 5 s",
    ]);
    await server.close();
    await db.query(`INSERT INTO ${table} VALUES (1, 'x')`);
    await assertRejects(() => stream.start());
    assertEquals(await probe(url, "/healthz"), [503, "the stream is failed"]);
    await end();
  });
});

describe("spans of a stream", () => {
  test("are of batches, and within them of embedding and of writes; errors by their kind alone", async () => {
    const exporter = new InMemorySpanExporter();
    const provider = new BasicTracerProvider({
      spanProcessors: [new SimpleSpanProcessor(exporter)],
    });
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    trace.setGlobalTracerProvider(provider);
    let calls = 0;
    const { table, stream, end } = await measured({
      observer: openTelemetry({ trace }),
      embed: (texts) => {
        if (++calls === 1) return Promise.reject(busy());
        return Promise.resolve(texts.map((text) => [text.length]));
      },
    });
    const running = await started(stream);
    await db.query(`INSERT INTO ${table} VALUES (1, 'one'), (2, 'two')`);
    await until("the rows", () => stream.status().events.insert === 2);
    await running.stop();
    await end();
    const spans = exporter.getFinishedSpans();
    const named = (name: string) => spans.filter((span) => span.name === `pgstream.${name}`);
    // The rows may come in two batches, where one of them is read before the other.
    const sizes = (name: string) =>
      named(name).filter(({ status }) => status.code === 0)
        .reduce((sum, { attributes }) => sum + Number(attributes["pgstream.size"]), 0);
    assertEquals([sizes("batch"), sizes("embed"), sizes("sink")], [2, 2, 2]);
    const failed = named("embed").find(({ status }) => status.code !== 0)!;
    assertEquals(failed.status, { code: 2, message: "busy" });
    assertEquals(failed.attributes["error.type"], "busy");
    const batches = named("batch").map((span) => span.spanContext().spanId);
    for (const { parentSpanContext } of [...named("embed"), ...named("sink")]) {
      assert(batches.includes(parentSpanContext!.spanId));
    }
    const told = spans.map(({ name, attributes, status, events }) => ({
      name,
      attributes,
      status,
      events,
    }));
    assert(!JSON.stringify(told).includes("canary"));
    trace.disable();
    context.disable();
  });
});
