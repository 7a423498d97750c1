/** A table that is added to the publication while a transaction that has written to it is still open. */

import { assertEquals, assertMatch } from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import { PgStream } from "../../mod.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { openClient, started, uniqueName, until } from "../support/streams.ts";

// 17.4 is one of those that lose the rows that come later: https://www.postgresql.org/docs/release/17.5/
for (const major of testMajors(18, 17, 17.4)) {
  const name = major === 17.4 ? "17.4" : `${major}`;
  describe(`adding a table on PostgreSQL ${name}`, () => {
    let db: TestPostgres;
    let sql: postgres.Sql;
    before(async () => {
      db = await testPostgres({ major });
      sql = openClient(db.dsn);
    });
    after(async () => {
      await sql?.end({ timeout: 1 });
      await db?.stop();
    });

    test("beside an open transaction: rows that come later are handed out, or setup() has warned (16)", async () => {
      const [old, added] = [uniqueName("old"), uniqueName("added")];
      const slotName = uniqueName();
      await db.query(
        `CREATE TABLE ${old} (id int PRIMARY KEY); CREATE TABLE ${added} (id int PRIMARY KEY)`,
      );
      const keys: string[] = [];
      const make = (...tables: string[]) =>
        new PgStream({ dsn: db.dsn, slotName, logger: false }).watch(...tables)
          .onChange((event) =>
            void keys.push(`${event.table === old ? "old" : "added"} ${event.key}`)
          );
      assertEquals((await make(old).setup()).warnings, []);
      await (await started(make(old))).stop();

      await sql.unsafe(`BEGIN; INSERT INTO ${added} VALUES (1)`);
      const { added: published, warnings } = await make(old, added).setup();
      assertEquals(published, [`public.${added}`]);
      const stream = make(old, added);
      const running = await started(stream);
      await sql.unsafe("COMMIT");
      await db.query(`INSERT INTO ${added} VALUES (2)`);
      await db.query(`INSERT INTO ${added} VALUES (3)`);
      await db.query(`INSERT INTO ${old} VALUES (4)`);
      await until("the last row", () => keys.at(-1) === "old 4");
      await running.stop();
      const later = keys.filter((key) => key === "added 2" || key === "added 3");
      console.log(`${name}: ${later.length} of 2 later rows`);
      if (later.length < 2) {
        assertMatch(
          warnings.join("\n"),
          new RegExp(`\\b17\\.5\\b`),
          "they are lost without a word",
        );
        assertMatch(warnings.join("\n"), new RegExp(`public\\.${added}\\b`));
      }
      await stream.teardown();
    });
  });
}
