/** From a commit to a vector: the README's handler, and each store. */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { MemorySink, PgStream, type SinkLike } from "../../mod.ts";
import { PgVectorSink } from "../../src/sinks/pgvector.ts";
import { QdrantSink } from "../../src/sinks/qdrant.ts";
import { LONG_TEXT } from "../support/scenario.ts";
import { startPgvector } from "../support/servers/pgvector.ts";
import { startQdrant } from "../support/servers/qdrant.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { openClient, started, uniqueName, until } from "../support/streams.ts";

/** Any text has a vector; equal texts have equal ones. */
function embed(text: string): Promise<number[]> {
  let [a, b, c] = [1, 1, 1];
  for (const char of text) [a, b, c] = [b, c, (a * 31 + char.codePointAt(0)!) % 997];
  return Promise.resolve([a, b, c]);
}

describe("the quick start's handler keeps a store in step with the table", () => {
  let db: TestPostgres;
  before(async () => {
    db = await testPostgres();
    await db.query(
      `CREATE TABLE documents (id bigint PRIMARY KEY, content text NOT NULL, views int);
      ALTER TABLE documents ALTER content SET STORAGE EXTERNAL`,
    );
  });
  after(() => db?.stop());

  async function follow(sink: SinkLike): Promise<Map<string, string>> {
    await db.query("TRUNCATE documents");
    const slotName = uniqueName();
    const stream = new PgStream({ dsn: db.dsn, slotName, logger: false });
    stream.watch("documents").sink(sink);
    let handled = 0;
    stream.onChange(async (event, sink) => {
      if (event.operation === "insert" || event.operation === "update") {
        if (event.unchanged.includes("content")) return;
        if (event.oldKey !== null) await sink.delete(event.oldKey);
        await sink.upsert({
          id: event.key,
          vector: await embed(event.row.content),
          payload: { content: event.row.content },
        });
      } else if (event.operation === "delete") {
        await sink.delete(event.key);
      }
    });
    stream.onChange(() => void handled++);
    await stream.setup();
    const running = await started(stream);
    try {
      await db.query(`INSERT INTO documents SELECT n, 'text ' || n FROM generate_series(1, 20) n`);
      await db.query(`UPDATE documents SET content = ${LONG_TEXT} WHERE id <= 4`);
      await db.query("UPDATE documents SET views = 1 WHERE id <= 6");
      await db.query("UPDATE documents SET id = id + 9007199254740992 WHERE id > 17");
      await db.query("DELETE FROM documents WHERE id BETWEEN 8 AND 10");
      await db.query("INSERT INTO documents VALUES (9, '🦆 \uFEFF \"''\\')");
      await db.query(
        "DELETE FROM documents WHERE id = 99; UPDATE documents SET views = 2 WHERE id = 9",
      );
      await until("all changes", () => handled >= 38 || stream.status().state === "failed");
      const { events } = stream.status();
      assertEquals(events, { insert: 21, update: 14, delete: 3, truncate: 0 });
      await running.stop();
    } finally {
      await stream.stop();
      await stream.teardown();
    }
    const rows = await db.query<{ id: string; content: string }>(
      "SELECT id::text, content FROM documents",
    );
    return new Map(rows.map(({ id, content }) => [id, content]));
  }

  test("in memory", async () => {
    const sink = new MemorySink();
    const rows = await follow(sink);
    assertEquals(
      new Map(sink.points().map(({ id, payload }) => [id, payload.content as string])),
      rows,
    );
    for (const [id, content] of rows) {
      assertEquals([...sink.get(id)!.vector], await embed(content));
    }
  });

  test("in pgvector", async () => {
    const server = await startPgvector();
    const sql = openClient(server.dsn);
    try {
      const rows = await follow(
        new PgVectorSink({ dsn: server.dsn, createTable: { dimensions: 3 } }),
      );
      const stored = await sql.unsafe(
        "SELECT id, vector::text, payload->>'content' AS content FROM embeddings",
      );
      assertEquals(new Map(stored.map(({ id, content }) => [id, content])), rows);
      for (const { vector, content } of stored) {
        assertEquals(JSON.parse(vector), await embed(content));
      }
    } finally {
      await sql.end({ timeout: 1 });
      await server.stop();
    }
  });

  test("in Qdrant", async () => {
    const server = await startQdrant();
    try {
      const options = { url: server.url, collectionName: "docs" };
      const rows = await follow(
        new QdrantSink({ ...options, createCollection: { size: 3, distance: "Dot" } }),
      );
      const reader = new QdrantSink(options);
      const hits = await reader.search([1, 1, 1], { limit: 100 });
      assertEquals(new Map(hits.map(({ id, payload }) => [id, payload.content as string])), rows);
      for (
        const { content, score } of hits.map((hit) => ({ ...hit, content: hit.payload.content }))
      ) {
        const [a, b, c] = await embed(content as string);
        assertAlmostEquals(score, a! + b! + c!, 0.01);
      }
    } finally {
      await server.close();
    }
  });
});
