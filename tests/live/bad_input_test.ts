/** What users get wrong: each time an error that names the thing and says what to do about it. */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertNotMatch,
  assertStringIncludes,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import { PgStream, PgStreamError, ReplicationStream, SlotManager } from "../../mod.ts";
import { dsnWith, logger, refusal, streamOf } from "../support/refusal.ts";
import { startPostgres } from "../support/servers/postgres.ts";
import {
  needsOwnServer,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import { openClient, started, uniqueName, within } from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
  await db.query("CREATE TABLE documents (id int PRIMARY KEY, content text)");
});
after(() => db?.stop());

describe("tables", () => {
  test("that do not exist; the name that was meant is told", async () => {
    await db.query(`CREATE TABLE "Users" (id int PRIMARY KEY); CREATE SCHEMA app;
      CREATE TABLE app.orders (id int PRIMARY KEY); CREATE SCHEMA "We""ird";
      CREATE TABLE "We""ird"."Ta.ble" (id int PRIMARY KEY)`);
    const cases: [string, string][] = [
      ["users", "public.Users"],
      ["orders", "app.orders"],
      ["public.orders", "app.orders"],
      ['"We""ird"."ta.ble"', '"We""ird"."Ta.ble"'],
    ];
    for (const [name, meant] of cases) {
      for (const call of ["setup", "start"] as const) {
        const slotName = uniqueName();
        const mine = streamOf(db.dsn, ["documents"], { slotName });
        await mine.setup();
        const error = await refusal(
          call,
          () => streamOf(db.dsn, ["documents", name], { slotName })[call](),
        );
        assertEquals(error.kind, "table-missing");
        assertMatch(error.hint!, /Did you mean/);
        assertStringIncludes(error.hint!, meant);
        assertNotMatch(error.message, /documents/);
        await mine.teardown();
      }
    }
    const error = await refusal("setup()", () => streamOf(db.dsn, ["nothing.like_it"]).setup());
    assertEquals(error.kind, "table-missing");
    assertStringIncludes(error.message, "nothing.like_it");
    assert(error.hint);
  });

  test("that are no tables with changes of their own", async () => {
    await db.query(`CREATE VIEW a_view AS SELECT 1 AS id;
      CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS id; CREATE SEQUENCE a_sequence;
      CREATE UNLOGGED TABLE an_unlogged (id int PRIMARY KEY)`);
    const temporary = openClient(db.dsn);
    await temporary.unsafe("CREATE TEMPORARY TABLE a_temporary (id int PRIMARY KEY)");
    const [schema] = await temporary.unsafe(
      "SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()",
    );
    const cases: [string, string][] = [
      ["a_view", "a view"],
      ["a_matview", "a materialized view"],
      ["a_sequence", "a sequence"],
      ["an_unlogged", "an unlogged table"],
      [`${schema!.nspname}.a_temporary`, "a temporary table"],
    ];
    for (const [name, what] of cases) {
      const error = await refusal("setup()", () => streamOf(db.dsn, [name]).setup());
      assertEquals(error.kind, "table-not-publishable", name);
      assertStringIncludes(error.message, name);
      assertStringIncludes(error.message, what);
      assert(error.hint);
    }
    await temporary.end({ timeout: 1 });
  });

  test("whose UPDATE and DELETE would fail once they are published (17)", async () => {
    await db.query(`CREATE TABLE no_key (id int);
      CREATE TABLE said_nothing (id int PRIMARY KEY);
      ALTER TABLE said_nothing REPLICA IDENTITY NOTHING;
      CREATE TABLE root (id int) PARTITION BY RANGE (id);
      CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10);
      CREATE TABLE keyed_root (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE keyed_leaf PARTITION OF keyed_root FOR VALUES FROM (0) TO (10);
      ALTER TABLE keyed_leaf REPLICA IDENTITY NOTHING;
      CREATE TABLE index_gone (id int NOT NULL, code int NOT NULL);
      CREATE UNIQUE INDEX index_gone_code ON index_gone (code);
      ALTER TABLE index_gone REPLICA IDENTITY USING INDEX index_gone_code;
      DROP INDEX index_gone_code`);
    const cases: [string, string, RegExp][] = [
      ["no_key", "public.no_key", /ALTER TABLE "public"\."no_key" REPLICA IDENTITY FULL/],
      ["said_nothing", "public.said_nothing", /"said_nothing" REPLICA IDENTITY DEFAULT/],
      ["root", "public.root", /primary key/],
      ["keyed_root", "public.keyed_leaf", /REPLICA IDENTITY/],
      ["index_gone", "public.index_gone", /"index_gone" REPLICA IDENTITY FULL/],
    ];
    for (const [name, named, hint] of cases) {
      const slotName = uniqueName();
      const error = await refusal("setup()", () => streamOf(db.dsn, [name], { slotName }).setup());
      assertEquals(error.kind, "replica-identity", name);
      assertStringIncludes(error.message, named);
      assertMatch(error.hint!, hint);
      assertEquals(await db.query("SELECT FROM pg_publication WHERE pubname = $1", [slotName]), []);
    }
    // With nothing published, nobody is hindered.
    await db.query("INSERT INTO no_key VALUES (1); UPDATE no_key SET id = 2; DELETE FROM no_key");
  });

  test("whose names cannot be read", async () => {
    for (const name of ["", ".", "a.", ".b", '"a', 'a"b', "a\0b"]) {
      const error = await refusal("watch()", () => streamOf(db.dsn, []).watch(name));
      assertEquals(error.kind, "table-name", JSON.stringify(name));
      assert(error.hint);
    }
  });
});

