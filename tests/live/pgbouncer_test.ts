/** A pooler in front of the server: what somebody reads who was given its address. */

import { assertEquals, assertInstanceOf, assertStringIncludes } from "@std/assert";
import { after, before, test } from "node:test";
import { isRetryable, PgStreamError } from "../../mod.ts";
import { type Pgbouncer, startPgbouncer } from "../support/servers/pgbouncer.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { within } from "../support/streams.ts";
import { TestTable } from "../support/test_table.ts";

let db: TestPostgres;
let pooler: Pgbouncer | Error;
before(async () => {
  db = await testPostgres();
  pooler = await startPgbouncer(db.dsn).catch((error: Error) => error);
});
after(async () => {
  if (!(pooler instanceof Error)) await pooler?.stop();
  await db?.stop();
});

for (const call of ["setup", "start", "catchUp"] as const) {
  test(`${call}() through PgBouncer says to use the direct address`, async (t) => {
    if (pooler instanceof Error) return t.skip(`no PgBouncer here: ${pooler.message}`);
    const table = await TestTable.create(db, "pooled");
    const stream = table.stream({ dsn: pooler.dsn }).onChange(() => {});
    const error = await within(call, stream[call]().then(() => null, (error) => error));
    assertInstanceOf(error, PgStreamError);
    assertEquals([error.kind, isRetryable(error)], ["protocol-rejected", false]);
    assertStringIncludes(error.hint ?? "", "direct address");
    await table.remove();
  });
}
