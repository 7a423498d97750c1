/** What the server tells a stream nothing of, and what a store has wrong for it: a filter that changes, partitions. */

import { assertEquals } from "@std/assert";
import { after, before, test } from "node:test";
import { MemorySink, PgStream } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { started, uniqueName, until } from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

const embed = (texts: readonly string[]) => Promise.resolve(texts.map((text) => [text.length, 1]));

/** Keys of the rows that it has. */
function keys(sink: MemorySink): string[] {
  return sink.points().map(({ id }) => JSON.parse(id)[1]).sort();
}

test("rows that fit a new filter, and those that fit it no more, are right once they are verified", async () => {
  const table = uniqueName("docs");
  const slotName = uniqueName("sync");
  const sink = new MemorySink();
  const open = (where: string) => {
    const stream = new PgStream({ dsn: db.dsn, slotName, logger: false }).sink(sink);
    stream.watch(table, { columns: ["id", "body"], where });
    return stream.sync(table, { text: (row) => row.body, embed, model: "length@1" });
  };
  await db.query(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text, other text);
    INSERT INTO ${table} SELECT n, 'text ' || n FROM generate_series(1, 4) n`);
  try {
    const first = open("id > 2");
    await first.setup();
    const running = await started(first);
    await until("the first rows", () => sink.size === 2);
    await running.stop();

    const second = open("id < 4");
    await second.setup();
    const again = await started(second);
    const { missing, orphaned, repaired } = await second.verify(table, { repair: true });
    await again.stop();
    assertEquals([missing, orphaned, repaired], [2, 1, 3]);
    assertEquals(keys(sink), ["1", "2", "3"]);
  } finally {
    await open("id < 4").teardown();
    await db.query(`DROP TABLE ${table}`);
  }
});

test("rows of partitions that were truncated or detached are gone once they are verified", async () => {
  const table = uniqueName("parts");
  const sink = new MemorySink();
  const stream = new PgStream({ dsn: db.dsn, slotName: uniqueName("sync"), logger: false });
  stream.sink(sink).sync(table, { text: (row) => row.body, embed, model: "length@1" });
  await db.query(`CREATE TABLE ${table} (day int PRIMARY KEY, body text) PARTITION BY LIST (day);
    CREATE TABLE ${table}_1 PARTITION OF ${table} FOR VALUES IN (1);
    CREATE TABLE ${table}_2 PARTITION OF ${table} FOR VALUES IN (2);
    CREATE TABLE ${table}_3 PARTITION OF ${table} FOR VALUES IN (3);
    INSERT INTO ${table} VALUES (1, 'one'), (2, 'two'), (3, 'three')`);
  try {
    await stream.setup();
    const running = await started(stream);
    await until("the rows", () => sink.size === 3);
    await db.query(`TRUNCATE ${table}_1; ALTER TABLE ${table} DETACH PARTITION ${table}_2`);
    const { orphaned, repaired } = await stream.verify(table, { repair: true });
    await running.stop();
    assertEquals([orphaned, repaired], [2, 2]);
    assertEquals(keys(sink), ["3"]);
  } finally {
    await stream.teardown();
    await db.query(`DROP TABLE ${table}, ${table}_2`);
  }
});
