/** Rows that are read to be compared: those that events tell of, whatever their keys are, and what they show. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { BackfillError, formatLsn, PgStream } from "../../mod.ts";
import { TableReader } from "../../src/backfill/table_reader.ts";
import type { AnyRow } from "../../src/change.ts";
import { ValueTypes } from "../../src/delivery/row_values.ts";
import { parseTableName } from "../../src/table_name.ts";
import { Connector } from "../../src/wire/connector.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { openClient, uniqueName, until, within } from "../support/streams.ts";

interface Case {
  name: string;
  table: string;
  /** Makes the table. */
  create: string;
  /** A SELECT of the rows. */
  rows: string;
  /** Keys that no row has. */
  others: string[];
  since?: number;
  watch?: { columns?: string[]; where?: string };
  /** How many rows there are. Default: 40. */
  count?: number;
}

const series = "generate_series(1, 40) i";

const CASES: Case[] = [
  {
    name: "a number",
    table: "by_int",
    create: "CREATE TABLE by_int (id int PRIMARY KEY, v text, n numeric, j jsonb)",
    rows: `SELECT i * 3 - 50, 'v' || i, i / 7.0, '{"a": [1, null]}'::jsonb FROM ${series}`,
    others: ["0", "007", "x", "", "99999999999999", "-47 ", '["1"]', "1\0", "\ud800"],
  },
  {
    name: "a text by a collation of its own",
    table: "by_text",
    create: `CREATE TABLE by_text (id text COLLATE "C" PRIMARY KEY, v bigint)`,
    rows: `SELECT chr(64 + i) || E'it''s \\\\ \\t "' || i, i FROM ${series}`,
    others: ["A", "", "\\N", "\n"],
  },
  {
    name: "a text by a collation for which several texts are one",
    table: "by_folded",
    create:
      `CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      CREATE TABLE by_folded (id text COLLATE folded PRIMARY KEY, v int)`,
    rows: `SELECT CASE WHEN i % 2 = 0 THEN 'Key' ELSE 'kEY' END || i, i FROM ${series}`,
    others: ["key1", "KEY2", "key2"],
    since: 15,
  },
  {
    name: "a uuid",
    table: "by_uuid",
    create: "CREATE TABLE by_uuid (id uuid PRIMARY KEY, v date)",
    rows: `SELECT md5(i::text)::uuid, date '2020-01-01' + i FROM ${series}`,
    others: [
      "c4ca4238-a0b9-2382-0dcc-509a6f75849c",
      "not-one",
      "C4CA4238-A0B9-2382-0DCC-509A6F75849B",
    ],
  },
  {
    name: "several columns",
    table: "by_three",
    create: "CREATE TABLE by_three (v text, b text, a int, c date, PRIMARY KEY (a, b, c))",
    rows: `SELECT 'v', 'b"' || i % 5, i / 5, date '2020-01-01' + i FROM ${series}`,
    others: ['["1","b","2020-01-01"]', '["1"]', '["x","b","y"]', "7", "[", '["1","b",null]', "{}"],
  },
  {
    name: "bytes",
    table: "by_bytes",
    create: "CREATE TABLE by_bytes (id bytea PRIMARY KEY, v bool)",
    rows: `SELECT decode(md5(i::text), 'hex'), i % 2 = 0 FROM ${series}`,
    others: ["\\x", "\\xzz", "plain"],
  },
  {
    name: "a moment",
    table: "by_moment",
    create: "CREATE TABLE by_moment (id timestamptz PRIMARY KEY, v text[])",
    rows: `SELECT timestamptz '2020-01-01 00:00:00Z' + i * interval '1.000001 s',
      ARRAY['a', NULL, 'b,' || i] FROM ${series}`,
    others: ["2020-01-01 00:00:00+00", "infinity", "never"],
  },
  {
    name: "names in capitals and with quotes",
    table: 'Odd."My ""Docs"""',
    create:
      `CREATE SCHEMA "Odd"; CREATE TABLE "Odd"."My ""Docs""" ("Id" int PRIMARY KEY, "select" text)`,
    rows: `SELECT i, 'v' || i FROM ${series}`,
    others: ["0"],
  },
  {
    name: "partitions",
    table: "parts",
    create: `CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
      CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM (0) TO (20);
      CREATE TABLE parts_b (v text, gone int, id int NOT NULL);
      ALTER TABLE parts_b DROP gone;
      ALTER TABLE parts ATTACH PARTITION parts_b FOR VALUES FROM (20) TO (100)`,
    rows: `SELECT i, 'v' || i FROM ${series}`,
    others: ["0", "99"],
    since: 13,
  },
  {
    name: "a row filter and a list of columns",
    table: "filtered",
    create: "CREATE TABLE filtered (id int PRIMARY KEY, v text, secret text)",
    rows: `SELECT i, 'v' || i, 'x' FROM ${series}`,
    others: ["1", "10"],
    since: 15,
    watch: { columns: ["id", "v"], where: "id > 10" },
    count: 30,
  },
  {
    name: "a generated column, which is not published",
    table: "generated",
    create: `CREATE TABLE generated (id int PRIMARY KEY, v text,
      g text GENERATED ALWAYS AS (v || '!') STORED)`,
    rows: `SELECT i, 'v' || i FROM ${series}`,
    others: ["0"],
    since: 12,
  },
];

