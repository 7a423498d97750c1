/** Events for tests are, but for their place and time, those that a real server's changes become. */

import { assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import type { ChangeEvent } from "../../mod.ts";
import { insert, remove, TestServer, truncate, update } from "../../src/testing/mod.ts";
import { PgStream } from "../../mod.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { collect } from "../support/streams.ts";

const LARGE = "x".repeat(10_000);
const TAG_KEY = { key: ["article", "tag"] };

/** What is run, and what a test with no server would say of it. One statement is one transaction. */
const story: { sql: string; events: ChangeEvent[] }[] = [
  {
    sql: `INSERT INTO documents VALUES (1, 'a', '${LARGE}', true), (2, NULL, NULL, false)`,
    events: [
      insert("documents", { id: 1, title: "a", content: LARGE, live: true }),
      insert("documents", { id: 2, title: null, content: null, live: false }),
    ],
  },
  {
    sql: "UPDATE documents SET title = 'b' WHERE id = 1",
    events: [update("documents", { id: 1, title: "b", live: true }, { unchanged: ["content"] })],
  },
  {
    sql: "UPDATE documents SET id = 3 WHERE id = 2",
    events: [update(
      "documents",
      { id: 3, title: null, content: null, live: false },
      { oldRow: { id: 2 } },
    )],
  },
  { sql: "DELETE FROM documents WHERE id = 3", events: [remove("documents", { id: 3 })] },
  {
    sql: `INSERT INTO pages VALUES (1, '${LARGE}', 1.50)`,
    events: [insert("pages", { id: 1, content: LARGE, price: "1.50" })],
  },
  {
    sql: "UPDATE pages SET price = 2",
    events: [update("pages", { id: 1, price: "2.00" }, {
      oldRow: { id: 1, content: LARGE, price: "1.50" },
      unchanged: ["content"],
    })],
  },
  {
    sql: "DELETE FROM pages",
    events: [remove("pages", { id: 1, content: LARGE, price: "2.00" })],
  },
  {
    sql: "INSERT INTO blog.tags VALUES ('x', 7); DELETE FROM blog.tags",
    events: [
      insert("blog.tags", { tag: "x", article: 7 }, TAG_KEY),
      remove("blog.tags", { tag: "x", article: 7 }, TAG_KEY),
    ],
  },
  {
    sql: "INSERT INTO logs VALUES ('line', 3)",
    events: [insert("logs", { line: "line", level: 3 }, { key: [] })],
  },
  { sql: "TRUNCATE documents", events: [truncate("documents")] },
];

const WATCHED = ["documents", "pages", "blog.tags", "logs"];

/** All but where and when; rows with their columns in order. */
function told(events: readonly ChangeEvent[]): unknown[] {
  const places = new Map(events.map(({ lsn }) => [lsn, 0]));
  [...places.keys()].forEach((lsn, transaction) => places.set(lsn, transaction));
  return events.map(({ commitTime: _time, xid: _xid, lsn, ...event }) => ({
    ...event,
    transaction: places.get(lsn),
    columns: Object.keys(event.row),
  }));
}

/** By the type's name, values of it. */
const GIVEN: [type: string, value: unknown][] = [
  ["bool", true],
  ["float8", -0],
  ["float8", 1e21],
  ["float8", Infinity],
  ["float8", 1e-7],
  ["int8", -(2n ** 63n)],
  ["bytea", Uint8Array.of(0, 255)],
  ["timestamptz", new Date(Date.UTC(2026, 0, 31, 12, 0, 0, 120))],
  ["timestamptz", new Date(-63_000_000_000_000)],
  ["timestamptz", new Date(Date.UTC(20026, 0, 31))],
  ["timestamp", new Date(2026, 6, 31, 12)],
  ["jsonb", { b: [1, { c: null }], aa: 'x"', big: 2n ** 60n, "": true, é: {}, z: [] }],
  ["_text", ["", "NULL", 'a"b\\', "{}", " ", "a,b", null, "7", "a;b"]],
  ["_float8", [[1, 2], [-0.5, NaN]]],
  ["_bool", [true, null]],
  ["_timestamptz", [new Date(0)]],
  ["_bytea", [Uint8Array.of(1)]],
  ["_jsonb", [{ a: "b" }, [1], null, "{}"]],
];

function nameValue([, value]: [string, unknown], at: number): [string, unknown] {
  return [`v${at}`, value];
}

for (const major of testMajors(18, 14)) {
  describe(`what PostgreSQL ${major} tells of changes`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
    });
    after(() => db?.stop());

    test("is what events for tests tell of them", async () => {
      await db.query(`CREATE SCHEMA blog;
        CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text, live bool);
        CREATE TABLE pages (id int PRIMARY KEY, content text, price numeric(8, 2));
        CREATE TABLE blog.tags (tag text, article int, PRIMARY KEY (article, tag));
        CREATE TABLE logs (line text, level int);
        ALTER TABLE documents ALTER content SET STORAGE EXTERNAL;
        ALTER TABLE pages ALTER content SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
        ALTER TABLE logs REPLICA IDENTITY FULL`);
      const real = await collect(db, WATCHED);
      for (const { sql } of story) await db.query(sql);
      const events = [...await real.drain()];
      await real.stop();

      const stream = new PgStream({ logger: false }).watch(...WATCHED).onChange(() => {});
      const { handled } = await new TestServer(stream).feed(story.map(({ events }) => events));
      assertEquals(told(handled), told(events));
    });

    test("is printed as values that are no text are printed for tests", async () => {
      const columns = GIVEN.map(([type], at) => `v${at} ${type}`);
      const texts = insert("printed", { id: 1, ...Object.fromEntries(GIVEN.map(nameValue)) }, {
        types: Object.fromEntries(GIVEN.map(([type], at) => [`v${at}`, type])),
      }).row as Record<string, string>;
      await db.query(`CREATE TABLE printed (id int PRIMARY KEY, ${columns.join()})`);
      const real = await collect(db, ["printed"]);
      const values = Object.values(texts).map((text) => `'${text.replaceAll("'", "''")}'`);
      await db.query(`INSERT INTO printed VALUES (${values.join()})`);
      const [event] = await real.drain();
      await real.stop();
      assertEquals({ ...event!.row }, { ...texts });
    });
  });
}
