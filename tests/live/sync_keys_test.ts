/** Keys of synced tables: those that tell rows apart, and those that do not. */

import { assertEquals, assertRejects } from "@std/assert";
import { after, before, test } from "node:test";
import { MemorySink, PgStream, PgStreamError } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { started, uniqueName, until, within } from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

function streamOf(table: string, sink: MemorySink): PgStream {
  return new PgStream({ dsn: db.dsn, slotName: uniqueName("keys"), logger: false })
    .sink(sink)
    .sync(table, {
      text: (row) => row.body,
      embed: (texts) => Promise.resolve(texts.map((text) => [text.length, 1])),
      model: "m",
      payload: ["body"],
    });
}

test("a table whose changes do not tell the primary key is refused by setup(), with what to run", async () => {
  const shapes = [
    (table: string) =>
      `CREATE TABLE ${table} (id int, body text); ALTER TABLE ${table} REPLICA IDENTITY FULL`,
    (table: string) =>
      `CREATE TABLE ${table} (id int PRIMARY KEY, slug text NOT NULL, body text);
      CREATE UNIQUE INDEX ${table}_slug ON ${table} (slug);
      ALTER TABLE ${table} REPLICA IDENTITY USING INDEX ${table}_slug`,
  ];
  for (const shape of shapes) {
    const table = uniqueName("keyless");
    await db.query(shape(table));
    const stream = streamOf(table, new MemorySink());
    const error = await assertRejects(() => stream.setup(), PgStreamError, `public.${table}`);
    assertEquals(error.kind, "sync-key");
    await within("the end", stream.teardown());
    await db.query(`DROP TABLE ${table}`);
  }
});

test("rows that all move up one key in a statement, or change places, more than a batch of them, are all there", async () => {
  const table = uniqueName("moved");
  await db.query(
    `CREATE TABLE ${table} (id int PRIMARY KEY DEFERRABLE, body text);
    ALTER TABLE ${table} REPLICA IDENTITY FULL;
    INSERT INTO ${table} SELECT n, 'body ' || n FROM generate_series(1, 2500) n`,
  );
  const sink = new MemorySink();
  const stream = streamOf(table, sink);
  const stored = () =>
    sink.points()
      .map(({ id, payload }) => `${JSON.parse(id)[1]}: ${payload.body}`)
      .sort();
  const agrees = () =>
    until("the store to agree", async () => {
      const rows = await db.query(`SELECT id || ': ' || body AS said FROM ${table}`);
      return `${stored()}` === `${rows.map(({ said }) => said).sort()}`;
    });
  try {
    await stream.setup();
    const running = await started(stream);
    await agrees();
    await db.query(`UPDATE ${table} SET id = id + 1`);
    await agrees();
    await db.query(`UPDATE ${table} SET id = 2503 - id`);
    await agrees();
    await running.stop();
  } finally {
    await within("the end", stream.teardown());
    await db.query(`DROP TABLE ${table}`);
  }
});
