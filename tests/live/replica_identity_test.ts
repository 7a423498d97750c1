/** What a stream knows of old rows and unchanged columns, under each replica identity. */

import { assertEquals, assertInstanceOf, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import { PgStream, PgStreamError } from "../../mod.ts";
import {
  deleted,
  inserted,
  LONG_TEXT,
  scenario,
  type Texts,
  updated,
} from "../support/scenario.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { LogLines, openClient, uniqueName } from "../support/streams.ts";

for (const major of testMajors(18, 17, 14)) {
  describe(`replica identities on PostgreSQL ${major}`, () => {
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

    const external = (table: string, rest = "") =>
      `CREATE TABLE ${table} (id int PRIMARY KEY, code text NOT NULL, note text, big text${rest});
      ALTER TABLE ${table} ALTER big SET STORAGE EXTERNAL;`;
    const changesOf = (table: string) => [
      `INSERT INTO ${table} VALUES (1, 'a', 'n', ${LONG_TEXT})`,
      `UPDATE ${table} SET note = NULL`,
      `UPDATE ${table} SET id = 2`,
      `UPDATE ${table} SET code = 'b'`,
    ];
    async function bigOf(table: string): Promise<string> {
      const [row] = await db.query<{ big: string }>(`SELECT big FROM ${table}`);
      assertEquals(row!.big.length, 5120);
      return row!.big;
    }

    test("tells unchanged from NULL in a column that is stored out of line (18)", async () => {
      await scenario(
        db,
        sql,
        { create: external("toast_default"), watch: ["toast_default"] },
        async (
          { commit, expect },
        ) => {
          for (const change of changesOf("toast_default")) await commit(change);
          const big = await bigOf("toast_default");
          await commit("UPDATE toast_default SET big = NULL; DELETE FROM toast_default");
          const unchanged = ["big"];
          await expect(
            inserted("toast_default", "1", { id: "1", code: "a", note: "n", big }),
            updated("toast_default", "1", { id: "1", code: "a", note: null }, { unchanged }),
            updated("toast_default", "2", { id: "2", code: "a", note: null }, {
              unchanged,
              oldKey: "1",
              oldRow: { id: "1" },
            }),
            updated("toast_default", "2", { id: "2", code: "b", note: null }, { unchanged }),
            updated("toast_default", "2", { id: "2", code: "b", note: null, big: null }),
            deleted("toast_default", "2", { id: "2" }),
          );
        },
      );
    });

    test("fills unchanged columns from the old row under REPLICA IDENTITY FULL", async () => {
      await scenario(db, sql, {
        create: `${external("toast_full")} ALTER TABLE toast_full REPLICA IDENTITY FULL`,
        watch: ["toast_full"],
      }, async ({ commit, expect }) => {
        for (const change of changesOf("toast_full")) await commit(change);
        const big = await bigOf("toast_full");
        await commit("DELETE FROM toast_full");
        const rows: Texts[] = [
          { id: "1", code: "a", note: "n", big },
          { id: "1", code: "a", note: null, big },
          { id: "2", code: "a", note: null, big },
          { id: "2", code: "b", note: null, big },
        ];
        await expect(
          inserted("toast_full", "1", rows[0]!),
          updated("toast_full", "1", rows[1]!, { oldRow: rows[0]! }),
          updated("toast_full", "2", rows[2]!, { oldRow: rows[1]!, oldKey: "1" }),
          updated("toast_full", "2", rows[3]!, { oldRow: rows[2]! }),
          deleted("toast_full", "2", rows[3]!),
        );
      });
    });

    test("knows rows by their primary key under REPLICA IDENTITY USING INDEX", async () => {
      await scenario(db, sql, {
        create: `${external("toast_index")} CREATE UNIQUE INDEX toast_index_code
          ON toast_index (code, id); ALTER TABLE toast_index REPLICA IDENTITY USING INDEX toast_index_code`,
        watch: ["toast_index"],
      }, async ({ commit, expect }) => {
        for (const change of changesOf("toast_index")) await commit(change);
        const big = await bigOf("toast_index");
        await commit("DELETE FROM toast_index");
        const unchanged = ["big"];
        await expect(
          inserted("toast_index", "1", { id: "1", code: "a", note: "n", big }),
          updated("toast_index", "1", { id: "1", code: "a", note: null }, { unchanged }),
          updated("toast_index", "2", { id: "2", code: "a", note: null }, {
            unchanged,
            oldKey: "1",
            oldRow: { id: "1", code: "a" },
          }),
          updated("toast_index", "2", { id: "2", code: "b", note: null }, {
            unchanged,
            oldRow: { id: "2", code: "a" },
          }),
          deleted("toast_index", "2", { id: "2", code: "b" }),
        );
      });
    });

    test("knows a deleted row by the index where that lacks the primary key, and has warned", async () => {
      const logger = new LogLines();
      await scenario(db, sql, {
        create: `${external("toast_code")} CREATE UNIQUE INDEX toast_code_code ON toast_code (code);
          ALTER TABLE toast_code REPLICA IDENTITY USING INDEX toast_code_code`,
        watch: ["toast_code"],
        logger,
      }, async ({ commit, expect }) => {
        for (const change of changesOf("toast_code")) await commit(change);
        const big = await bigOf("toast_code");
        await commit("DELETE FROM toast_code");
        const unchanged = ["big"];
        await expect(
          inserted("toast_code", "1", { id: "1", code: "a", note: "n", big }),
          updated("toast_code", "1", { id: "1", code: "a", note: null }, { unchanged }),
          updated("toast_code", "2", { id: "2", code: "a", note: null }, { unchanged }),
          updated("toast_code", "2", { id: "2", code: "b", note: null }, {
            unchanged,
            oldRow: { code: "a" },
          }),
          deleted("toast_code", '{"code":"b"}', { code: "b" }),
        );
        const warnings = logger.lines.filter((line) => line.startsWith("warn")).join("\n");
        assertStringIncludes(warnings, "public.toast_code");
        assertStringIncludes(warnings, "REPLICA IDENTITY DEFAULT");
      });
    });

    test("refuses REPLICA IDENTITY NOTHING before anybody's UPDATE fails (17)", async () => {
      await db.query(
        `${external("toast_nothing")} ALTER TABLE toast_nothing REPLICA IDENTITY NOTHING`,
      );
      const slotName = uniqueName();
      const stream = new PgStream({ dsn: db.dsn, slotName, logger: false }).watch("toast_nothing");
      const error = await stream.setup().then(() => null, (error) => error);
      assertInstanceOf(error, PgStreamError);
      assertEquals(error.kind, "replica-identity");
      assertEquals(
        await db.query("SELECT FROM pg_publication WHERE pubname = $1", [slotName]),
        [],
      );
      await db.query(
        `INSERT INTO toast_nothing VALUES (1, 'a'); UPDATE toast_nothing SET code = 'b'`,
      );
    });
  });
}
