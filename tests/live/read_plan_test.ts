/** Existing rows in chunks: each exactly once, as a change would have carried it, by the key's index. */

import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { BackfillError } from "../../src/backfill/errors.ts";
import { planSignature } from "../../src/backfill/plan_facts.ts";
import {
  chunkSql,
  keysSql,
  lockSql,
  type ReadPlan,
  readPlan,
  tableSql,
} from "../../src/backfill/read_plan.ts";
import { connectForReading } from "../../src/backfill/reading.ts";
import { EventBuilder } from "../../src/delivery/event_builder.ts";
import { RowEvents } from "../../src/delivery/row_events.ts";
import { tellsPrimaryKey } from "../../src/delivery/lane_plan.ts";
import { type Insert, PgOutputDecoder, type Relation } from "../../src/pgoutput/mod.ts";
import { splitCopyRow } from "../../src/values/copy_text.ts";
import type { Connection } from "../../src/wire/connection.ts";
import { Connector } from "../../src/wire/connector.ts";
import { quoteLiteral } from "../../src/wire/quote.ts";
import { writeCopyRow } from "../support/copy_row.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { uniqueName } from "../support/streams.ts";

type Values = (string | null)[];

interface Case {
  name: string;
  /** Makes the table; the default is `public.t`. */
  create: string;
  /** Fills it. */
  insert: string;
  table?: string;
  /** What follows CREATE PUBLICATION name. Default: FOR TABLE the table. */
  publication?: string;
  since?: number;
  /** The columns that are to be published, where that is the point. */
  columns?: string[];
  /** How many rows are published. */
  rows?: number;
  /** False where there is none to go by. */
  keyed?: boolean;
}

const ICU = 15; // The servers of these tests have ICU, and ask for it in this way, since then.
const series = (from: number, to: number) => `generate_series(${from}, ${to}) i`;

