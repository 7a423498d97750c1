/** Tables that are altered between two rows. */

import { assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import { PgStream } from "../../mod.ts";
import { deleted, inserted, scenario, updated } from "../support/scenario.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { openClient, started, uniqueName, until } from "../support/streams.ts";

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

    test("follows a primary key that is moved under REPLICA IDENTITY FULL, as a restart would", async () => {
      await scenario(db, sql, {
        create: `CREATE TABLE moved (id int PRIMARY KEY, code text NOT NULL);
          ALTER TABLE moved REPLICA IDENTITY FULL`,
        watch: ["moved"],
      }, async ({ commit, drain, expect }) => {
        await commit("INSERT INTO moved VALUES (1, 'a')");
        await drain();
        const restarted = new PgStream({ dsn: db.dsn, slotName: uniqueName(), logger: false })
          .watch("moved");
        const keys: unknown[] = [];
        restarted.onChange((event) => keys.push([event.key, event.oldKey]));
        await restarted.setup();
        await commit("ALTER TABLE moved DROP CONSTRAINT moved_pkey, ADD PRIMARY KEY (code)");
        await commit("INSERT INTO moved VALUES (2, 'b')");
        await commit("UPDATE moved SET code = 'c' WHERE code = 'b'");
        await commit("DELETE FROM moved WHERE code = 'a'");
        const events = await expect(
          inserted("moved", "1", { id: "1", code: "a" }),
          inserted("moved", "b", { id: "2", code: "b" }),
          updated("moved", "c", { id: "2", code: "c" }, {
            oldKey: "b",
            oldRow: { id: "2", code: "b" },
          }),
          deleted("moved", "a", { id: "1", code: "a" }),
        );
        const running = await started(restarted);
        await until("the same rows", () => keys.length >= 3);
        await running.stop();
        await restarted.teardown();
        assertEquals(keys, events.slice(1).map(({ key, oldKey }) => [key, oldKey]));
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
