/** The table in which a backfill's progress is kept: made where it is wanted, with no right too many. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { BackfillError } from "../../src/backfill/errors.ts";
import { PostgresStateStore, prepareStateTable } from "../../src/backfill/postgres_state_store.ts";
import { Connector } from "../../src/wire/connector.ts";
import { stateStoreContract } from "../contract/state_store_contract.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { uniqueName } from "../support/streams.ts";

for (const major of testMajors(18, 10)) {
  describe(`on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    let connector: Connector;
    const roles: string[] = [];
    before(async () => {
      db = await testPostgres({ major });
      connector = new Connector({ dsn: db.dsn, logger: false });
    });
    after(async () => {
      for (const role of roles) await db.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      await db.stop();
    });

    async function prepare(by: Connector = connector): Promise<boolean> {
      const connection = await by.connect();
      try {
        return await prepareStateTable(connection);
      } finally {
        await connection.close();
      }
    }

    async function asNewRole(): Promise<{ role: string; connector: Connector }> {
      const role = uniqueName("keeper");
      roles.push(role);
      await db.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`);
      const url = new URL(db.dsn);
      url.username = role;
      url.password = "secret";
      return { role, connector: new Connector({ dsn: url.href, logger: false }) };
    }

    async function failure(call: () => Promise<unknown>): Promise<BackfillError> {
      const error = await assertRejects(call, BackfillError);
      assertEquals(error.message.includes("secret"), false);
      return error;
    }

    stateStoreContract(`PostgresStateStore on ${major}`, async () => {
      await prepare();
      const store = new PostgresStateStore({ connector });
      return {
        store,
        reopen: () => Promise.resolve(new PostgresStateStore({ connector })),
        release: async () => {
          await store.close();
          await db.query("TRUNCATE pgstream.state");
        },
      };
    });

    test("is created once, and says whether it was", async () => {
      await db.query("DROP SCHEMA IF EXISTS pgstream CASCADE");
      assertEquals(await prepare(), true);
      assertEquals(await prepare(), false);
      await db.query("DROP TABLE pgstream.state");
      assertEquals(await prepare(), true);
    });

    test("made by several at once is made once, and none fails", async () => {
      for (let round = 0; round < 5; round++) {
        await db.query("DROP SCHEMA IF EXISTS pgstream CASCADE");
        await Promise.all(Array.from({ length: 4 }, () => prepare()));
      }
      assertEquals((await db.query("SELECT FROM pgstream.state")).length, 0);
    });

    test("that is missing sends to setup(), on reading and on writing", async () => {
      await db.query("DROP SCHEMA IF EXISTS pgstream CASCADE");
      const store = new PostgresStateStore({ connector });
      for (const schema of [false, true]) {
        if (schema) await db.query("CREATE SCHEMA pgstream");
        for (const call of [() => store.get("k"), () => store.set("k", "v")]) {
          const error = await failure(call);
          assertEquals(error.kind, "state-missing");
          assertStringIncludes(error.message, "setup()");
        }
      }
      await prepare();
      await store.set("k", "v");
      assertEquals(await store.get("k"), "v");
      await store.close();
    });

    test("a role with no right to create is told what to run, and it then helps", async () => {
      await db.query("DROP SCHEMA IF EXISTS pgstream CASCADE");
      const { connector: limited } = await asNewRole();
      const error = await failure(() => prepare(limited));
      assertEquals(error.kind, "state-store");
      const [statements] = /CREATE SCHEMA .*?; GRANT .*?;/.exec(error.hint!)!;
      await db.query(statements);
      assertEquals(await prepare(limited), true);
      const store = new PostgresStateStore({ connector: limited });
      await store.set("k", "v");
      assertEquals(await store.get("k"), "v");
      await store.close();
    });

    test("a role that may use it needs no right to create; one that may not is told", async () => {
      await db.query("DROP SCHEMA IF EXISTS pgstream CASCADE");
      await prepare();
      const { connector: limited } = await asNewRole();
      const store = new PostgresStateStore({ connector: limited });
      const early = await failure(() => store.get("k"));
      assertEquals(early.kind, "state-store");
      const error = await failure(() => prepare(limited));
      assertEquals(error.kind, "state-store");
      await db.query(/GRANT .*;/.exec(error.hint!)![0]);
      assertEquals(await prepare(limited), false);
      await store.set("k", "v");
      await store.set("k", "w");
      assertEquals(await store.get("k"), "w");
      await store.close();
    });

    test("a database that is read-only is said to be", async () => {
      await prepare();
      const { role, connector: limited } = await asNewRole();
      await db.query(`GRANT USAGE ON SCHEMA pgstream TO ${role};
        GRANT ALL ON pgstream.state TO ${role};
        ALTER ROLE ${role} SET default_transaction_read_only = on`);
      const store = new PostgresStateStore({ connector: limited });
      assertEquals(await store.get("never set"), null);
      const error = await failure(() => store.set("k", "v"));
      assertEquals(error.kind, "state-store");
      assertStringIncludes(error.message, "read-only");
      await store.close();
    });

    test("a session that is killed is replaced without a word", async () => {
      await prepare();
      const url = new URL(db.dsn);
      url.searchParams.set("application_name", uniqueName("state"));
      const name = url.searchParams.get("application_name")!;
      const store = new PostgresStateStore({
        connector: new Connector({ dsn: url.href, logger: false }),
      });
      for (let round = 0; round < 3; round++) {
        await store.set("k", `${round}`);
        const killed = await db.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '${name}'`,
        );
        assert(killed.length === 1, `${killed.length} sessions`);
        assertEquals(await store.get("k"), `${round}`);
      }
      await store.close();
    });
  });
}
