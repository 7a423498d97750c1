/** Tables that get another name: nothing is skipped, and nothing comes under a name nobody watches. */

import {
  assert,
  assertEquals,
  assertLessOrEqual,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, parseLsn, PgStream, PgStreamError } from "../../mod.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { confirmedLsn, started, uniqueName, until, within } from "../support/streams.ts";

const told = ({ operation, schema, table, key, oldKey }: ChangeEvent) =>
  [operation, `${schema}.${table}`, oldKey, key].filter((part) => part !== null).join(" ");

for (const major of testMajors(18, 14)) {
  describe(`a table that is renamed, on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await db.query("CREATE SCHEMA moved");
    });
    after(() => db?.stop());

    /** A stream of the slot, and what it hands out. */
    function streamOf(slotName: string, ...tables: string[]) {
      const events: ChangeEvent[] = [];
      const stream = new PgStream({ dsn: db.dsn, slotName, logger: false }).watch(...tables)
        .onChange((event) => void events.push(event));
      return { stream, events };
    }

    /** Runs the stream until it has handed out so many events, or has failed. */
    async function handedOut(
      { stream, events }: ReturnType<typeof streamOf>,
      many: number,
    ): Promise<string[]> {
      const running = await started(stream);
      try {
        await until(
          `${many} events, not ${events.length}`,
          () => events.length >= many || stream.status().state === "failed",
        );
        await running.stop();
      } finally {
        await stream.stop();
      }
      return events.map(told);
    }

    for (const identity of ["DEFAULT", "FULL"]) {
      test(`while the stream is down: all comes under the watched name; identity ${identity}`, async () => {
        const old = uniqueName("old");
        const now = uniqueName("now");
        const slotName = uniqueName();
        await db.query(`CREATE TABLE ${old} (v text, b int, a text, PRIMARY KEY (a, b));
          ALTER TABLE ${old} REPLICA IDENTITY ${identity}`);
        await streamOf(slotName, old).stream.setup();
        await db.query(`INSERT INTO ${old} VALUES ('v', 1, 'x')`);
        await db.query(`UPDATE ${old} SET b = 2`);
        await db.query(`ALTER TABLE ${old} RENAME TO ${now}_first; INSERT INTO ${now}_first
          VALUES ('v', 3, 'x')`);
        await db.query(`ALTER TABLE ${now}_first RENAME TO ${now}`);
        await db.query(`DELETE FROM ${now} WHERE b = 2`);
        await db.query(`ALTER TABLE ${now} SET SCHEMA moved`);
        await db.query(`INSERT INTO moved.${now} VALUES ('v', 4, 'x'); TRUNCATE moved.${now}`);

        const late = streamOf(slotName, `moved.${now}`);
        const report = await late.stream.setup();
        assertEquals([report.publication, report.added, report.removed], ["found", [], []]);
        const name = `moved.${now}`;
        assertEquals(await handedOut(late, 6), [
          `insert ${name} ["x","1"]`,
          `update ${name} ["x","1"] ["x","2"]`,
          `insert ${name} ["x","3"]`,
          `delete ${name} ["x","2"]`,
          `insert ${name} ["x","4"]`,
          `truncate ${name}`,
        ]);
        await late.stream.teardown();
      });
    }

    test("to and fro while the stream is down: all comes under the one name", async () => {
      const table = uniqueName("fro");
      const slotName = uniqueName();
      await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY)`);
      const late = streamOf(slotName, table);
      await late.stream.setup();
      await db.query(`INSERT INTO ${table} VALUES (1)`);
      await db.query(`ALTER TABLE ${table} RENAME TO ${table}_away`);
      await db.query(`INSERT INTO ${table}_away VALUES (2)`);
      await db.query(`ALTER TABLE ${table}_away RENAME TO ${table}`);
      await db.query(`INSERT INTO ${table} VALUES (3)`);
      assertEquals(
        await handedOut(late, 3),
        [1, 2, 3].map((id) => `insert public.${table} ${id}`),
      );
      await late.stream.teardown();
    });

    /** What a stream of a renamed table is rejected with. */
    async function renamedError(ended: Promise<unknown>, old: string, now: string) {
      const error = await within("start() to reject", ended);
      assert(error instanceof PgStreamError, `start() ended with ${error}`);
      assertEquals(error.kind, "table-renamed", error.message);
      assertStringIncludes(error.message, old);
      assertStringIncludes(error.message, now);
      assertMatch(error.hint!, /watch/i);
      assertStringIncludes(error.hint!, now);
    }

    for (const how of ["by itself", "between two rows of a transaction"]) {
      test(`${how}, while it streams: start() says so, and nothing since is confirmed`, async () => {
        const old = uniqueName("old");
        const now = uniqueName("now");
        const slotName = uniqueName();
        await db.query(`CREATE TABLE ${old} (id int PRIMARY KEY)`);
        const before = streamOf(slotName, old);
        await before.stream.setup();
        const { ended } = await started(before.stream);
        try {
          await db.query(`INSERT INTO ${old} VALUES (1)`);
          await until("the first row", () => before.events.length > 0);
          const rename = `ALTER TABLE ${old} RENAME TO ${now}`;
          if (how === "by itself") await db.query(rename);
          else {await db.query(
              `INSERT INTO ${old} VALUES (2); ${rename}; INSERT INTO ${now} VALUES (3)`,
            );}
          await db.query(`INSERT INTO ${now} VALUES (4)`);
          await renamedError(ended, `public.${old}`, `public.${now}`);
        } finally {
          await before.stream.stop();
        }
        assert(before.events.every(({ table }) => table === old));
        assert(before.events.every(({ key }) => key === "1" || key === "2"));
        const confirmed = await confirmedLsn(db, slotName);

        const next = streamOf(slotName, now);
        const keys = how === "by itself" ? [4] : [2, 3, 4];
        assertEquals(
          await handedOut(next, keys.length),
          keys.map((id) => `insert public.${now} ${id}`),
        );
        assertLessOrEqual(confirmed, parseLsn(next.events[0]!.lsn));
        await next.stream.teardown();
      });
    }

    test("in a swap with another: each row comes once, under the name of its table", async () => {
      const table = uniqueName("swapped");
      const slotName = uniqueName();
      await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY);
        CREATE TABLE ${table}_new (id int PRIMARY KEY); CREATE PUBLICATION ${slotName} FOR ALL TABLES`);
      const before = streamOf(slotName, table);
      await before.stream.setup();
      const { ended } = await started(before.stream);
      try {
        await db.query(`INSERT INTO ${table} VALUES (1)`);
        await until("the first row", () => before.events.length > 0);
        await db.query(`ALTER TABLE ${table} RENAME TO ${table}_old;
          ALTER TABLE ${table}_new RENAME TO ${table}`);
        await db.query(`INSERT INTO ${table} VALUES (2)`);
        await db.query(`INSERT INTO ${table}_old VALUES (3)`);
        await renamedError(ended, `public.${table}`, `public.${table}_`);
      } finally {
        await before.stream.stop();
      }
      // The name alone says that the second row is watched; no row is left out, and none comes twice.
      const next = streamOf(slotName, table, `${table}_old`);
      const missing = 3 - before.events.length;
      assertEquals([...before.events.map(told), ...await handedOut(next, missing)], [
        `insert public.${table} 1`,
        `insert public.${table} 2`,
        `insert public.${table}_old 3`,
      ]);
      await next.stream.teardown();
      await db.query(`DROP PUBLICATION ${slotName}`);
    });

    test("in a swap, where the publication has the old table only", async () => {
      const table = uniqueName("swapped");
      const slotName = uniqueName();
      await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY);
        CREATE TABLE ${table}_new (id int PRIMARY KEY)`);
      const before = streamOf(slotName, table);
      await before.stream.setup();
      const running = await started(before.stream);
      try {
        await db.query(`ALTER TABLE ${table} RENAME TO ${table}_old;
          ALTER TABLE ${table}_new RENAME TO ${table}`);
        await db.query(`INSERT INTO ${table}_old VALUES (1)`);
        await renamedError(running.ended, `public.${table}`, `public.${table}_old`);
      } finally {
        await before.stream.stop();
      }
      assertEquals(before.events, []);
      // The table that has the name now was never published: said, not taken for quiet.
      const error = await within(
        "start()",
        streamOf(slotName, table).stream.start().then(() => null, (error) => error),
      );
      assert(error instanceof PgStreamError, `start() ended with ${error}`);
      assertEquals(error.kind, "table-not-published");

      const next = streamOf(slotName, `${table}_old`);
      assertEquals(await handedOut(next, 1), [`insert public.${table}_old 1`]);
      await next.stream.teardown();
    });
  });
}
