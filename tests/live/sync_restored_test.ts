/** A store of vectors that was restored from a backup. */

import { assertEquals, assertRejects } from "@std/assert";
import { test } from "node:test";
import postgres from "postgres";
import { PgStream, PgStreamError } from "../../mod.ts";
import { PgVectorSink } from "../../src/sinks/pgvector.ts";
import { startPgvector } from "../support/servers/pgvector.ts";
import { testPostgres } from "../support/servers/test_postgres.ts";
import { started, uniqueName, until } from "../support/streams.ts";

test("a store that lacks what was confirmed is told of, and right again by what the error says to do", async () => {
  const db = await testPostgres();
  const store = await startPgvector();
  const sql = postgres(store.dsn, { max: 1, onnotice: () => {} });
  const table = uniqueName("docs");
  const slotName = uniqueName("sync");
  const texts: string[] = [];
  const open = () =>
    new PgStream({ dsn: db.dsn, slotName, logger: false })
      .sink(new PgVectorSink({ sql, createTable: { dimensions: 2 } }))
      .sync(table, {
        text: (row) => row.body,
        embed: (asked) => {
          texts.push(...asked);
          return Promise.resolve(asked.map((text) => [text.length, 1]));
        },
        model: "length@1",
        payload: ["body"],
      });
  const stored = async () =>
    (await sql`SELECT source_key || (payload->>'body') AS row FROM embeddings`)
      .map(({ row }) => row as string).sort();
  const wanted = async () =>
    (await db.query<{ row: string }>(`SELECT id || body AS row FROM ${table}`))
      .map(({ row }) => row).sort();
  const agrees = () =>
    until("the store to agree", async () => `${await stored()}` === `${await wanted()}`);
  /** Starts, waits, stops. */
  const follow = async (work: (stream: PgStream) => Promise<unknown>) => {
    const stream = open();
    await stream.setup();
    const running = await started(stream);
    try {
      await work(stream);
    } finally {
      await running.stop();
    }
  };
  try {
    await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY, body text);
      INSERT INTO ${table} VALUES (1, 'one'), (2, 'two'), (3, 'three')`);
    await follow(agrees);
    for (const name of ["embeddings", "pgstream_positions"]) {
      await sql`CREATE TABLE ${sql(`${name}_backup`)} AS SELECT * FROM ${sql(name)}`;
    }
    await db.query(`DELETE FROM ${table} WHERE id = 1; INSERT INTO ${table} VALUES (4, 'four');
      UPDATE ${table} SET body = 'deux' WHERE id = 2`);
    await follow(agrees);
    for (const name of ["embeddings", "pgstream_positions"]) {
      await sql`TRUNCATE ${sql(name)}`;
      await sql`INSERT INTO ${sql(name)} SELECT * FROM ${sql(`${name}_backup`)}`;
    }

    const error = await assertRejects(() => open().start(), PgStreamError);
    assertEquals(error.kind, "sync-behind");

    texts.splice(0);
    await open().teardown();
    await follow(async (stream) => {
      await until("what was missing", async () => (await stored()).includes("4four"));
      await stream.verify(table, { repair: true });
      assertEquals(await stored(), await wanted());
    });
    assertEquals(texts.sort(), ["deux", "four"]);
  } finally {
    await open().teardown();
    await db.query(`DROP TABLE ${table}`);
    await sql.end();
    await store.stop();
    await db.stop();
  }
});