const CASES: Case[] = [
  {
    name: "a number",
    create: "CREATE TABLE t (id int PRIMARY KEY, v text)",
    insert: `INSERT INTO t SELECT i * 3 - 50, 'v' || i FROM ${series(1, 40)}`,
    rows: 40,
  },
  {
    name: "a key that sorts otherwise as text, after a column of its name",
    create: `CREATE TABLE t ("ID" text, id bigint PRIMARY KEY)`,
    insert: `INSERT INTO t SELECT i, i FROM ${series(95, 130)}`,
  },
  {
    name: "a compound key in another order than the columns",
    create: "CREATE TABLE t (b text, v text, a int, PRIMARY KEY (a, b))",
    insert: `INSERT INTO t SELECT chr(97 + i % 5), NULL, i / 5 FROM ${series(0, 60)}`,
  },
  {
    name: "three columns of a key",
    create: "CREATE TABLE t (a int, b uuid, c date, PRIMARY KEY (a, b, c))",
    insert: `INSERT INTO t SELECT i % 2, md5((i % 4)::text)::uuid, date '2020-01-01' + i
      FROM ${series(1, 50)}`,
  },
  {
    name: "quoted names",
    create: `CREATE SCHEMA "S.x"; CREATE TABLE "S.x"."We""ird 't" ("select" int, "k""1" text,
      "S.x" text, PRIMARY KEY ("k""1", "select"))`,
    table: `"S.x"."We""ird 't"`,
    insert: `INSERT INTO "S.x"."We""ird 't" SELECT i, 'it''s \\' || i % 3, '"' FROM ${
      series(1, 30)
    }`,
  },
  {
    name: "uuid, numeric, timestamptz, bytea",
    create: "CREATE TABLE t (u uuid, n numeric, s timestamptz, y bytea, PRIMARY KEY (n, s, y, u))",
    insert: `INSERT INTO t SELECT md5(i::text)::uuid, (i % 3) / 7.0, now() + i * interval '1 us',
      decode(md5(i::text), 'hex') FROM ${series(1, 30)};
      INSERT INTO t VALUES (md5('')::uuid, 'NaN', 'infinity', ''), (md5('')::uuid, 1e30, '-infinity', '\\x00')`,
  },
  {
    name: "floats, NaN and infinity among them",
    create: "CREATE TABLE t (f float8 PRIMARY KEY, r float4)",
    insert: `INSERT INTO t SELECT i / 3.0, i / 7.0 FROM ${series(-10, 20)};
      INSERT INTO t VALUES ('NaN', 1), ('Infinity', 1), ('-Infinity', 1), (1e-310, 1)`,
  },
  {
    name: "an enum, in the order of its labels",
    create: `CREATE SCHEMA kinds; CREATE TYPE kinds.mood AS ENUM ('z', 'b', 'A', 'it''s');
      CREATE TABLE t (m kinds.mood, id int, PRIMARY KEY (m, id))`,
    insert: `INSERT INTO t SELECT (enum_range(NULL::kinds.mood))[1 + i % 4], i FROM ${
      series(1, 30)
    }`,
  },
  {
    name: "domains, also over an enum, whose checks old rows break",
    create: `CREATE SCHEMA kinds; CREATE TYPE kinds.mood AS ENUM ('z', 'b', 'A');
      CREATE DOMAIN kinds.small AS varchar(5); CREATE DOMAIN kinds.smaller AS kinds.small;
      CREATE DOMAIN kinds.mine AS kinds.mood;
      CREATE TABLE t (s kinds.smaller, m kinds.mine, PRIMARY KEY (s, m))`,
    insert: `INSERT INTO t SELECT 'v' || i / 3, (enum_range(NULL::kinds.mood))[1 + i % 3] FROM ${
      series(1, 30)
    };
      ALTER DOMAIN kinds.small ADD CHECK (value = 'none') NOT VALID`,
  },
  {
    name: "a domain over an enum alone",
    create: `CREATE TYPE mood AS ENUM ('z', 'b', 'A', 'c', 'd', 'e', 'f', 'g', 'h');
      CREATE DOMAIN mine AS mood; CREATE TABLE t (m mine PRIMARY KEY)`,
    insert: "INSERT INTO t SELECT unnest(enum_range(NULL::mood))",
  },
  {
    name: 'char(n), "char", bit(n), name',
    create: `CREATE TABLE t (a char(5), b "char", c bit(4), d name, PRIMARY KEY (a, b, c, d))`,
    insert: `INSERT INTO t SELECT 'a' || i / 8, CASE WHEN i % 2 = 0 THEN 'x' ELSE 'y' END::"char",
      i::bit(4), 'n' || i FROM ${series(1, 30)}`,
  },
  {
    name: "arrays, ranges and composites",
    create: `CREATE SCHEMA kinds; CREATE TYPE kinds.pair AS (a int, b text);
      CREATE TABLE t (a int[], r int4range, c kinds.pair, PRIMARY KEY (a, r, c))`,
    insert:
      `INSERT INTO t SELECT ARRAY[i / 9, i], int4range(0, i), ROW(i, 'x,"\\')::kinds.pair FROM ${
        series(1, 30)
      }`,
  },
  {
    name: "an array alone",
    create: "CREATE TABLE t (a int[] PRIMARY KEY)",
    insert: `INSERT INTO t SELECT ARRAY[i / 9, i] FROM ${
      series(1, 30)
    }; INSERT INTO t VALUES ('{}')`,
  },
  {
    name: "intervals and jsonb",
    create: "CREATE TABLE t (i interval, j jsonb, PRIMARY KEY (i, j))",
    insert: `INSERT INTO t SELECT i / 4 * interval '13 days 1 hour', to_jsonb(i) FROM ${
      series(1, 30)
    }`,
  },
  {
    name: "text by C, by bytes",
    create: `CREATE TABLE t (k text COLLATE "C" PRIMARY KEY)`,
    insert: `INSERT INTO t SELECT (ARRAY['a', 'B', 'é', 'Z', '-', ' '])[1 + i % 6] || i FROM ${
      series(1, 60)
    }; INSERT INTO t VALUES (''), ('\\'), ('''')`,
  },
  {
    name: "text by the database's collation",
    create: "CREATE TABLE t (k text PRIMARY KEY)",
    insert: `INSERT INTO t SELECT (ARRAY['a', 'B', 'é', 'Z', '-', ' '])[1 + i % 6] || i FROM ${
      series(1, 60)
    }`,
  },
  {
    name: "text by ICU, and a domain with a collation",
    since: ICU,
    create: `CREATE DOMAIN german AS text COLLATE "de-x-icu";
      CREATE TABLE t (k text COLLATE "en-x-icu", g german, PRIMARY KEY (k, g))`,
    insert: `INSERT INTO t SELECT (ARRAY['a', 'B', 'é', 'Z', '-', ' '])[1 + i % 6] || i / 12,
      (ARRAY['ä', 'A', 'z', 'Ö'])[1 + i % 4] || i FROM ${series(1, 60)}`,
  },
  {
    name: "text by ICU that ignores case",
    since: ICU,
    create: `CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2',
      deterministic = false); CREATE TABLE t (k text COLLATE folded PRIMARY KEY)`,
    insert: `INSERT INTO t SELECT CASE WHEN i % 2 = 0 THEN 'A' ELSE 'b' END || i FROM ${
      series(1, 60)
    }`,
  },
  {
    name: "citext, whose operators are in another schema",
    create: `CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
      CREATE TABLE t (k ext.citext PRIMARY KEY)`,
    insert: `INSERT INTO t SELECT (ARRAY['a', 'B', 'c', 'Z'])[1 + i % 4] || i FROM ${
      series(1, 60)
    }`,
  },
  {
    name: "citext beside text: operators of two schemas in one key",
    create: `CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
      CREATE TABLE t (a ext.citext, b int, c text, PRIMARY KEY (a, b, c))`,
    insert: `INSERT INTO t SELECT (ARRAY['a', 'B', 'c', 'Z'])[1 + i % 4], i / 20, i FROM ${
      series(1, 60)
    }`,
  },
  {
    name: "an operator class of one's own, which orders backwards by odd names",
    create:
      `CREATE SCHEMA odd; CREATE TYPE odd.e AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i');
      CREATE FUNCTION odd.c(odd.e, odd.e) RETURNS int IMMUTABLE LANGUAGE sql AS
        'SELECT pg_catalog.enum_cmp($2, $1)';
      ${
        [["lt", "<", "<#"], ["le", "<=", "<=#"], ["eq", "=", "=#"], ["ge", ">=", ">=#"], [
          "gt",
          ">",
          ">#",
        ]].map(([name, plain, sign]) =>
          `CREATE FUNCTION odd.${name}(odd.e, odd.e) RETURNS bool IMMUTABLE LANGUAGE sql AS
          'SELECT odd.c($1, $2) ${plain} 0';
        CREATE OPERATOR odd.${sign} (LEFTARG = odd.e, RIGHTARG = odd.e, PROCEDURE = odd.${name});`
        ).join("")
      }
      CREATE OPERATOR CLASS odd.ops DEFAULT FOR TYPE odd.e USING btree AS
        OPERATOR 1 odd.<#, OPERATOR 2 odd.<=#, OPERATOR 3 odd.=#, OPERATOR 4 odd.>=#,
        OPERATOR 5 odd.>#, FUNCTION 1 odd.c(odd.e, odd.e);
      CREATE TABLE t (e odd.e, id int, PRIMARY KEY (e, id))`,
    insert: `INSERT INTO t SELECT (enum_range(NULL::odd.e))[1 + i % 9], i FROM ${series(1, 40)}`,
  },
  {
    name: "columns that were dropped",
    create: `CREATE TABLE t (x int, id int PRIMARY KEY, y text, v text);
      ALTER TABLE t DROP COLUMN x; ALTER TABLE t DROP COLUMN y; ALTER TABLE t ADD COLUMN x text`,
    insert: `INSERT INTO t SELECT i, 'v', E'x\\t\\n\\\\N' FROM ${series(1, 30)}`,
    columns: ["id", "v", "x"],
  },
  {
    name: "generated columns, which are left out",
    since: 12,
    create:
      `CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED, v text)`,
    insert: `INSERT INTO t (id) SELECT i FROM ${series(1, 30)}`,
    columns: ["id", "v"],
  },
  {
    name: "generated columns that are published, and virtual ones that are not",
    since: 18,
    create: `CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED,
      w int GENERATED ALWAYS AS (id * 3) VIRTUAL, v text)`,
    insert: `INSERT INTO t (id) SELECT i FROM ${series(1, 30)}`,
    publication: "FOR TABLE t WITH (publish_generated_columns = stored)",
    columns: ["id", "g", "v"],
  },
  {
    name: "a column list",
    since: 15,
    create: "CREATE TABLE t (a text, id int PRIMARY KEY, secret text, z text)",
    insert: `INSERT INTO t SELECT 'a', i, 'secret', 'z' FROM ${series(1, 30)}`,
    publication: "FOR TABLE t (z, id, a)",
    columns: ["a", "id", "z"],
  },
  {
    name: "a row filter, by a function and a type of another schema",
    since: 15,
    create:
      `CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE t (id int PRIMARY KEY, m text, v text)`,
    insert: `INSERT INTO t SELECT i, CASE i % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'b' END, 'v'
      FROM ${series(1, 60)}`,
    publication: "FOR TABLE t (id, v) WHERE (id > 10 AND lower(v) = 'v' OR id = 3)",
    columns: ["id", "v"],
    rows: 51,
  },
  {
    name: "all tables, and an inheritance child that is a table of its own",
    create: `CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE child () INHERITS (t)`,
    insert: `INSERT INTO t SELECT i, 'v' FROM ${series(1, 30)};
      INSERT INTO child SELECT i, 'v' FROM ${series(1, 30)}`,
    publication: "FOR ALL TABLES",
    rows: 30,
  },
  {
    name: "tables in a schema",
    since: 15,
    create: "CREATE TABLE t (id int PRIMARY KEY, v text)",
    insert: `INSERT INTO t SELECT i, 'v' FROM ${series(1, 30)}`,
    publication: "FOR TABLES IN SCHEMA public",
  },
  {
    name: "partitions by range, at two levels, of other shapes",
    since: 13,
    create:
      `CREATE TABLE t (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
      CREATE TABLE t1 PARTITION OF t FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
      CREATE TABLE t2 PARTITION OF t FOR VALUES FROM ('2020-02-01') TO ('2020-03-01')
        PARTITION BY RANGE (id);
      CREATE TABLE t21 PARTITION OF t2 FOR VALUES FROM (0) TO (20);
      CREATE TABLE t22 (v text, x int, day date NOT NULL, id int NOT NULL);
      ALTER TABLE t22 DROP COLUMN x;
      ALTER TABLE t2 ATTACH PARTITION t22 FOR VALUES FROM (20) TO (100)`,
    insert: `INSERT INTO t SELECT i, date '2020-01-01' + i, 'v' || i FROM ${series(0, 58)}`,
    publication: "FOR TABLE t WITH (publish_via_partition_root = true)",
    rows: 59,
  },
  {
    name: "no key, all of the row is the identity",
    create: "CREATE TABLE t (b text, a int); ALTER TABLE t REPLICA IDENTITY FULL",
    insert: `INSERT INTO t SELECT NULL, i / 2 FROM ${series(1, 30)}`,
    keyed: false,
  },
  {
    name: "no key, an index is the identity",
    create:
      `CREATE TABLE t (v text, b text NOT NULL, a int NOT NULL); CREATE UNIQUE INDEX x ON t (a, b);
      ALTER TABLE t REPLICA IDENTITY USING INDEX x`,
    insert: `INSERT INTO t SELECT NULL, i, i / 2 FROM ${series(1, 30)}`,
    keyed: false,
  },
  {
    name: "a key, and an index that lacks it is the identity",
    create: `CREATE TABLE t (id int PRIMARY KEY, b text NOT NULL); CREATE UNIQUE INDEX x ON t (b);
      ALTER TABLE t REPLICA IDENTITY USING INDEX x`,
    insert: `INSERT INTO t SELECT i, i FROM ${series(1, 30)}`,
  },
  {
    name: "a column list that lacks the key",
    since: 15,
    create: "CREATE TABLE t (id int PRIMARY KEY, a text, v text)",
    insert: `INSERT INTO t SELECT i, i % 3, 'v' FROM ${series(1, 30)}`,
    publication: "FOR TABLE t (a, v) WITH (publish = insert)",
    columns: ["a", "v"],
    keyed: false,
  },
];

