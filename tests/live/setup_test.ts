/** setup() and teardown(): what they make, what they leave alone, and what they say of it. */

import {
  assertEquals,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLess,
  assertMatch,
  assertNotMatch,
  assertStringIncludes,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import {
  PgStream,
  type PgStreamOptions,
  PublicationError,
  type SetupReport,
  SlotError,
  SlotManager,
  type SlotManagerOptions,
} from "../../mod.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  LogLines,
  openClient,
  sleep,
  started,
  uniqueName,
  until,
  within,
} from "../support/streams.ts";

function dsnAs(dsn: string, user: string, password = user): string {
  const url = new URL(dsn);
  url.username = user;
  url.password = password;
  return url.href;
}

for (const major of testMajors(18, 14)) {
  describe(`on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    let sql: postgres.Sql;
    const roles: string[] = [];
    before(async () => {
      db = await testPostgres({ major });
      sql = openClient(db.dsn);
      await db.query(`CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE two (id int PRIMARY KEY);
        CREATE TABLE three (id int PRIMARY KEY); CREATE SCHEMA blog;
        CREATE TABLE blog.articles (id int PRIMARY KEY)`);
    });
    after(async () => {
      for (const role of roles) await db.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      await sql?.end({ timeout: 1 });
      await db?.stop();
    });

    /** A role that may replicate, and may do nothing else. */
    async function replicator(): Promise<string> {
      const role = uniqueName("role");
      await db.query(`CREATE ROLE ${role} LOGIN REPLICATION PASSWORD '${role}'`);
      roles.push(role);
      return role;
    }

    function streamOf(tables: string[], options: PgStreamOptions): PgStream {
      return new PgStream({ dsn: db.dsn, logger: false, ...options }).watch(...tables)
        .onChange(() => {});
    }

    function slotsOf(options: SlotManagerOptions): SlotManager {
      return new SlotManager({ dsn: db.dsn, logger: false, ...options });
    }

    /** All that setup() could change, as the catalogues have it. */
    async function catalogues(): Promise<unknown[]> {
      const tables = ["pg_publication", "pg_publication_rel"];
      if (db.major >= 15) tables.push("pg_publication_namespace");
      const found: unknown[] = [];
      for (const table of tables) {
        found.push(await db.query(`SELECT xmin::text, t::text FROM ${table} t ORDER BY 2`));
      }
      found.push(
        await db.query(
          "SELECT objoid, description FROM pg_description WHERE classoid = 'pg_publication'::regclass ORDER BY 1",
        ),
      );
      found.push(
        await db.query(
          "SELECT slot_name, plugin, confirmed_flush_lsn::text FROM pg_replication_slots ORDER BY 1",
        ),
      );
      return found;
    }

    async function publishedBy(publication: string): Promise<string[]> {
      const rows = await db.query<{ name: string }>(
        `SELECT schemaname || '.' || tablename AS name FROM pg_publication_tables
        WHERE pubname = $1 ORDER BY 1`,
        [publication],
      );
      return rows.map(({ name }) => name);
    }

    test("a second setup() changes nothing, and needs no right to create", async () => {
      const slotName = uniqueName();
      const first = await streamOf(["one", "blog.articles"], { slotName }).setup();
      assertEquals(first, {
        slot: "created",
        publication: "created",
        added: ["public.one", "blog.articles"],
        removed: [],
        changed: [],
        warnings: [],
      });
      assertEquals(JSON.parse(JSON.stringify(first)), first);
      const before = await catalogues();
      const nothing: SetupReport = {
        slot: "found",
        publication: "found",
        added: [],
        removed: [],
        changed: [],
        warnings: [],
      };
      assertEquals(await streamOf(["one", "blog.articles"], { slotName }).setup(), nothing);
      const role = await replicator();
      const dsn = dsnAs(db.dsn, role);
      assertEquals(
        await streamOf(["blog.articles", "public.one", "one"], { slotName, dsn }).setup(),
        nothing,
      );
      assertEquals(await catalogues(), before);

      const running = await started(streamOf(["one"], { slotName, dsn }));
      await running.stop();
      await streamOf([], { slotName }).teardown();
    });

    test("a grown watch list is added to; a shrunk one is taken from the slot's own publication", async () => {
      const slotName = uniqueName();
      await streamOf(["one"], { slotName }).setup();
      const [slot] = await db.query(
        "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = $1",
        [slotName],
      );
      assertEquals(await streamOf(["one", "two", "three"], { slotName }).setup(), {
        slot: "found",
        publication: "altered",
        added: ["public.two", "public.three"],
        removed: [],
        changed: [],
        warnings: [],
      });
      assertEquals(await publishedBy(slotName), ["public.one", "public.three", "public.two"]);
      assertEquals(await streamOf(["three", "blog.articles"], { slotName }).setup(), {
        slot: "found",
        publication: "altered",
        added: ["blog.articles"],
        removed: ["public.one", "public.two"],
        changed: [],
        warnings: [],
      });
      assertEquals(await publishedBy(slotName), ["blog.articles", "public.three"]);
      assertEquals(
        await db.query("SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = $1", [
          slotName,
        ]),
        [slot!],
      );
      await streamOf([], { slotName }).teardown();
    });

    for (const comment of [null, "made by hand", "pgstream: owned by slot another"]) {
      test(`a publication whose COMMENT is ${JSON.stringify(comment)} is only added to`, async () => {
        const slotName = uniqueName();
        const publicationName = uniqueName("foreign");
        await db.query(`CREATE PUBLICATION ${publicationName} FOR TABLE one, two`);
        if (comment !== null) {
          await db.query(`COMMENT ON PUBLICATION ${publicationName} IS '${comment}'`);
        }
        const logger = new LogLines();
        const stream = streamOf(["two", "three"], { slotName, publicationName, logger });
        const report = await stream.setup();
        assertEquals(report.added, ["public.three"]);
        assertEquals(report.removed, []);
        assertEquals(report.publication, "altered");
        const left = report.warnings.filter((warning) => warning.includes("public.one"));
        assertEquals(left.length, 1);
        assertStringIncludes(left[0]!, publicationName);
        // Whose it was is told where that is known.
        const owned = comment?.startsWith("pgstream: owned by") === true;
        assertEquals(report.warnings.some((warning) => warning.includes(`slot "another"`)), owned);
        if (!owned) assertEquals(report.warnings.length, 1);
        for (const warning of report.warnings) {
          assertStringIncludes(logger.lines.join("\n"), warning);
        }
        assertEquals(await publishedBy(publicationName), [
          "public.one",
          "public.three",
          "public.two",
        ]);

        await stream.teardown();
        assertStringIncludes(logger.lines.at(-1)!, publicationName);
        assertEquals((await publishedBy(publicationName)).length, 3);
        await db.query(`DROP PUBLICATION ${publicationName}`);
      });
    }

    test("a publication of all tables, or of the schema, needs no ALTER", async () => {
      const role = await replicator();
      const kinds = ["ALL TABLES", ...db.major >= 15 ? ["TABLES IN SCHEMA public, blog"] : []];
      for (const kind of kinds) {
        const slotName = uniqueName();
        await db.query(`CREATE PUBLICATION ${slotName} FOR ${kind}`);
        const stream = streamOf(["one", "blog.articles"], { slotName, dsn: dsnAs(db.dsn, role) });
        const report = await stream.setup();
        assertEquals({ ...report, warnings: [] }, {
          slot: "created",
          publication: "found",
          added: [],
          removed: [],
          changed: [],
          warnings: [],
        });
        await (await started(stream)).stop();
        await stream.teardown();
        assertEquals(
          (await db.query("SELECT FROM pg_publication WHERE pubname = $1", [slotName])).length,
          1,
        );
        await db.query(`DROP PUBLICATION ${slotName}`);
      }
    });

    test("a schema's publication gets the table of another schema beside it", async () => {
      if (db.major < 15) return;
      const slotName = uniqueName();
      await db.query(`CREATE PUBLICATION ${slotName} FOR TABLES IN SCHEMA blog`);
      const stream = streamOf(["one", "blog.articles"], { slotName });
      assertEquals((await stream.setup()).added, ["public.one"]);
      assertEquals((await stream.setup()).publication, "found");
      await stream.teardown();
      await db.query(`DROP PUBLICATION ${slotName}`);
    });

    test("operations that a publication leaves out are told", async () => {
      const slotName = uniqueName();
      await db.query(
        `CREATE PUBLICATION ${slotName} FOR TABLE one WITH (publish = 'insert, update')`,
      );
      const { warnings } = await streamOf(["one"], { slotName }).setup();
      assertEquals(warnings.length, 2);
      assertStringIncludes(warnings.join("\n"), "does not publish delete");
      assertStringIncludes(warnings.join("\n"), "does not publish truncate");
      assertStringIncludes(warnings.join("\n"), "ALTER PUBLICATION");
      await streamOf([], { slotName }).teardown();
      await db.query(`DROP PUBLICATION ${slotName}`);
    });

    test("two setup() at the same moment both succeed", async () => {
      for (let round = 0; round < 8; round++) {
        const slotName = uniqueName();
        const reports = await Promise.all(
          [1, 2, 3].map(() => slotsOf({ slotName, tables: ["one", "two"] }).setup()),
        );
        const made = reports.filter(({ publication }) => publication === "created");
        const created = reports.filter(({ slot }) => slot === "created");
        assertEquals([made.length, created.length], [1, 1]);
        assertEquals(await publishedBy(slotName), ["public.one", "public.two"]);
        const grown = await Promise.all(
          [1, 2, 3].map(() => slotsOf({ slotName, tables: ["one", "two", "three"] }).setup()),
        );
        assertGreaterOrEqual(
          grown.filter(({ publication }) => publication === "altered").length,
          1,
        );
        assertEquals(await publishedBy(slotName), ["public.one", "public.three", "public.two"]);
        await slotsOf({ slotName }).teardown();
      }
    });

    test("a publication that somebody else is just making is waited for", async () => {
      const slotName = uniqueName();
      await sql.unsafe(`BEGIN; CREATE PUBLICATION ${slotName} FOR TABLE one`);
      const report = slotsOf({ slotName, tables: ["one", "two"] }).setup();
      await until(
        "setup() to wait",
        async () => (await db.query("SELECT FROM pg_locks WHERE NOT granted")).length > 0,
      );
      await sql.unsafe("COMMIT");
      assertEquals((await within("setup()", report)).added, ["public.two"]);
      await slotsOf({ slotName }).teardown();
      await db.query(`DROP PUBLICATION ${slotName}`);
    });

    for (const who of ["a superuser", "a role that sees only its own sessions"]) {
      test(`a slot that an open writer holds up: ${who} is told the PID, in time (14)`, async () => {
        const slotName = uniqueName();
        const role = await replicator();
        await db.query(`CREATE PUBLICATION ${slotName} FOR TABLE one`);
        const manager = slotsOf({
          slotName,
          tables: ["one"],
          createTimeoutMs: 400,
          ...(who === "a superuser" ? {} : { dsn: dsnAs(db.dsn, role) }),
        });
        await sql.unsafe("BEGIN; INSERT INTO two VALUES (1)");
        const [writer] = await sql.unsafe("SELECT pg_backend_pid() AS pid");
        const startedAt = performance.now();
        const error = await within("setup()", manager.setup().then(() => null, (error) => error));
        await sql.unsafe("ROLLBACK");
        assertLess(performance.now() - startedAt, 5000);
        assertInstanceOf(error, SlotError);
        assertEquals({ kind: error.kind, retryable: error.retryable }, {
          kind: "slot-creation-blocked",
          retryable: true,
        });
        assertMatch(error.message, new RegExp(`\\b${writer!.pid}\\b`));
        assertStringIncludes(error.message, slotName);
        assertNotMatch(error.message, /null/);
        assertStringIncludes(error.hint!, "pg_terminate_backend");
        assertEquals((await manager.setup()).slot, "created");
        await manager.teardown();
        await db.query(`DROP PUBLICATION ${slotName}`);
      });
    }

    test("a slot that is still being made is waited for by setup(), and refused by start() (14)", async () => {
      const slotName = uniqueName();
      await db.query(`CREATE PUBLICATION ${slotName} FOR TABLE one`);
      await sql.unsafe("BEGIN; INSERT INTO two VALUES (1)");
      const setups = [1, 2, 3].map(() => slotsOf({ slotName, tables: ["one"] }).setup());
      await until(
        "the slot to be begun",
        async () =>
          (await db.query("SELECT FROM pg_replication_slots WHERE slot_name = $1", [slotName]))
            .length > 0,
      );
      const error = await within(
        "start()",
        streamOf(["one"], { slotName }).start().then(() => null, (error) => error),
      );
      assertInstanceOf(error, SlotError);
      assertEquals({ kind: error.kind, retryable: error.retryable }, {
        kind: "slot-in-use",
        retryable: true,
      });
      await sql.unsafe("ROLLBACK");
      const reports = await within("setup()", Promise.all(setups));
      assertEquals(reports.filter(({ slot }) => slot === "created").length, 1);
      await slotsOf({ slotName }).teardown();
      await db.query(`DROP PUBLICATION ${slotName}`);
    });

    test("setup() gives up when its signal does, and leaves no slot", async () => {
      const slotName = uniqueName();
      await sql.unsafe("BEGIN; INSERT INTO two VALUES (1)");
      const abort = new AbortController();
      const setup = streamOf(["one"], { slotName }).setup({ signal: abort.signal });
      const outcome = setup.then(() => null, (error) => error);
      await sleep(200);
      const reason = new Error("the user's reason");
      abort.abort(reason);
      assertEquals(await within("setup()", outcome), reason);
      await sql.unsafe("ROLLBACK");
      assertEquals(
        await db.query("SELECT FROM pg_replication_slots WHERE slot_name = $1", [slotName]),
        [],
      );
      await streamOf([], { slotName }).teardown();
    });

    test("teardown() takes what is there, once or twice, and nothing else", async () => {
      const slotName = uniqueName();
      const stream = streamOf(["one"], { slotName });
      await stream.teardown();
      await stream.setup();
      await stream.teardown({ dropPublication: false });
      assertEquals(await publishedBy(slotName), ["public.one"]);
      assertEquals((await stream.setup()).publication, "found");
      await stream.teardown({ dropSlot: false });
      assertEquals((await stream.setup()).slot, "found");
      const before = await catalogues();
      const other = streamOf(["two"], { slotName: `${slotName}_other` });
      await other.setup();
      await other.teardown();
      await other.teardown();
      assertEquals(await catalogues(), before);
      await stream.teardown();
      assertEquals(await publishedBy(slotName), []);
    });

    test("teardown() of a SlotManager tells what was there", async () => {
      const slotName = uniqueName();
      const manager = slotsOf({ slotName, tables: ["one"] });
      assertEquals(await manager.teardown(), { slot: "missing", publication: "missing" });
      await manager.setup();
      const slot = await manager.teardown({ dropPublication: false });
      assertEquals(slot, { slot: "dropped", publication: "kept" });
      const publication = await manager.teardown({ dropSlot: false });
      assertEquals(publication, { slot: "kept", publication: "dropped" });
      await db.query(`CREATE PUBLICATION ${slotName} FOR TABLE one`);
      assertEquals((await manager.teardown()).publication, "kept");
      await db.query(`DROP PUBLICATION ${slotName}`);
    });

    test("teardown() of a slot in use names who uses it, and takes nothing", async () => {
      const slotName = uniqueName();
      const stream = streamOf(["one"], { slotName });
      await stream.setup();
      const running = await started(stream);
      const [slot] = await db.query<{ pid: number }>(
        "SELECT active_pid AS pid FROM pg_replication_slots WHERE slot_name = $1",
        [slotName],
      );
      const error = await streamOf([], { slotName }).teardown().then(() => null, (error) => error);
      assertInstanceOf(error, SlotError);
      assertEquals(error.kind, "slot-in-use");
      assertEquals(error.activePid, slot!.pid);
      assertMatch(error.message, new RegExp(`\\b${slot!.pid}\\b`));
      assertEquals(await publishedBy(slotName), ["public.one"]);
      assertEquals(stream.status().state, "streaming");
      await running.stop();
      await stream.teardown();
    });

    test("teardown() does not take a slot that is not one of ours", async () => {
      const slotName = uniqueName("standby");
      await db.query("SELECT pg_create_physical_replication_slot($1)", [slotName]);
      const error = await streamOf([], { slotName }).teardown().then(() => null, (error) => error);
      const left = await db.query("SELECT FROM pg_replication_slots WHERE slot_name = $1", [
        slotName,
      ]);
      if (left.length > 0) await db.query("SELECT pg_drop_replication_slot($1)", [slotName]);
      assertEquals(left.length, 1, "the physical slot of a standby was dropped");
      assertInstanceOf(error, SlotError);
      assertEquals(error.kind, "slot-plugin");
    });

    test("names of publications are taken literally, whatever is in them", async () => {
      for (const publicationName of ['We"ird, P.ub', "it's; DROP TABLE one --", "\\'x", "ünï 🦆"]) {
        const slotName = uniqueName();
        const stream = streamOf(["one"], { slotName, publicationName });
        let handled = 0;
        stream.onChange(() => void handled++);
        await stream.setup();
        assertEquals(await publishedBy(publicationName), ["public.one"]);
        assertEquals((await stream.setup()).publication, "found");
        const running = await started(stream);
        await db.query("INSERT INTO one VALUES (1); DELETE FROM one");
        await until("both events", () => handled === 2);
        await running.stop();
        await stream.teardown();
        assertEquals(await publishedBy(publicationName), []);
      }
    });

    test("a root is published under its own name, or the stream does not start", async () => {
      const slotName = uniqueName();
      const table = uniqueName("root");
      await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE ${table}_1 PARTITION OF ${table} FOR VALUES FROM (0) TO (10);
        CREATE PUBLICATION ${slotName} FOR TABLE one`);
      const stream = streamOf([table], { slotName });
      const outcome = await stream.setup().then(() => null, (error) => error);
      const [publication] = await db.query<{ viaroot: boolean }>(
        "SELECT pubviaroot AS viaroot FROM pg_publication WHERE pubname = $1",
        [slotName],
      );
      // Somebody else's consumers would see another name: to be asked for, not to be done.
      assertEquals(publication!.viaroot, false, "somebody else's publication was switched over");
      assertInstanceOf(outcome, PublicationError);
      assertStringIncludes(outcome.hint!, "publish_via_partition_root");

      await db.query(`ALTER PUBLICATION ${slotName} SET (publish_via_partition_root = true)`);
      await stream.setup();
      await (await started(stream)).stop();
      await db.query(`ALTER PUBLICATION ${slotName} SET (publish_via_partition_root = false)`);
      const { ended } = await started(stream);
      const error = await within("start()", ended, 5000).finally(() => stream.stop());
      assertInstanceOf(error, PublicationError, "started, and would have skipped every row");
      await stream.teardown();
      await db.query(`DROP PUBLICATION ${slotName}`);
    });

    test("a slot outlives its streams, and keeps what they had not handled", async () => {
      const slotName = uniqueName();
      const stream = streamOf(["one"], { slotName });
      await stream.setup();
      await (await started(stream)).stop();
      await db.query("INSERT INTO one VALUES (7)");
      const keys: string[] = [];
      const next = streamOf(["one"], { slotName }).onChange((event) => void keys.push(event.key!));
      assertEquals((await next.setup()).slot, "found");
      const running = await started(next);
      await until("the row", () => keys.length > 0);
      await running.stop();
      assertEquals(keys, ["7"]);
      await db.query("DELETE FROM one");
      await next.teardown();
    });
  });
}