describe("slots", () => {
  test("with a name that the server does not take", async () => {
    for (const slotName of ["", "Docs", "my-slot", "a b", 'a"; SELECT 1', "ä", "a".repeat(64)]) {
      for (const make of [PgStream, SlotManager]) {
        const error = await refusal("the constructor", () => new make({ dsn: db.dsn, slotName }));
        assertEquals(error.kind, "slot-name");
        assertStringIncludes(error.message, JSON.stringify(slotName));
        assertMatch(error.hint!, /lower case/);
      }
      const error = await refusal(
        "open()",
        () => ReplicationStream.open({ dsn: db.dsn, slotName }),
      );
      assertEquals(error.kind, "slot-name");
    }
  });

  test("that are not there at the start", async () => {
    const slotName = uniqueName();
    const stream = streamOf(db.dsn, ["documents"], { slotName });
    for (
      const attempt of [
        () => stream.start(),
        () => ReplicationStream.open({ dsn: db.dsn, slotName, logger }),
      ]
    ) {
      const error = await refusal("start()", attempt);
      assertEquals(error.kind, "slot-missing");
      assertStringIncludes(error.message, slotName);
      assertStringIncludes(error.hint!, "setup()");
    }
    assertEquals(stream.status().state, "failed");
  });

  test("of another plugin, or of none (13)", async () => {
    const physical = uniqueName();
    await db.query("SELECT pg_create_physical_replication_slot($1)", [physical]);
    const slots = [[physical, "physical"]];
    const decoding = uniqueName();
    const made = await db.query(
      "SELECT pg_create_logical_replication_slot($1, 'test_decoding')",
      [decoding],
    ).then(() => true, () => false);
    if (made) slots.push([decoding, "test_decoding"]);
    for (const [slotName, what] of slots) {
      for (const call of ["setup", "start"] as const) {
        const stream = streamOf(db.dsn, ["documents"], { slotName: slotName! });
        const error = await refusal(call, () => stream[call]());
        assertEquals(error.kind, "slot-plugin");
        assertStringIncludes(error.message, slotName!);
        assertStringIncludes(error.message, what!);
        assertMatch(error.hint!, /slotName/);
      }
      assertEquals(
        await db.query("SELECT FROM pg_publication WHERE pubname = $1", [slotName!]),
        [],
      );
      await db.query("SELECT pg_drop_replication_slot($1)", [slotName!]);
    }
  });

  test("of another database (13)", async () => {
    const database = uniqueName("other");
    await db.query(`CREATE DATABASE ${database}`);
    const other = openClient(dsnWith(db.dsn, { database }));
    await other.unsafe("CREATE TABLE documents (id int PRIMARY KEY)");
    await other.end({ timeout: 1 });
    const slotName = uniqueName();
    const theirs = streamOf(db.dsn, ["documents"], {
      slotName,
      dsn: dsnWith(db.dsn, { database }),
    });
    await theirs.setup();
    const mine = streamOf(db.dsn, ["documents"], { slotName });
    for (const call of ["setup", "start", "teardown"] as const) {
      const error = await refusal(call, () => mine[call]());
      assertEquals(error.kind, "slot-database");
      for (const name of [slotName, database, db.database]) {
        assertStringIncludes(error.message, name);
      }
    }
    await theirs.teardown();
    await db.query(`DROP DATABASE ${database}`);
  });

  test("that decode prepared transactions when they are prepared (13)", async () => {
    if (db.major < 14) return;
    const slotName = uniqueName();
    await db.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput', false, true)", [
      slotName,
    ]);
    for (const call of ["setup", "start"] as const) {
      const stream = streamOf(db.dsn, ["documents"], { slotName });
      const error = await refusal(call, () => stream[call]());
      assertEquals(error.kind, "slot-two-phase");
      assertStringIncludes(error.message, slotName);
      assertMatch(error.hint!, /pg_drop_replication_slot/);
    }
    assertEquals(await db.query("SELECT FROM pg_publication WHERE pubname = $1", [slotName]), []);
    await db.query("SELECT pg_drop_replication_slot($1)", [slotName]);
  });

  test("that another consumer holds: its PID is told, and it goes on", async () => {
    const slotName = uniqueName();
    const holder = streamOf(db.dsn, ["documents"], { slotName });
    await holder.setup();
    const running = await started(holder);
    const [slot] = await db.query<{ pid: number }>(
      "SELECT active_pid AS pid FROM pg_replication_slots WHERE slot_name = $1",
      [slotName],
    );
    const error = await refusal(
      "start()",
      () => streamOf(db.dsn, ["documents"], { slotName }).start(),
    );
    assertEquals({ kind: error.kind, retryable: error.retryable }, {
      kind: "slot-in-use",
      retryable: true,
    });
    assertStringIncludes(error.message, String(slot!.pid));
    assertStringIncludes(error.message, slotName);
    assert(error.hint);
    assertEquals(holder.status().state, "streaming");
    await running.stop();
    await holder.teardown();
  });

  test("that vanish while the stream is down do not come back by themselves (12)", async () => {
    const slotName = uniqueName();
    const stream = streamOf(db.dsn, ["documents"], { slotName });
    await stream.setup();
    await (await started(stream)).stop();
    await db.query("SELECT pg_drop_replication_slot($1)", [slotName]);
    assertEquals((await refusal("start()", () => stream.start())).kind, "slot-missing");
    assertEquals(
      await db.query("SELECT FROM pg_replication_slots WHERE slot_name = $1", [slotName]),
      [],
    );
    await stream.teardown();
  });
});

