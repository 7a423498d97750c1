/** Servers that cannot be reached, roles that may not: errors that say so, and tell no password. */

import {
  assert,
  assertEquals,
  assertMatch,
  assertNotMatch,
  assertStringIncludes,
} from "@std/assert";
import { createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { inspect } from "node:util";
import { isRetryable } from "../../mod.ts";
import {
  CANARY,
  CANARY_FORMS,
  checkSecrets,
  dsnWith,
  logger,
  makeRole,
  refusal,
  streamOf,
} from "../support/refusal.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { started, uniqueName } from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
  await db.query("CREATE TABLE documents (id int PRIMARY KEY, content text)");
});
after(() => db?.stop());

describe("connecting", () => {
  // setup() asks for replication, start() first for a plain connection.
  for (const call of ["setup", "start"] as const) {
    test(`${call}() with a wrong password`, async () => {
      const { role, drop } = await makeRole(db, "REPLICATION");
      const stream = streamOf(db.dsn, ["documents"], {
        dsn: dsnWith(db.dsn, { user: role, password: `${CANARY}x` }),
      });
      const error = await refusal(call, () => stream[call]());
      assertEquals(error.kind, "authentication");
      assertStringIncludes(error.message, role);
      assertMatch(error.hint!, /password/);
      assertEquals(isRetryable(error), false);
      await drop();
    });

    test(`${call}() with a wrong password from a function, that never reaches a message`, async () => {
      const { role, drop } = await makeRole(db, "REPLICATION");
      const stream = streamOf(db.dsn, ["documents"], {
        dsn: dsnWith(db.dsn, { user: role }),
        password: () => Promise.resolve(`${CANARY}x`),
      });
      assertEquals((await refusal(call, () => stream[call]())).kind, "authentication");
      checkSecrets(stream);
      await drop();
    });

    test(`${call}() of a database that does not exist`, async () => {
      const stream = streamOf(db.dsn, ["documents"], {
        dsn: dsnWith(db.dsn, { database: "no such db" }),
      });
      const error = await refusal(call, () => stream[call]());
      assertEquals(error.kind, "database-missing");
      assertStringIncludes(error.message, "no such db");
      assertMatch(error.hint!, /name/);
    });

    test(`${call}() on a host that does not exist`, async () => {
      const dsn = dsnWith(db.dsn, { host: "no-such-host.invalid", password: CANARY });
      const error = await refusal(call, () => streamOf(db.dsn, ["documents"], { dsn })[call]());
      assertEquals(error.kind, "host-not-found");
      assertStringIncludes(error.message, "no-such-host.invalid");
      assert(error.hint);
    });

    test(`${call}() where nothing listens`, async () => {
      const probe = createServer().listen(0, "127.0.0.1");
      await new Promise((resolve) => probe.once("listening", resolve));
      const { port } = probe.address() as { port: number };
      await new Promise((resolve) => probe.close(resolve));
      const dsn = dsnWith(db.dsn, { host: "127.0.0.1", port: String(port), password: CANARY });
      const error = await refusal(call, () => streamOf(db.dsn, ["documents"], { dsn })[call]());
      assertEquals(error.kind, "connection-refused");
      assertStringIncludes(error.message, `127.0.0.1:${port}`);
      assertEquals(isRetryable(error), true);
      assert(error.hint);
    });

    test(`${call}() where something listens that never answers`, async () => {
      const mute = createServer(() => {}).listen(0, "127.0.0.1");
      const sockets = new Set<{ destroy(): void }>();
      mute.on("connection", (socket) => sockets.add(socket));
      await new Promise((resolve) => mute.once("listening", resolve));
      const { port } = mute.address() as { port: number };
      const dsn = dsnWith(db.dsn, { host: "127.0.0.1", port: String(port), password: CANARY });
      const stream = streamOf(db.dsn, ["documents"], { dsn: `${dsn}?connect_timeout=2` });
      const error = await refusal(call, () => stream[call](), 8000);
      assertEquals(error.kind, "connect-timeout");
      assertStringIncludes(error.message, `127.0.0.1:${port}`);
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => mute.close(resolve));
    });

    test(`${call}() with a DSN that cannot be read`, async () => {
      for (
        const dsn of [
          `postgresql://user:${encodeURIComponent(CANARY)}@host:notaport/db`,
          `postgresql://user:${CANARY}@host/db`,
          `mysql://user:${encodeURIComponent(CANARY)}@host/db`,
          `host=h password='${CANARY.replace("'", "\\'")} user=u`,
          `postgresql://user:%ZZ${encodeURIComponent(CANARY)}@host/db`,
          `postgresql://user:${encodeURIComponent(CANARY)}@host/db?sslmode=maybe`,
          `postgresql://user:${encodeURIComponent(CANARY)}@a,b/db?port=1,2,3`,
        ]
      ) {
        const error = await refusal(call, () => streamOf(db.dsn, ["documents"], { dsn })[call]());
        assertNotMatch(error.kind, /^(connection|host|authentication)/, dsn);
      }
    });
  }

  test("a role that may not replicate", async () => {
    const { role, drop } = await makeRole(db, "NOREPLICATION");
    await db.query(`GRANT SELECT ON documents TO ${role}`);
    const dsn = dsnWith(db.dsn, { user: role, password: CANARY });
    const slotName = uniqueName();
    const mine = streamOf(db.dsn, ["documents"], { slotName });
    await mine.setup();
    const stream = streamOf(db.dsn, ["documents"], { dsn, slotName });
    for (const call of ["setup", "start", "teardown"] as const) {
      const error = await refusal(call, () => stream[call]());
      assertEquals(error.kind, "replication-privilege");
      assertStringIncludes(error.message, role);
      assertStringIncludes(error.hint!, `ALTER ROLE "${role}" REPLICATION`);
    }
    await mine.teardown();
    await drop();
  });

  test("a role that may replicate, but not create the publication", async () => {
    const { role, drop } = await makeRole(db, "REPLICATION");
    const dsn = dsnWith(db.dsn, { user: role, password: CANARY });
    const slotName = uniqueName();
    const error = await refusal(
      "setup()",
      () => streamOf(db.dsn, ["documents"], { dsn, slotName }).setup(),
    );
    assertEquals(error.kind, "publication-privilege");
    assertStringIncludes(error.message, slotName);
    assertStringIncludes(
      error.hint!,
      `CREATE PUBLICATION "${slotName}" FOR TABLE "public"."documents"`,
    );
    // What the hint says to run makes it work.
    await db.query(/CREATE PUBLICATION [^;]*;/.exec(error.hint!)![0]);
    const stream = streamOf(db.dsn, ["documents"], { dsn, slotName });
    assertEquals((await stream.setup()).slot, "created");
    const grown = await refusal("setup()", () => {
      return db.query("CREATE TABLE IF NOT EXISTS more (id int PRIMARY KEY)")
        .then(() => streamOf(db.dsn, ["documents", "more"], { dsn, slotName }).setup());
    });
    assertEquals(grown.kind, "publication-privilege");
    await stream.teardown();
    await db.query(`DROP PUBLICATION ${slotName}`);
    await drop();
  });
});

test("the password is in nothing that a stream shows of itself, while it works", async () => {
  const { role, drop } = await makeRole(db, "REPLICATION");
  const slotName = uniqueName();
  const mine = streamOf(db.dsn, ["documents"], { slotName });
  await mine.setup();
  const stream = streamOf(db.dsn, ["documents"], {
    slotName,
    dsn: `${dsnWith(db.dsn, { user: role, password: CANARY })}?no_such_parameter=${
      encodeURIComponent(CANARY)
    }`,
  });
  const running = await started(stream);
  const shown = [
    inspect(stream, { depth: Infinity, showHidden: true }),
    JSON.stringify(stream),
    JSON.stringify(stream.status()),
    String(stream),
  ].join("\n");
  for (const secret of CANARY_FORMS) assert(!shown.includes(secret), shown);
  checkSecrets(null);
  assertStringIncludes(logger.lines.join("\n"), "no_such_parameter");
  await running.stop();
  await mine.teardown();
  await drop();
});
