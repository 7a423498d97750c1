/** From a commit to a handler: every operation, every name, and nothing that was not committed. */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import { deleted, inserted, scenario, truncated, updated } from "../support/scenario.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { openClient } from "../support/streams.ts";

for (const major of testMajors(18, 17, 14)) {
  describe(`a stream of PostgreSQL ${major}`, () => {
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

    test("hands out inserts, updates and deletes with all that the server says of them", async () => {
      await scenario(db, sql, {
        create: "CREATE TABLE rows (id int PRIMARY KEY, name text, note text)",
        watch: ["rows"],
      }, async ({ commit, expect }) => {
        const first = await commit(
          "INSERT INTO rows VALUES (1, 'one', NULL), (2, '', 'x'); UPDATE rows SET note = NULL WHERE id = 2",
        );
        const second = await commit("UPDATE rows SET id = 3, name = NULL WHERE id = 1");
        const third = await commit("DELETE FROM rows");
        const events = await expect(
          inserted("rows", "1", { id: "1", name: "one", note: null }),
          inserted("rows", "2", { id: "2", name: "", note: "x" }),
          updated("rows", "2", { id: "2", name: "", note: null }),
          updated("rows", "3", { id: "3", name: null, note: null }, {
            oldKey: "1",
            oldRow: { id: "1" },
          }),
          deleted("rows", "2", { id: "2" }),
          deleted("rows", "3", { id: "3" }),
        );
        const transactions = [first, first, first, second, third, third];
        assertEquals(events.map((event) => event.ordinal), [0, 1, 2, 0, 0, 1]);
        assertEquals(events.map((event) => event.xid), transactions.map(({ xid }) => xid));
        transactions.forEach(({ commitTimeMs }, index) => {
          if (commitTimeMs === null) return;
          assertAlmostEquals(events[index]!.commitTime.getTime(), commitTimeMs, 1);
        });
      });
    });

    test("keeps every character, in values, keys and names", async () => {
      const texts = [
        "\uFEFFbegins with a BOM",
        "\uFEFF",
        "𝒳🦆\u{10FFFF}",
        "e\u0301 ≠ é",
        "\u0001\t\r\n",
        " ",
      ];
      await scenario(db, sql, {
        create: 'CREATE TABLE "\uFEFFünï 🦆" (id text PRIMARY KEY, "\uFEFF🦆" text)',
        watch: ["\uFEFFünï 🦆"],
      }, async ({ commit, expect }) => {
        for (const text of texts) {
          await commit(`INSERT INTO "\uFEFFünï 🦆" VALUES ('${text}', '${text}')`);
        }
        await expect(
          ...texts.map((text) => inserted("\uFEFFünï 🦆", text, { id: text, "\uFEFF🦆": text })),
        );
      });
    });

    test("hands out a TRUNCATE of several tables as one event for each", async () => {
      await scenario(db, sql, {
        create: `CREATE TABLE emptied (id int PRIMARY KEY);
          CREATE TABLE emptied_too (id int PRIMARY KEY); CREATE TABLE unwatched (id int PRIMARY KEY)`,
        watch: ["emptied", "emptied_too"],
      }, async ({ commit, expect }) => {
        await commit("INSERT INTO emptied VALUES (1); INSERT INTO emptied_too VALUES (1)");
        await commit("TRUNCATE emptied, unwatched, emptied_too RESTART IDENTITY CASCADE");
        const events = await expect(
          inserted("emptied", "1", { id: "1" }),
          inserted("emptied_too", "1", { id: "1" }),
          truncated("emptied"),
          truncated("emptied_too"),
        );
        assertEquals(events.map((event) => event.ordinal), [0, 1, 0, 1]);
      });
    });

    test("takes names literally that need quotes", async () => {
      const name = '"We""ird"."Ta.ble"';
      await scenario(db, sql, {
        create: `CREATE SCHEMA "We""ird";
          CREATE TABLE ${name} ("Se lect" int PRIMARY KEY, "quo""te" text, "do.t" text);
          CREATE TABLE "Ta.ble" (id int PRIMARY KEY); CREATE TABLE "User" (id int PRIMARY KEY);
          CREATE TABLE "user" (id int PRIMARY KEY)`,
        watch: [name, "User"],
        delivered: ['We"ird|Ta.ble', "public|User"],
      }, async ({ commit, expect }) => {
        await commit(`INSERT INTO ${name} VALUES (1, 'a', 'b'); INSERT INTO "Ta.ble" VALUES (1)`);
        await commit('INSERT INTO "User" VALUES (1); INSERT INTO "user" VALUES (2)');
        await expect(
          {
            ...inserted("", "1", { "Se lect": "1", 'quo"te': "a", "do.t": "b" }),
            table: 'We"ird|Ta.ble',
          },
          inserted("User", "1", { id: "1" }),
        );
      });
    });

    test("takes columns called __proto__ and constructor for columns", async () => {
      await scenario(db, sql, {
        create:
          `CREATE TABLE proto ("__proto__" text PRIMARY KEY, constructor text, "toString" text);
          CREATE TABLE no_proto (id int PRIMARY KEY)`,
        watch: ["proto", "no_proto"],
      }, async ({ commit, expect }) => {
        await commit("INSERT INTO proto VALUES ('p', 'c', NULL); INSERT INTO no_proto VALUES (1)");
        await commit(`UPDATE proto SET "__proto__" = 'q'`);
        await commit("DELETE FROM proto");
        const events = await expect(
          inserted("proto", "p", { ["__proto__"]: "p", constructor: "c", toString: null } as never),
          inserted("no_proto", "1", { id: "1" }),
          updated(
            "proto",
            "q",
            { ["__proto__"]: "q", constructor: "c", toString: null } as never,
            { oldKey: "p", oldRow: { ["__proto__"]: "p" } },
          ),
          deleted("proto", "q", { ["__proto__"]: "q" }),
        );
        assertEquals(events[0]!.row["__proto__"], "p");
        for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
          assertEquals(name in events[1]!.row, false, name);
        }
      });
    });

    test("writes a compound key in the order of the key, not of the columns", async () => {
      await scenario(db, sql, {
        create: "CREATE TABLE compound (b text, v int, a int, PRIMARY KEY (a, b))",
        watch: ["compound"],
      }, async ({ commit, expect }) => {
        await commit(`INSERT INTO compound VALUES ('x"', 1, 1), ('y', 1, 2)`);
        await commit("UPDATE compound SET b = 'z' WHERE a = 1");
        await commit("DELETE FROM compound WHERE a = 2");
        await expect(
          inserted("compound", '["1","x\\""]', { b: 'x"', v: "1", a: "1" }),
          inserted("compound", '["2","y"]', { b: "y", v: "1", a: "2" }),
          updated("compound", '["1","z"]', { b: "z", v: "1", a: "1" }, {
            oldKey: '["1","x\\""]',
            oldRow: { b: 'x"', a: "1" },
          }),
          deleted("compound", '["2","y"]', { b: "y", a: "2" }),
        );
      });
    });

    test("hands out the changes of partitions under the name of the root", async () => {
      await scenario(db, sql, {
        create: `CREATE TABLE parts (id int, region text, v int, PRIMARY KEY (region, id))
            PARTITION BY LIST (region);
          CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
          CREATE TABLE parts_us (v int, region text NOT NULL, id int NOT NULL);
          ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us')`,
        watch: ["parts"],
      }, async ({ commit, expect }) => {
        await commit("INSERT INTO parts VALUES (1, 'eu', 1), (1, 'us', 2)");
        await commit("UPDATE parts_us SET v = 3");
        await commit("UPDATE parts SET region = 'us', id = 7 WHERE region = 'eu'");
        await commit("TRUNCATE parts");
        await expect(
          inserted("parts", '["eu","1"]', { id: "1", region: "eu", v: "1" }),
          inserted("parts", '["us","1"]', { id: "1", region: "us", v: "2" }),
          updated("parts", '["us","1"]', { id: "1", region: "us", v: "3" }),
          deleted("parts", '["eu","1"]', { id: "1", region: "eu" }),
          inserted("parts", '["us","7"]', { id: "7", region: "us", v: "1" }),
          truncated("parts"),
        );
      });
    });

    test("hands out nothing of a table that has the watched one's name in another schema", async () => {
      await scenario(db, sql, {
        create: `CREATE SCHEMA elsewhere; CREATE TABLE twins (id int PRIMARY KEY);
          CREATE TABLE elsewhere.twins (id int PRIMARY KEY)`,
        watch: ["twins"],
      }, async ({ slotName, commit, expect }) => {
        await db.query(`ALTER PUBLICATION ${slotName} ADD TABLE elsewhere.twins`);
        await commit("INSERT INTO elsewhere.twins VALUES (1); INSERT INTO twins VALUES (2)");
        await commit("TRUNCATE elsewhere.twins, twins");
        await commit("INSERT INTO elsewhere.twins VALUES (3)");
        const events = await expect(inserted("twins", "2", { id: "2" }), truncated("twins"));
        assertEquals(events[0]!.ordinal, 1);
      });
    });

    test("hands out nothing that was rolled back", async () => {
      await scenario(db, sql, {
        create: "CREATE TABLE undone (id int PRIMARY KEY)",
        watch: ["undone"],
      }, async ({ commit, expect }) => {
        await sql.unsafe("BEGIN; INSERT INTO undone VALUES (1); ROLLBACK");
        await commit(`INSERT INTO undone VALUES (2); SAVEPOINT a; INSERT INTO undone VALUES (3);
          SAVEPOINT b; INSERT INTO undone VALUES (4); ROLLBACK TO a; INSERT INTO undone VALUES (5);
          RELEASE a; SAVEPOINT c; DELETE FROM undone; ROLLBACK TO c`);
        const events = await expect(
          inserted("undone", "2", { id: "2" }),
          inserted("undone", "5", { id: "5" }),
        );
        assertEquals(events.map((event) => event.ordinal), [0, 1]);
      });
    });
  });
}
