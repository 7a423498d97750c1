/** Tables that are altered between two rows. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import { PgStream } from "../../mod.ts";
import { deleted, inserted, scenario, updated } from "../support/scenario.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { LogLines, openClient, started, uniqueName, until } from "../support/streams.ts";

for (const major of testMajors(18, 17, 14)) {
  describe(`schema changes on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    let sql: postgres.Sql;
    before(async () => {
      db = await testPostgres({ major, settings: { track_commit_timestamp: "on" } });
      sql = openClient(db.dsn);
    });
    after(async () => {
      await sql?.end({ timeout: 1 });
      await db?.stop();
    });

    test("follows columns that are added, dropped and renamed between two rows", async () => {
      await scenario(db, sql, {
        create: "CREATE TABLE altered (id int PRIMARY KEY, a text, b text)",
        watch: ["altered"],
      }, async ({ commit, expect }) => {
        await commit(`INSERT INTO altered VALUES (1, 'a', 'b');
          ALTER TABLE altered ADD COLUMN c text DEFAULT 'c'; INSERT INTO altered VALUES (2, 'a', 'b');
          ALTER TABLE altered DROP COLUMN a; INSERT INTO altered VALUES (3, 'b');
          ALTER TABLE altered RENAME COLUMN b TO a; UPDATE altered SET a = 'x' WHERE id = 1`);
        await commit("ALTER TABLE altered RENAME COLUMN id TO number");
        await commit("UPDATE altered SET number = 4 WHERE number = 3");
        await expect(
          inserted("altered", "1", { id: "1", a: "a", b: "b" }),
          inserted("altered", "2", { id: "2", a: "a", b: "b", c: "c" }),
          inserted("altered", "3", { id: "3", b: "b", c: "c" }),
          updated("altered", "1", { id: "1", a: "x", c: "c" }),
          updated("altered", "4", { number: "4", a: "b", c: "c" }, {
            oldKey: "3",
            oldRow: { number: "3" },
          }),
        );
      });
    });

    test("follows a primary key that is moved to other columns", async () => {
      await scenario(db, sql, {
        create: "CREATE TABLE rekeyed (id int PRIMARY KEY, code text NOT NULL)",
        watch: ["rekeyed"],
      }, async ({ commit, expect }) => {
        await commit("INSERT INTO rekeyed VALUES (1, 'a')");
        await commit(`ALTER TABLE rekeyed DROP CONSTRAINT rekeyed_pkey, ADD PRIMARY KEY (code, id);
          INSERT INTO rekeyed VALUES (1, 'b')`);
        await commit("DELETE FROM rekeyed WHERE code = 'a'");
        await expect(
          inserted("rekeyed", "1", { id: "1", code: "a" }),
          inserted("rekeyed", '["b","1"]', { id: "1", code: "b" }),
          deleted("rekeyed", '["a","1"]', { id: "1", code: "a" }),
        );
      });
    });

    test("follows a table only while it has the watched name, and says so", async () => {
      const logger = new LogLines();
      await scenario(db, sql, {
        create: "CREATE TABLE renamed (id int PRIMARY KEY)",
        watch: ["renamed"],
        logger,
      }, async ({ commit, expect }) => {
        await commit("INSERT INTO renamed VALUES (1)");
        await commit(
          "ALTER TABLE renamed RENAME TO renamed_away; INSERT INTO renamed_away VALUES (2)",
        );
        await commit("ALTER TABLE renamed_away RENAME TO renamed; INSERT INTO renamed VALUES (3)");
        await expect(inserted("renamed", "1", { id: "1" }), inserted("renamed", "3", { id: "3" }));
        assertStringIncludes(logger.lines.join("\n"), "public.renamed_away");
      });
    });

    test("knows the key of a row from before its column was renamed, though the stream came late", async () => {
      for (const identity of ["DEFAULT", "FULL"]) {
        const table = `late_${identity.toLowerCase()}`;
        await db.query(`CREATE TABLE ${table} (v text, id int, PRIMARY KEY (id, v));
          ALTER TABLE ${table} REPLICA IDENTITY ${identity}`);
        const slotName = uniqueName();
        const stream = new PgStream({ dsn: db.dsn, slotName, logger: false }).watch(table);
        const keys: (string | null)[] = [];
        stream.onChange((event) => keys.push(event.key));
        await stream.setup();
        await db.query(`INSERT INTO ${table} VALUES ('a', 1)`);
        await db.query(`ALTER TABLE ${table} RENAME id TO number`);
        await db.query(`ALTER TABLE ${table} ADD added int`);
        await db.query(`INSERT INTO ${table} VALUES ('b', 2)`);
        const running = await started(stream);
        try {
          await until("both rows", () => keys.length >= 2 || stream.status().state === "failed");
          await running.stop();
          assertEquals(keys, ['["1","a"]', '["2","b"]'], `REPLICA IDENTITY ${identity}`);
        } finally {
          await stream.stop();
          await stream.teardown();
        }
      }
    });
  });
}
