/** `values: "js"` where types have to be looked up: pgvector's, one's own, and those that come and go. */

import { assert, assertEquals, assertInstanceOf, assertMatch } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, DeliveryError, PgStream, type PgStreamOptions } from "../../mod.ts";
import {
  needsOwnServer,
  testMajors,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import {
  collect,
  LogLines,
  openClient,
  sleep,
  started,
  uniqueName,
  until,
  within,
} from "../support/streams.ts";

/** A type that is called as one of pgvector's, and reads and prints the same text. */
function borrowedType(name: string, schema: string): string {
  const type = `${schema}.${name}`;
  return `CREATE TYPE ${type};
    CREATE FUNCTION ${type}_in(cstring) RETURNS ${type} LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION ${type}_out(${type}) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE ${type} (INPUT = ${type}_in, OUTPUT = ${type}_out, LIKE = text);`;
}

/** The rows of the events, by key. */
function rowsOf(events: readonly ChangeEvent[]): Record<string, unknown> {
  return Object.fromEntries(events.map(({ key, row }) => [key, { ...row }]));
}

for (const major of testMajors(18, 10)) {
  describe(`types that Postgres does not ship, PostgreSQL ${major}:`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await db.query(`CREATE SCHEMA extensions; ${borrowedType("vector", "extensions")}
        ${borrowedType("halfvec", "public")} ${borrowedType("sparsevec", "public")}
        CREATE TYPE mood AS ENUM ('so so', 'fine');
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE TYPE pair AS (a int, b text);
        CREATE SCHEMA other; CREATE DOMAIN other.vector AS text;
        CREATE TYPE other.json AS ENUM ('{}')`);
    });
    after(() => db?.stop());

    test("pgvector's are vectors, the others text, in changes, a backfill, and arrays", async () => {
      await db.query(`CREATE TABLE own (id bigint PRIMARY KEY, v extensions.vector, h halfvec,
        s sparsevec, vs extensions.vector[], m mood, ms mood[], p positive, r pair,
        false_vector other.vector, false_json other.json);
      INSERT INTO own VALUES (1, '[1,2.5]', '[0.5]', '{1:1.5,3:2}/5', '{"[1,2]",NULL}', 'so so',
        '{"so so",NULL}', 7, ROW(1, 'x'), '[1]', '{}')`);
      const collected = await collect(db, ["own"], { values: "js", backfill: "initial" });
      await until("the row to be read", () => collected.events.length === 1);
      await db.query(
        "INSERT INTO own SELECT 2, v, h, s, vs, m, ms, p, r, false_vector, false_json FROM own",
      );
      const rows = rowsOf(await collected.drain());
      const row = {
        v: Float32Array.of(1, 2.5),
        h: Float32Array.of(0.5),
        s: { dimensions: 5, indices: [0, 2], values: [1.5, 2] },
        vs: [Float32Array.of(1, 2), null],
        m: "so so",
        ms: ["so so", null],
        p: "7",
        r: "(1,x)",
        false_vector: "[1]",
        false_json: "{}",
      };
      assertEquals(rows, { "1": { id: 1n, ...row }, "2": { id: 2n, ...row } });
      await collected.stop();
    });

    test("updates and deletes: both rows are values, keys are text, and unchanged columns absent", async () => {
      await db.query(`CREATE TABLE changed (id int8 PRIMARY KEY, at timestamptz, body jsonb);
        ALTER TABLE changed ALTER body SET STORAGE EXTERNAL`);
      const collected = await collect(db, ["changed"], { values: "js" });
      const large = `jsonb_build_object('text', repeat('x', 10000))`;
      await db.query(`INSERT INTO changed VALUES (1, '2026-01-01 00:00:00+00', ${large})`);
      await db.query("UPDATE changed SET at = at + '1 day'");
      await db.query("UPDATE changed SET id = 2");
      await db.query("ALTER TABLE changed REPLICA IDENTITY FULL");
      await db.query("UPDATE changed SET at = NULL");
      await db.query("DELETE FROM changed");
      const [, update, moved, full, removed] = await collected.drain();
      const body = { text: "x".repeat(10_000) };
      const at = new Date(Date.UTC(2026, 0, 2));
      assertEquals([{ ...update!.row }, update!.unchanged], [{ id: 1n, at }, ["body"]]);
      assertEquals([moved!.key, moved!.oldKey], ["2", "1"]);
      assertEquals({ ...moved!.oldRow }, { id: 1n });
      assertEquals({ ...full!.row }, { id: 2n, at: null, body });
      assertEquals({ ...full!.oldRow }, { id: 2n, at, body });
      assertEquals([removed!.key, { ...removed!.oldRow }], ["2", { id: 2n, at: null, body }]);
      await collected.stop();
    });

    test("a column whose type is changed has values of the new one from there on", async () => {
      await db.query("CREATE TABLE retyped (id int PRIMARY KEY, v text)");
      const collected = await collect(db, ["retyped"], { values: "js" });
      await db.query("INSERT INTO retyped VALUES (1, '7')");
      await db.query("ALTER TABLE retyped ALTER v TYPE int8 USING v::int8");
      await db.query("INSERT INTO retyped VALUES (2, 8)");
      await db.query(`BEGIN; INSERT INTO retyped VALUES (3, 9);
        ALTER TABLE retyped ALTER v TYPE extensions.vector USING '[1]';
        INSERT INTO retyped VALUES (4, '[2]');
        ALTER TABLE retyped ALTER v TYPE mood[] USING '{fine}';
        INSERT INTO retyped VALUES (5, '{fine}'); COMMIT`);
      const events = await collected.drain();
      assertEquals(events.map(({ row }) => row.v), ["7", 8n, 9n, Float32Array.of(2), ["fine"]]);
      await collected.stop();
    });

    test("one's own parsers: by name and OID, in arrays, in changes and in a backfill", async () => {
      const [row] = await db.query<{ oid: string }>("SELECT 'mood'::regtype::oid::text AS oid");
      await db.query(`CREATE TABLE parsed (id int8 PRIMARY KEY, at timestamptz, ats timestamptz[],
        m mood, p positive);
      INSERT INTO parsed VALUES (1, '2026-01-01', '{2026-01-01,NULL}', 'fine', 7)`);
      const collected = await collect(db, ["parsed"], {
        values: "js",
        backfill: "initial",
        parsers: {
          timestamptz: (text) => ({ text }),
          positive: Number,
          int8: (text) => ({ id: text }),
          [row!.oid]: (text) => text.toUpperCase(),
        },
      });
      await until("the row to be read", () => collected.events.length === 1);
      await db.query("INSERT INTO parsed SELECT 2, at, ats, m, p FROM parsed");
      const text = "2026-01-01 00:00:00+00";
      const rest = { at: { text }, ats: [{ text }, null], m: "FINE", p: 7 };
      assertEquals(rowsOf(await collected.drain()), {
        "1": { id: { id: "1" }, ...rest },
        "2": { id: { id: "2" }, ...rest },
      });
      await collected.stop();
    });

    for (const how of ["change", "backfill"] as const) {
      test(`a parser that throws at a ${how} stops the stream, tells no value, and loses nothing`, async () => {
        const table = uniqueName("threw");
        await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY, v text)`);
        const slotName = uniqueName();
        const seen: unknown[] = [];
        const streamOf = (options: PgStreamOptions) =>
          new PgStream({ dsn: db.dsn, slotName, logger: false, values: "js", ...options })
            .watch(table).onChange(({ row }) => seen.push(row.v));
        if (how === "backfill") await db.query(`INSERT INTO ${table} VALUES (1, 'secret')`);
        const backfill = how === "backfill" ? "initial" as const : "never" as const;
        const broken = streamOf({
          backfill,
          parsers: {
            text: (text) => {
              throw new SyntaxError(`cannot read ${text}`);
            },
          },
        });
        await broken.setup();
        const { ended } = await started(broken);
        if (how === "change") await db.query(`INSERT INTO ${table} VALUES (1, 'secret')`);
        const error = await within("start() to reject", ended);
        assertInstanceOf(error, DeliveryError);
        assertEquals(error.kind, "parser-failed");
        assertMatch(error.message, new RegExp(`"v" of public.${table}, type text`));
        for (const told of [`${error.message} ${error.hint} ${error.stack}`, `${error.cause}`]) {
          assert(!told.includes("secret"), told);
        }
        assertEquals(seen, []);
        const mended = streamOf({ backfill });
        const running = await started(mended);
        await until("the row", () => seen.length > 0);
        assertEquals(seen, ["secret"]);
        await running.stop();
        await mended.teardown();
      });
    }

    test("a type that was dropped before its values were read leaves them text, and is told of", async () => {
      await db.query(`CREATE TYPE brief AS ENUM ('a');
        CREATE TABLE outlived (id int PRIMARY KEY, v brief, b brief[])`);
      const logger = new LogLines();
      const slotName = uniqueName();
      const rows: unknown[] = [];
      const stream = new PgStream({ dsn: db.dsn, slotName, logger, values: "js" })
        .watch("outlived").onChange(({ row }) => rows.push({ ...row }));
      await stream.setup();
      await db.query("INSERT INTO outlived VALUES (1, 'a', '{a}')");
      await db.query("ALTER TABLE outlived DROP v, DROP b; DROP TYPE brief");
      await db.query("INSERT INTO outlived VALUES (2)");
      await stream.catchUp();
      assertEquals(rows, [{ id: 1, v: "a", b: "{a}" }, { id: 2 }]);
      assertEquals(logger.lines.filter((line) => /dropped since/.test(line)).length, 1);
      await stream.stop();
      await stream.teardown();
    });

    test("a type that nobody sees yet, though its rows come, is waited for", {
      skip: needsOwnServer,
    }, async () => {
      await db.query("CREATE TABLE early (id int PRIMARY KEY)");
      const collected = await collect(db, ["early"], { values: "js" });
      const set = async (value: string) => {
        await db.query(`ALTER SYSTEM SET synchronous_standby_names = '${value}'`);
        await db.query("SELECT pg_reload_conf()");
      };
      const writer = openClient(db.dsn);
      await set("nobody");
      try {
        await until("the setting", async () => {
          const [row] = await writer`SHOW synchronous_standby_names`;
          return row!.synchronous_standby_names === "nobody";
        });
        // Its record is written and streamed; it is not over before a standby has it, and there is none.
        const committed = writer.unsafe(`BEGIN; ${borrowedType("vector", "public")}
          ALTER TABLE early ADD v vector, ADD vs vector[];
          INSERT INTO early VALUES (1, '[1]', '{"[2]"}'); COMMIT`);
        committed.catch(() => {});
        await until("the commit to wait", async () => {
          const waiting = await db.query(
            "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
          );
          return waiting.length === 1;
        });
        await sleep(500);
        assertEquals(collected.events, []);
        await set("");
        await within("the commit", committed);
        assertEquals((await collected.drain()).map(({ row }) => ({ ...row })), [
          { id: 1, v: Float32Array.of(1), vs: [Float32Array.of(2)] },
        ]);
      } finally {
        await set("");
        await writer.end({ timeout: 1 });
      }
      await collected.stop();
    });
  });
}
