/** What columns tables have, for who has to name some. */

import { assertEquals, assertRejects } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { ReplicationError } from "../../mod.ts";
import { readTableColumns } from "../../src/replication/table_columns.ts";
import { formatTableName } from "../../src/table_name.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";

for (const major of testMajors(18, 10)) {
  describe(`tables of PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await db.query(
        `CREATE SCHEMA "My.Blog";
        CREATE TABLE documents (gone int, body text, id int, lang varchar(2), PRIMARY KEY (lang, id));
        ALTER TABLE documents DROP gone;
        CREATE TABLE "My.Blog"."Ta""ble" ("a b" timestamptz);
        CREATE UNLOGGED TABLE unlogged (id int);
        CREATE VIEW seen AS SELECT 1 AS one;
        CREATE TABLE parts (id int, n int) PARTITION BY LIST (n);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)`,
      );
      if (db.major >= 11) {
        await db.query("CREATE TABLE covered (id int, note text, PRIMARY KEY (id) INCLUDE (note))");
      }
    });
    after(() => db?.stop());
    const read = (...tables: string[]) =>
      readTableColumns({ dsn: db.dsn, logger: false, ...tables.length > 0 ? { tables } : {} });

    test("are told in their order, with types, and keys in the key's", async () => {
      const [documents, odd] = await read("documents", '"My.Blog"."Ta""ble"');
      assertEquals(documents, {
        schema: "public",
        table: "documents",
        columns: [
          { name: "body", type: "text" },
          { name: "id", type: "integer" },
          { name: "lang", type: "character varying(2)" },
        ],
        primaryKey: ["lang", "id"],
      });
      assertEquals(odd!.columns, [{ name: "a b", type: "timestamp with time zone" }]);
      assertEquals(odd!.primaryKey, []);
    });

    test("are those that can be watched, where none is named", async () => {
      const names = (await read()).map(formatTableName);
      const roots = db.major >= 13 ? ["public.parts"] : ["public.parts_1"];
      const covered = db.major >= 11 ? ["public.covered"] : [];
      const odd = formatTableName({ schema: "My.Blog", table: 'Ta"ble' });
      assertEquals(names, [odd, ...covered, "public.documents", ...roots]);
    });

    test("have no column in their key that its index only includes", async () => {
      if (db.major < 11) return;
      assertEquals((await read("covered"))[0]!.primaryKey, ["id"]);
    });

    test("that are not there are told, with what was meant", async () => {
      const error = await assertRejects(() => read("documents", "Documents"), ReplicationError);
      assertEquals(error.kind, "table-missing");
      assertEquals(error.message.includes('"public.documents"'), true, error.message);
      const view = await assertRejects(() => read("seen"), ReplicationError);
      assertEquals(view.kind, "table-not-publishable");
    });
  });
}
