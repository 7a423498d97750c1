/** Which tables may be published: setup() refuses exactly those whose writers the server would stop. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { PgStream, PgStreamError } from "../../mod.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { started, uniqueName, until } from "../support/streams.ts";

const IDENTITIES: [string, string][] = [
  ["default", "DEFAULT"],
  ["full", "FULL"],
  ["index", "USING INDEX $table_code"],
  ["nothing", "NOTHING"],
];
/** What a table has beside `id int NOT NULL, code int NOT NULL`. */
const SHAPES: { name: string; since: number; columns: string; generated?: true }[] = [
  { name: "a primary key", since: 10, columns: ", PRIMARY KEY (id)" },
  { name: "no primary key", since: 10, columns: "" },
  {
    name: "a primary key that is deferrable",
    since: 10,
    columns: ", PRIMARY KEY (id) DEFERRABLE",
  },
  {
    name: "a primary key and a generated column",
    since: 12,
    columns: ", PRIMARY KEY (id), twice int GENERATED ALWAYS AS (id * 2) STORED",
    generated: true,
  },
];

for (const major of testMajors(18, 17, 13)) {
  describe(`publishing on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
    });
    after(() => db?.stop());

    for (const shape of SHAPES) {
      for (const [identity, clause] of IDENTITIES) {
        test(`a table with ${shape.name} under REPLICA IDENTITY ${identity}: no writer is stopped (17)`, async () => {
          if (db.major < shape.since) return;
          const create = async () => {
            const table = uniqueName("identity");
            await db.query(`CREATE TABLE ${table} (id int NOT NULL, code int NOT NULL, note text
              ${shape.columns}); CREATE UNIQUE INDEX ${table}_code ON ${table} (code);
              ALTER TABLE ${table} REPLICA IDENTITY ${clause.replace("$table", table)}`);
            return table;
          };
          const write = (table: string) =>
            db.query(`INSERT INTO ${table} (id, code) VALUES (1, 1);
              UPDATE ${table} SET note = 'changed'; DELETE FROM ${table}`)
              .then(() => null, (error: { code: string }) => error.code);

          // What the server makes of it where nobody looks first.
          const published = await create();
          const publication = uniqueName("bare");
          await db.query(`CREATE PUBLICATION ${publication} FOR TABLE ${published}`);
          const stopped = await write(published);
          await db.query(`DROP PUBLICATION ${publication}`);
          assertEquals(await write(published), null);

          const table = await create();
          const slotName = uniqueName();
          const operations: string[] = [];
          const stream = new PgStream({ dsn: db.dsn, slotName, logger: false }).watch(table)
            .onChange((event) => void operations.push(event.operation));
          const error = await stream.setup().then(() => null, (error) => error);
          assertEquals(
            error !== null,
            stopped !== null,
            `the server: ${stopped}; setup(): ${error}`,
          );
          assertEquals(await write(table), null);
          if (error === null) {
            const running = await started(stream);
            await until("its changes", () => operations.length === 3);
            await running.stop();
            assertEquals(operations, ["insert", "update", "delete"]);
          } else {
            assert(stopped === "55000" || stopped === "42P10", `${stopped}`);
            assert(error instanceof PgStreamError, `${error}`);
            assertEquals(error.kind, "replica-identity");
            assert(error.message.includes(table), error.message);
            assertMatch(error.hint!, /ALTER|primary key|CREATE/);
            assertEquals(
              await db.query("SELECT FROM pg_publication WHERE pubname = $1", [slotName]),
              [],
            );
          }
          await stream.teardown();
        });
      }
    }

    test("never asks for all tables: what is not watched keeps its writers (17)", async () => {
      const [watched, other] = [uniqueName("watched"), uniqueName("other")];
      await db.query(
        `CREATE TABLE ${watched} (id int PRIMARY KEY); CREATE TABLE ${other} (id int)`,
      );
      const slotName = uniqueName();
      const stream = new PgStream({ dsn: db.dsn, slotName, logger: false }).watch(watched);
      await stream.setup();
      await db.query(
        `INSERT INTO ${other} VALUES (1); UPDATE ${other} SET id = 2; DELETE FROM ${other}`,
      );
      const tables = await db.query<{ name: string }>(
        "SELECT tablename AS name FROM pg_publication_tables WHERE pubname = $1",
        [slotName],
      );
      assertEquals(tables.map(({ name }) => name), [watched]);
      await stream.teardown();
    });
  });
}