describe("databases", () => {
  test("whose texts have no encoding", async () => {
    const database = uniqueName("ascii");
    await db.query(`CREATE DATABASE ${database} ENCODING 'SQL_ASCII' TEMPLATE template0
      LC_COLLATE 'C' LC_CTYPE 'C'`);
    const dsn = dsnWith(db.dsn, { database });
    const client = openClient(dsn);
    await client.unsafe("CREATE TABLE documents (id int PRIMARY KEY)");
    await client.end({ timeout: 1 });
    const error = await refusal("setup()", () => streamOf(db.dsn, ["documents"], { dsn }).setup());
    assertEquals(error.kind, "server-encoding");
    assertStringIncludes(error.message, "SQL_ASCII");
    assertStringIncludes(error.hint!, "ENCODING 'UTF8'");
    await db.query(`DROP DATABASE ${database}`);
  });

  test("of a server whose wal_level is not logical", { skip: needsOwnServer }, async () => {
    const server = await startPostgres({ settings: { wal_level: "replica" } });
    try {
      await server.query("CREATE TABLE documents (id int PRIMARY KEY)");
      const slotName = uniqueName();
      const error = await refusal(
        "setup()",
        () => streamOf(db.dsn, ["documents"], { dsn: server.dsn, slotName }).setup(),
      );
      assertEquals(error.kind, "wal-level");
      assertStringIncludes(error.message, "replica");
      assertStringIncludes(error.hint!, "ALTER SYSTEM SET wal_level = 'logical'");
      assertEquals(await server.query("SELECT FROM pg_publication"), []);
    } finally {
      await server.stop("immediate");
    }
  });
});

describe("a stream that is not complete", () => {
  test("has no handler, or nothing to watch", async () => {
    const bare = new PgStream({ dsn: db.dsn, slotName: uniqueName(), logger });
    for (const call of ["setup", "start"] as const) {
      const error = await refusal(call, () => bare[call]());
      assertEquals(error.kind, "nothing-watched");
      assertMatch(error.hint!, /watch\(/);
    }
    const error = await refusal("start()", () => bare.watch("documents").start());
    assertEquals(error.kind, "no-handler");
    assertMatch(error.hint!, /onChange\(/);
  });

  test("has a handler that uses a sink which was never attached", async () => {
    for (const use of ["upsert", "delete", "upsertMany", "deleteMany"] as const) {
      const slotName = uniqueName();
      const stream = new PgStream({ dsn: db.dsn, slotName, logger }).watch("documents")
        .onChange((_event, sink) => {
          const point = { id: 1, vector: [1] };
          if (use === "upsert") return sink.upsert(point);
          if (use === "delete") return sink.delete(1);
          return use === "upsertMany" ? sink.upsertMany([point]) : sink.deleteMany([1]);
        });
      await stream.setup();
      const { ended } = await started(stream);
      await db.query("INSERT INTO documents VALUES (1); DELETE FROM documents");
      const outcome = await within("start() to reject", ended);
      const error = await refusal("start()", () => Promise.reject(outcome));
      assertEquals(error.kind, "handler-failed");
      assertInstanceOf(error.cause, PgStreamError);
      assertEquals(error.cause.kind, "no-sink");
      assertMatch(error.cause.hint!, /stream\.sink\(/);
      await stream.teardown();
    }
  });

  test("asks for what cannot be", async () => {
    for (const maxQueueBytes of [0, -1, NaN, Infinity]) {
      const error = await refusal(
        "the constructor",
        () => new PgStream({ dsn: "x", maxQueueBytes }),
      );
      assertEquals(error.kind, "invalid-option");
    }
  });
});