for (const major of testMajors(18, 15, 10)) {
  describe(`rows to be compared, on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
    });
    after(() => db?.stop());

    const signal = new AbortController().signal;

    function readerOf(table: string, publicationName: string): TableReader {
      const types = Promise.resolve(new ValueTypes({}));
      return new TableReader({
        connector: new Connector({
          dsn: db.dsn,
          logger: { debug() {}, info() {}, warn() {}, error() {} },
        }),
        publicationName,
        name: parseTableName(table),
        loadTypes: () => types,
      });
    }

    async function published(table: string, sql: string): Promise<[TableReader, string]> {
      const publication = uniqueName("pub");
      await db.query(`${sql}; CREATE PUBLICATION ${publication} FOR TABLE ${table}`);
      return [readerOf(table, publication), publication];
    }

    async function all(reader: TableReader): Promise<Map<string, AnyRow>> {
      const rows = new Map<string, AnyRow>();
      let last: string | null = null;
      for (let end = false; !end;) {
        const chunk = await reader.next(last, signal);
        for (const { key, row } of chunk.rows) rows.set(last = key, row);
        end = chunk.end;
      }
      return rows;
    }

    const plain = (rows: Iterable<[string, unknown]>) =>
      [...rows].map(([key, row]) => [key, { ...row as AnyRow }])
        .sort(([a], [b]) => `${a}` < `${b}` ? -1 : 1);

    for (const one of CASES.filter(({ since = 0 }) => major >= since)) {
      test(`${one.name}: as events have them, in order and by key`, async () => {
        const { table, count = 40, others } = one;
        await db.query(one.create);
        const [name] = await db.query<{ name: string }>(
          `SELECT format('%I.%I', '${parseTableName(table).schema}', '${
            parseTableName(table).table.replaceAll("'", "''")
          }') AS name`,
        );
        const slotName = uniqueName();
        const stream = new PgStream({
          ...{ dsn: db.dsn, slotName, logger: false, values: "js", backfill: "initial" },
        });
        const events = new Map<string, AnyRow>();
        stream.watch(table, one.watch ?? {}).onChange(({ key, row }) => void events.set(key!, row));
        const reader = readerOf(table, slotName);
        try {
          await stream.setup();
          const columns = one.name.includes("generated") ? "(id, v) " : "";
          await db.query(`INSERT INTO ${name!.name} ${columns}${one.rows}`);
          await within("catchUp()", stream.catchUp());
          // Of the streamed inserts; those of a row filter come without what is filtered out.
          assertEquals(events.size, count);
          assertEquals(plain(await all(reader)), plain(events));
          const keys = [...events.keys()];
          const asked = [...others, ...keys.slice(0, 20), ...others, ...keys.slice(20)];
          const byKey = new Map<string, AnyRow>();
          const at = new Map<string, AnyRow>();
          for (let left = asked; left.length > 0;) {
            const read = await reader.byKeys(left, signal);
            for (const [key, row] of read.rows) byKey.set(key, row);
            assert(read.keys.length > 0 && left.join().startsWith(read.keys.join()));
            left = left.slice(read.keys.length);
          }
          for (let left = asked; left.length > 0;) {
            const read = await reader.at(left, signal);
            for (const [key, { row }] of read.rows) at.set(key, row);
            left = left.slice(read.keys.length);
          }
          assertEquals(others.filter((key) => byKey.has(key) || at.has(key)), []);
          assertEquals(plain(byKey), plain(events));
          assertEquals(plain(at), plain(events));
        } finally {
          await reader.close();
          await stream.teardown();
          await stream.stop();
        }
      });
    }

    test("many chunks, and none larger than memory has room for", async () => {
      const [reader] = await published(
        "wide",
        `CREATE TABLE wide (id int PRIMARY KEY, v text);
        INSERT INTO wide SELECT i, repeat('x', CASE WHEN i < 3000 THEN 10 ELSE 200000 END)
          FROM generate_series(1, 3100) i`,
      );
      const sizes: number[] = [];
      let last: string | null = null;
      for (let end = false; !end;) {
        const { rows, end: over } = await reader.next(last, signal);
        sizes.push(rows.reduce((sum, { row }) => sum + row.v.length, 0));
        last = rows.at(-1)?.key ?? last;
        end = over;
      }
      assertEquals(last, "3100");
      assert(Math.max(...sizes) < 4 * 1024 * 1024, sizes.join());
      // Narrow rows first: it is not known how wide the others are.
      await reader.byKeys(["1", "2"], signal);
      const keys = Array.from({ length: 200 }, (_, n) => `${2950 + n}`);
      for (const read of ["byKeys", "at"] as const) {
        await reader.byKeys(["1", "2"], signal);
        let found = 0;
        for (let left = keys; left.length > 0;) {
          const { keys, rows } = await reader[read](left, signal);
          const bytes = [...rows.values()].reduce(
            (sum, row) => sum + ((row as AnyRow).row ?? row as AnyRow).v.length,
            0,
          );
          assert(bytes < 4 * 1024 * 1024, `${bytes}`);
          found += rows.size;
          left = left.slice(keys.length);
        }
        assertEquals(found, 151);
      }
      await reader.close();
    });

    test("a version is the same until the row is changed, and what touches it is seen", async () => {
      const [reader] = await published(
        "versions",
        `CREATE TABLE versions (id int PRIMARY KEY, v text);
        INSERT INTO versions VALUES (1, 'a'), (2, 'a'), (3, 'a')`,
      );
      const look = () => reader.at(["1", "2", "3", "4"], signal);
      const first = await look();
      assertEquals([first.complete, first.rows.size, first.keys.length], [true, 3, 4]);
      assert(first.shownLsn <= first.lsn, `${formatLsn(first.shownLsn)} ${formatLsn(first.lsn)}`);
      await db.query("UPDATE versions SET v = 'a' WHERE id = 1");
      await db.query("VACUUM versions");
      const second = await look();
      assert(second.shownLsn >= first.lsn);
      const changed = ["1", "2", "3"].map((key) =>
        first.rows.get(key)!.version !== second.rows.get(key)!.version
      );
      assertEquals(changed, [true, false, false]);
      assertEquals([...second.rows.values()].map(({ untouched }) => untouched), [true, true, true]);

      const writer = openClient(db.dsn);
      try {
        await writer.unsafe(`BEGIN; UPDATE versions SET v = 'b' WHERE id = 2;
          INSERT INTO versions VALUES (4, 'a')`);
        const open = await look();
        assertEquals([open.complete, open.rows.size], [false, 3]);
        assertEquals(
          ["1", "2", "3"].map((key) => open.rows.get(key)!.untouched),
          [true, false, true],
        );
        // One that ends soon is waited for.
        const pid = (await writer.unsafe("SELECT pg_backend_pid() AS pid"))[0]!.pid;
        const looking = look();
        await until("the writer to be waited for", async () => {
          const rows = await db.query(`SELECT 1 FROM pg_stat_activity
            WHERE query LIKE '%virtualtransaction%' AND pid <> ${pid} AND pid <> pg_backend_pid()`);
          return rows.length > 0;
        });
        await writer.unsafe("COMMIT");
        const over = await looking;
        assertEquals([over.complete, over.rows.size], [true, 4]);
        assertEquals(over.rows.get("2")!.row.v, "b");
      } finally {
        await writer.end();
        await reader.close();
      }
    });

    test("what keeps it from reading says so, and the next call goes on", async () => {
      const [reader, publication] = await published(
        "troubled",
        "CREATE TABLE troubled (id int PRIMARY KEY, w int); INSERT INTO troubled VALUES (1, 7), (2, 8)",
      );
      const kindOf = async (call: Promise<unknown>) =>
        (await assertRejects(() => call, BackfillError)).kind;
      await reader.next(null, signal);
      await db.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE query LIKE '%troubled%' AND pid <> pg_backend_pid()`);
      const lost = await assertRejects(() => reader.byKeys(["1"], signal), Error);
      assertEquals((lost as BackfillError).retryable, true);
      assertEquals((await reader.byKeys(["1"], signal)).rows.size, 1);
      // The table gets another column.
      await db.query("ALTER TABLE troubled ADD x text DEFAULT 'new'");
      assertEquals((await reader.byKeys(["1"], signal)).rows.get("1")!.x, "new");
      // Another key: what was read is in no order any more.
      await db.query("ALTER TABLE troubled DROP CONSTRAINT troubled_pkey, ADD PRIMARY KEY (w)");
      assertEquals(await kindOf(reader.next("1", signal)), "key-changed");
      assertEquals((await reader.next(null, signal)).rows.map(({ key }) => key), ["7", "8"]);
      await db.query("ALTER TABLE troubled DROP CONSTRAINT troubled_pkey");
      assertEquals(await kindOf(reader.next(null, signal)), "no-primary-key");
      assertEquals(await kindOf(reader.at(["1"], signal)), "no-primary-key");
      await db.query(`ALTER PUBLICATION ${publication} SET TABLE versions`);
      assertEquals(await kindOf(reader.next(null, signal)), "table-not-published");
      await db.query("DROP TABLE troubled");
      assertEquals(await kindOf(reader.next(null, signal)), "table-missing");
      assertEquals(await kindOf(reader.at(["1"], signal)), "table-missing");
      const gone = new Error("enough");
      await assertRejects(() => reader.next(null, AbortSignal.abort(gone)), Error, "enough");
      await reader.close();
    });
  });
}