for (const major of testMajors(18, 17, 14, 10)) {
  describe(`on PostgreSQL ${major}`, { timeout: 120_000 }, () => {
    let db: TestPostgres;
    let connector: Connector;
    let connection: Connection;
    before(async () => {
      db = await testPostgres({ major });
      connector = new Connector({ dsn: db.dsn, logger: false });
      connection = await connectForReading(connector);
    });
    after(async () => {
      await connection?.close();
      await db?.stop();
    });

    async function copy(sql: string): Promise<Values[]> {
      const rows: Values[] = [];
      for await (const some of connection.copyOut(sql)) {
        while (some.advance()) rows.push(splitCopyRow(some.bytes, some.start, some.end));
      }
      return rows;
    }

    /** Every chunk, from the first to the one that is short. */
    async function chunks(plan: ReadPlan, limit: number, where?: string): Promise<Values[]> {
      const rows: Values[] = [];
      const options = where === undefined ? { limit } : { limit, where };
      for (let after: string[] | null = null;;) {
        const chunk = await copy(chunkSql(plan, { after, ...options }));
        rows.push(...chunk);
        if (chunk.length < limit) return rows;
        after = plan.keyPlaces.map((place) => chunk.at(-1)![place]!);
      }
    }

    /** What pgoutput sends for rows that were inserted since the slot was made. */
    async function published(slot: string, publication: string, oid: number) {
      // A session of its own: in 10, one that runs pgoutput often is out of slots for its callbacks.
      const session = await connector.connect();
      const { rows } = await session.query(
        `SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes('${slot}', NULL, NULL,
          'proto_version', '1', 'publication_names', '${publication}')`,
      );
      await session.close();
      const decoder = new PgOutputDecoder();
      const inserts: Insert[] = [];
      let relation: Relation | null = null;
      for (const [data] of rows) {
        const bytes = Uint8Array.from(data!.slice(2).match(/../g)!, (hex) => parseInt(hex, 16));
        const message = decoder.decode(bytes);
        if (message.type === "relation" && message.oid === oid) relation = message;
        if (message.type === "insert" && message.relation.oid === oid) inserts.push(message);
      }
      return { relation: relation!, inserts };
    }

    const signature = async (oid: number, publication: string) => {
      const sql = `SELECT ${planSignature(oid, publication, connection.serverVersion)}`;
      return (await connection.query(sql)).rows[0]![0];
    };
    const sorted = (rows: Values[]) => rows.map((row) => JSON.stringify(row)).toSorted();

    async function oidOf(table: string): Promise<number> {
      const [row] = await db.query<{ oid: number }>(`SELECT ${quoteLiteral(table)}::regclass::oid`);
      return row!.oid;
    }

    /** A clean database, with a table of its own. */
    async function made({ create, table = "t", publication = `FOR TABLE ${table}` }: Case) {
      const name = uniqueName("pub");
      await db.query(create);
      await db.query(`CREATE PUBLICATION ${name} ${publication}`);
      return { oid: await oidOf(table), publication: name };
    }

    async function clean(publication?: string): Promise<void> {
      if (publication !== undefined) await db.query(`DROP PUBLICATION IF EXISTS ${publication}`);
      await db.query(`DROP SCHEMA public CASCADE; CREATE SCHEMA public;
        DROP SCHEMA IF EXISTS "S.x", ext, kinds, odd CASCADE`);
    }

    for (const one of CASES.filter(({ since = 0 }) => major >= since)) {
      test(`${one.name}: each row once, as its insert was published`, async () => {
        const { oid, publication } = await made(one);
        const slot = uniqueName("slot");
        await db.query(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`);
        try {
          await db.query(one.insert);
          const { relation, inserts } = await published(slot, publication, oid);
          const plan = (await readPlan(connection, oid, publication))!;
          assertEquals(plan.columns, relation.columns.map((column) => column.name));
          if (one.columns !== undefined) assertEquals(plan.columns, one.columns);
          if (one.rows !== undefined) assertEquals(inserts.length, one.rows);
          assertEquals(await signature(oid, publication), plan.signature);
          assertEquals(plan.keyed, tellsPrimaryKey(relation, plan.primaryKey));

          const expected = inserts.map(({ row }) =>
            plan.columns.map((column) => row[column] as string | null)
          );
          assert(expected.length > 8);
          await connection.query(`BEGIN; ${lockSql(plan)}`);
          await connection.query("COMMIT");
          assertEquals(sorted(await copy(tableSql(plan))), sorted(expected));
          assertEquals(plan.primaryKey.length > 0, one.keyed ?? true);
          if (plan.primaryKey.length > 0) {
            const all = await chunks(plan, 1000);
            for (const limit of [1, 7, expected.length]) {
              assertEquals(await chunks(plan, limit), all, `by ${limit}`);
            }
            assertEquals(sorted(all), sorted(expected));
            const some = all.filter((_, index) => index % 3 === 0);
            const keys = some.map((row) => plan.keyPlaces.map((place) => row[place]!));
            assertEquals(sorted(await copy(keysSql(plan, [...keys, keys[0]!]))), sorted(some));
            assertEquals(await copy(keysSql(plan, keys, "false -- not one")), []);
          }
          // The key as the events have it.
          if (plan.primaryKey.length === 0 && plan.identity.length === 0) return;
          const builder = new EventBuilder();
          const table = { name: plan.name, primaryKey: plan.primaryKey, keyed: plan.keyed };
          builder.declare(relation, table);
          const read = new RowEvents(table, plan.columns, plan.identity);
          const at = { lsn: "0/1", time: new Date(0) };
          for (const insert of inserts) {
            const copied = writeCopyRow(
              plan.columns.map((column) => insert.row[column] as string | null),
            );
            builder.build(insert, ({ key, row }) => {
              const event = read.insert(copied, 0, copied.length, at);
              assertEquals([event.key, { ...event.row }], [key, { ...row }]);
            });
          }
        } finally {
          await connection.query("ROLLBACK").catch(() => {});
          await db.query(`SELECT pg_drop_replication_slot('${slot}')`);
          await clean(publication);
        }
      });
    }

    test("a chunk far into a large table is read by the key's index, and sorts nothing", async () => {
      const create = `CREATE TABLE t (a int, b text, u uuid, v text, PRIMARY KEY (a, b));
        CREATE TABLE u (u uuid PRIMARY KEY, v text);
        ${
        major < 13 ? "" : `CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (50000);
        CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (50000) TO (200000);`
      }`;
      const tables = major < 13 ? ["t", "u"] : ["t", "u", "p"];
      const viaRoot = major < 13 ? "" : " WITH (publish_via_partition_root = true)";
      const publication = uniqueName("pub");
      await db.query(create);
      await db.query(`CREATE PUBLICATION ${publication} FOR TABLE ${tables}${viaRoot}`);
      await db.query(
        `INSERT INTO t SELECT i / 10, i, md5(i::text)::uuid, 'v' FROM ${series(1, 100000)};
        INSERT INTO u SELECT md5(i::text)::uuid, 'v' FROM ${series(1, 100000)}`,
      );
      if (major >= 13) await db.query(`INSERT INTO p SELECT i, 'v' FROM ${series(1, 100000)}`);
      const afters: Record<string, string[]> = {
        t: ["9000", "90005"],
        u: ["d0000000-0000-0000-0000-000000000000"],
        p: ["90000"],
      };
      for (const analyzed of [false, true]) {
        if (analyzed) await db.query("ANALYZE");
        for (const table of tables) {
          const plan = (await readPlan(connection, await oidOf(table), publication))!;
          if (analyzed) assertEquals(plan.estimatedRows, 100_000);
          for (const after of [null, afters[table]!]) {
            for (const limit of [100, 10_000]) {
              const sql = chunkSql(plan, { after, limit });
              const select = /^COPY \(([^]*)\) TO STDOUT$/.exec(sql)![1];
              const { rows } = await connection.query(`EXPLAIN ${select}`);
              const text = rows.map(([line]) => line).join("\n");
              assert(/Index Scan using/.test(text), `${table}\n${text}`);
              assert(!/Sort\b(?! Key)|Seq Scan/.test(text), `${table}\n${text}`);
              if (after !== null) assert(/Index Cond/.test(text), `${table}\n${text}`);
            }
          }
          const keys = keysSql(plan, [afters[table]!, afters[table]!]);
          const { rows } = await connection.query(`EXPLAIN ${/\((.*)\) TO/s.exec(keys)![1]}`);
          assert(!/Seq Scan/.test(rows.join("\n")), rows.join("\n"));
        }
      }
      await clean(publication);
    });

    test("what nobody has counted is unknown, and an empty table has no rows", async () => {
      const { oid, publication } = await made({ ...CASES[0]!, name: "" });
      assertEquals((await readPlan(connection, oid, publication))!.estimatedRows, null);
      await db.query(CASES[0]!.insert);
      await db.query("ANALYZE t");
      assertEquals((await readPlan(connection, oid, publication))!.estimatedRows, 40);
      await clean(publication);
    });

    test("a table that is gone is null; one that is not published says so", async () => {
      const { oid, publication } = await made({ ...CASES[0]!, name: "" });
      for (const name of ["nowhere", publication]) {
        if (name === publication) await db.query(`ALTER PUBLICATION ${name} DROP TABLE t`);
        const error = await assertRejects(() => readPlan(connection, oid, name), BackfillError);
        assertEquals(error.kind, "table-not-published");
      }
      await db.query("DROP TABLE t");
      assertEquals(await readPlan(connection, oid, publication), null);
      assertEquals(await signature(oid, publication), null);
      await clean(publication);
    });

    test("the signature changes with whatever changes the rows, and with nothing else", async () => {
      const { oid, publication } = await made({ ...CASES[0]!, name: "" });
      let last = await signature(oid, publication);
      for (
        const sql of [
          "INSERT INTO t VALUES (1, 'v')",
          "ANALYZE t",
          "VACUUM FULL t",
          "CREATE INDEX ON t (v)",
        ]
      ) {
        await db.query(sql);
        assertEquals(await signature(oid, publication), last, sql);
      }
      const changes = [
        "ALTER TABLE t ADD COLUMN w int",
        "ALTER TABLE t ALTER COLUMN w TYPE bigint",
        "ALTER TABLE t DROP COLUMN w",
        "ALTER TABLE t ADD COLUMN w bigint",
        "ALTER TABLE t RENAME COLUMN w TO x",
        `ALTER TABLE t ALTER COLUMN v TYPE text COLLATE "C"`,
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "UPDATE t SET x = id; ALTER TABLE t ADD PRIMARY KEY (x, id)",
        "ALTER TABLE t RENAME TO t2",
        ...(major < 15 ? [] : [
          `ALTER PUBLICATION ${publication} SET TABLE t2 WHERE (id > 1)`,
          `ALTER PUBLICATION ${publication} SET TABLE t2 WHERE (id > 2)`,
          `ALTER PUBLICATION ${publication} SET TABLE t2 (id, x)`,
        ]),
        `DROP PUBLICATION ${publication}`,
        "DROP TABLE t2",
      ];
      for (const sql of changes) {
        await db.query(sql);
        const now = await signature(oid, publication);
        assertNotEquals(now, last, sql);
        last = now!;
      }
      await clean();
    });
  });
}
