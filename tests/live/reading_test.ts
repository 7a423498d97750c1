/** Connections that read existing rows: their settings, and what they are told where they may not. */

import { assertEquals, assertInstanceOf, assertRejects, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { BackfillError } from "../../src/backfill/errors.ts";
import { connectForReading, explainReadError } from "../../src/backfill/reading.ts";
import { formatTableName } from "../../src/table_name.ts";
import { Connector } from "../../src/wire/connector.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { openClient, uniqueName } from "../support/streams.ts";

const NAME = { schema: "s", table: 'We"ird' };

for (const major of testMajors(18, 10)) {
  describe(`on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    let role: string;
    let limited: Connector;
    before(async () => {
      db = await testPostgres({ major });
      role = uniqueName("reader");
      await db.query(`CREATE SCHEMA s; CREATE TABLE s."We""ird" (id int PRIMARY KEY);
        INSERT INTO s."We""ird" VALUES (1);
        CREATE ROLE ${role} LOGIN PASSWORD 'secret';
        ALTER ROLE ${role} SET statement_timeout = '1s';
        ALTER ROLE ${role} SET row_security = on`);
      const url = new URL(db.dsn);
      url.username = role;
      url.password = "secret";
      limited = new Connector({ dsn: url.href, logger: false });
    });
    after(async () => {
      await db?.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      await db?.stop();
    });

    async function refusal(sql: string, by: Connector): Promise<BackfillError> {
      const connection = await connectForReading(by);
      const error = await connection.query(sql).then(() => null, (error) => error);
      await connection.close();
      const explained = explainReadError(error, NAME, by.options.user);
      assertInstanceOf(explained, BackfillError, `${error}`);
      assertStringIncludes(explained.message, formatTableName(NAME));
      return explained;
    }

    test("they have no timeouts but the one for locks, whatever the role says", async () => {
      const connection = await connectForReading(limited);
      const names = ["row_security", "statement_timeout", "lock_timeout"];
      names.push("idle_in_transaction_session_timeout");
      if (major >= 14) names.push("idle_session_timeout");
      if (major >= 17) names.push("transaction_timeout");
      const values: Record<string, string> = {};
      for (const name of names) {
        values[name] = (await connection.query(`SHOW ${name}`)).rows[0]![0]!;
      }
      const { row_security, lock_timeout, ...timeouts } = values;
      assertEquals([row_security, lock_timeout], ["off", "5s"]);
      assertEquals([...new Set(Object.values(timeouts))], ["0"]);
      await connection.close();
    });

    test("a role that may not read is told what to run, and it then may", async () => {
      for (const sql of ['TABLE s."We""ird"', 'LOCK TABLE s."We""ird" IN ACCESS SHARE MODE']) {
        await db.query(`REVOKE ALL ON SCHEMA s FROM ${role};
          REVOKE ALL ON s."We""ird" FROM ${role}`);
        const begin = `BEGIN; ${sql}`;
        const error = await refusal(begin, limited);
        assertEquals(error.kind, "select-privilege");
        await db.query(/GRANT .*;/.exec(error.hint!)![0]);
        const connection = await connectForReading(limited);
        await connection.query(begin);
        await connection.close();
      }
    });

    test("row-level security is an error, and not rows that are hidden", async () => {
      await db.query(`GRANT USAGE ON SCHEMA s TO ${role}; GRANT SELECT ON s."We""ird" TO ${role};
        ALTER TABLE s."We""ird" ENABLE ROW LEVEL SECURITY`);
      const error = await refusal('TABLE s."We""ird"', limited);
      assertEquals(error.kind, "row-security");
      await db.query(/ALTER ROLE .*;/.exec(error.hint!)![0]);
      const connection = await connectForReading(limited);
      assertEquals((await connection.query('TABLE s."We""ird"')).rows, [["1"]]);
      await connection.close();
    });

    test("a table that somebody holds, or that is gone, is told apart", async () => {
      const by = new Connector({ dsn: db.dsn, logger: false });
      const lock = `SET lock_timeout = '50ms'; BEGIN; LOCK TABLE s."We""ird" IN ACCESS SHARE MODE`;
      const holder = openClient(db.dsn);
      await holder.unsafe('BEGIN; LOCK TABLE s."We""ird"');
      const locked = await refusal(lock, by);
      assertEquals([locked.kind, locked.retryable], ["lock-timeout", true]);
      const [statement] = /SELECT .*;/.exec(locked.hint!)!;
      assertEquals((await db.query(statement)).length, 1);
      await holder.unsafe("ROLLBACK");
      await holder.end();

      for (const gone of ["TABLE s.gone", "BEGIN; LOCK TABLE s.gone IN ACCESS SHARE MODE"]) {
        assertEquals((await refusal(gone, by)).kind, "table-missing");
        assertEquals((await refusal(gone.replace("s.", "t."), by)).kind, "table-missing");
      }
    });

    test("what nobody knows more of stays as it is", async () => {
      const connection = await connectForReading(limited);
      const error = await assertRejects(() => connection.query("SELECT 1 / 0"));
      assertEquals(explainReadError(error, NAME), error);
      assertEquals(explainReadError("x", NAME), "x");
      await connection.close();
    });
  });
}
