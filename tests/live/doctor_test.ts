/** What is broken on purpose is found, with what mends it; what is right is called right, and nothing is changed. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { diagnose, type DiagnoseOptions, type Finding } from "../../src/inspect/mod.ts";
import { PgVectorSink } from "../../src/sinks/pgvector.ts";
import { QdrantSink } from "../../src/sinks/qdrant.ts";
import { PgStream, SlotManager } from "../../mod.ts";
import { startStandby } from "../support/servers/copied_server.ts";
import { startPgbouncer } from "../support/servers/pgbouncer.ts";
import { startPgvector } from "../support/servers/pgvector.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { startQdrant } from "../support/servers/qdrant.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { openClient, started, uniqueName, until } from "../support/streams.ts";

let server: PostgresServer;
before(async () => {
  if (needsOwnServer) return;
  server = await startPostgres();
});
after(async () => await server?.stop("immediate"));

function look(options: DiagnoseOptions = {}): Promise<Finding[]> {
  return diagnose({ dsn: server.dsn, logger: false, slotName: uniqueName("doctor"), ...options });
}

/** What is not as it should be. */
function faults(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ level }) => level !== "ok");
}

/** One fault, and no other. */
function only(findings: readonly Finding[], level: Finding["level"], check: string): Finding {
  assertEquals(faults(findings).map(({ level, check }) => `${level} ${check}`), [
    `${level} ${check}`,
  ]);
  return faults(findings)[0]!;
}

/** A table that nobody else uses, and what is said of it. */
async function broken(
  definition: (table: string) => string,
  options: DiagnoseOptions = {},
): Promise<{ table: string; look: () => Promise<Finding[]> }> {
  const table = uniqueName("broken");
  await server.query(definition(table));
  const slotName = uniqueName("doctor");
  return { table, look: () => look({ tables: [table], slotName, ...options }) };
}

/** The fix is a statement: it is run, and the fault is gone. */
async function mended(
  { fix }: Finding,
  again: () => Promise<Finding[]>,
): Promise<void> {
  await server.query(fix!);
  assertEquals(faults(await again()), []);
}

const KEYED = (table: string) => `CREATE TABLE ${table} (id int PRIMARY KEY, body text)`;

describe("a doctor", { skip: needsOwnServer }, () => {
  test("finds nothing on a healthy server, before setup() and behind it, and changes nothing", async () => {
    const { table, look: again } = await broken(KEYED);
    const state = () =>
      server.query(`SELECT (SELECT count(*) FROM pg_publication)::int AS publications,
        (SELECT count(*) FROM pg_replication_slots)::int AS slots,
        (SELECT count(*) FROM pg_class)::int AS relations`);
    const before = await state();
    const findings = await again();
    assertEquals(faults(findings), []);
    assertEquals(await state(), before);
    assert(findings.length >= 10, `${findings.length}`);
    const slotName = uniqueName("healthy");
    const slots = new SlotManager({ dsn: server.dsn, slotName, tables: [table] });
    await slots.setup();
    const behind = await look({ slotName, tables: [table] });
    assertEquals(faults(behind), []);
    // Without names it is what the publication has.
    assertEquals(
      (await look({ slotName })).filter(({ subject }) => subject === `public.${table}`).length > 0,
      true,
    );
    await slots.teardown();
  });

  test("finds a server that is not there, and says no more of it", async () => {
    const [finding, ...rest] = await look({ dsn: "postgresql://postgres:canary@127.0.0.1:1/x" });
    assertEquals(rest, []);
    assertEquals(finding!.level, "problem");
    assertMatch(finding!.message, /nothing listens there/);
    assert(!JSON.stringify(finding).includes("canary"));
  });

  test("finds a wrong password, and a database that is not there", async () => {
    const own = await startPostgres({ hba: "host all all 127.0.0.1/32 scram-sha-256" });
    try {
      const url = new URL(own.dsn);
      url.password = "wrong";
      const [refused, ...rest] = await look({ dsn: url.href });
      assertEquals([refused!.check, rest.length], ["authentication", 0]);
    } finally {
      await own.stop("immediate");
    }
    const url = new URL(server.dsn);
    url.pathname = "/nowhere";
    const [missing] = await look({ dsn: url.href });
    assertEquals([missing!.level, missing!.check], ["problem", "database-missing"]);
  });

  test("finds a pooler, which takes no connection for replication", async (t) => {
    const pooler = await startPgbouncer(server.dsn).catch((error: Error) => error);
    if (pooler instanceof Error) return t.skip(pooler.message);
    try {
      const [finding] = faults(await look({ dsn: pooler.dsn }));
      assertEquals(finding!.level, "problem");
      assertMatch(`${finding!.message} ${finding!.fix}`, /pooler|PgBouncer/i);
    } finally {
      await pooler.stop();
    }
  });

  test("finds settings: wal_level, slots and walsenders, timeouts; all that is wrong at once", async () => {
    const own = await startPostgres({
      settings: {
        wal_level: "replica",
        max_replication_slots: "1",
        max_wal_senders: "1",
        wal_sender_timeout: "0",
        idle_replication_slot_timeout: "1h",
      },
    });
    try {
      await own.query("SELECT pg_create_physical_replication_slot('taken')");
      await own.query("CREATE TABLE documents (id int PRIMARY KEY)");
      const found = faults(await look({ dsn: own.dsn, tables: ["documents"] }));
      assertEquals(found.map(({ level, check }) => `${level} ${check}`), [
        "problem wal-level",
        "problem replication-slots",
        "warning walsenders",
        "warning wal-sender-timeout",
        "warning idle-slot-timeout",
      ]);
      for (const { check, fix } of found.slice(3)) {
        for (const statement of fix!.split(";").filter((part) => part.trim() !== "")) {
          await own.query(statement);
        }
        const left = faults(await look({ dsn: own.dsn, tables: ["documents"] }));
        assert(left.every((finding) => finding.check !== check), check);
      }
    } finally {
      await own.stop("immediate");
    }
  });

  test("finds an old minor that loses changes", async () => {
    const own = await startPostgres({ major: 10 });
    try {
      await own.query("CREATE TABLE documents (id int PRIMARY KEY)");
      const found = await look({ dsn: own.dsn, tables: ["documents"] });
      assertMatch(only(found, "warning", "server-version").fix!, /Update to 13\.21/);
    } finally {
      await own.stop("immediate");
    }
  });

  test("finds a role that may not replicate, and looks at the rest all the same", async () => {
    const role = uniqueName("role");
    await server.query(`CREATE ROLE ${role} LOGIN PASSWORD 'canary'`);
    const { table } = await broken(KEYED);
    const url = new URL(server.dsn);
    [url.username, url.password] = [role, "canary"];
    const again = () => look({ dsn: url.href, tables: [table] });
    const checks = async () => faults(await again()).map(({ check }) => check);
    assertEquals(await checks(), [
      "replication-privilege",
      "select-privilege",
      "publication-privilege",
      "publication-privilege",
    ]);
    const [replication, select, create] = faults(await again());
    await server.query(/ALTER ROLE \S+ REPLICATION;/.exec(replication!.fix!)![0]);
    await server.query(select!.fix!);
    await server.query(/^GRANT CREATE ON DATABASE [^;]*;/.exec(create!.fix!)![0]);
    assertEquals(await checks(), ["publication-privilege"]);
    await server.query(`ALTER TABLE ${table} OWNER TO ${role}`);
    assertEquals(await checks(), []);
    await server.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });

  const tables: [
    name: string,
    check: string,
    definition: (table: string) => string,
    fix: boolean,
  ][] = [
    [
      "a table whose replica identity is nothing",
      "problem replica-identity",
      (table) => `${KEYED(table)}; ALTER TABLE ${table} REPLICA IDENTITY NOTHING`,
      true,
    ],
    [
      "a deferrable primary key",
      "problem replica-identity",
      (table) => `CREATE TABLE ${table} (id int PRIMARY KEY DEFERRABLE)`,
      false,
    ],
    [
      "an index as identity that lacks the key",
      "warning replica-identity",
      (table) =>
        `CREATE TABLE ${table} (id int PRIMARY KEY, code int NOT NULL UNIQUE);
        ALTER TABLE ${table} REPLICA IDENTITY USING INDEX ${table}_code_key`,
      true,
    ],
    [
      "large values that updates leave out",
      "warning unchanged-values",
      (table) =>
        `${KEYED(table)}; ALTER TABLE ${table} ALTER body SET STORAGE EXTERNAL;
        INSERT INTO ${table} VALUES (1, repeat('x', 10000))`,
      false,
    ],
    [
      "generated columns that are not published",
      "warning generated-columns",
      (table) =>
        `CREATE TABLE ${table} (id int PRIMARY KEY,
        twice int GENERATED ALWAYS AS (id * 2) STORED)`,
      false,
    ],
    [
      "a view in place of a table",
      "problem table-not-publishable",
      (table) => `CREATE VIEW ${table} AS SELECT 1 AS id`,
      false,
    ],
    [
      "an unlogged table",
      "problem table-not-publishable",
      (table) => `CREATE UNLOGGED TABLE ${table} (id int PRIMARY KEY)`,
      false,
    ],
    [
      "partitions without an identity",
      "problem replica-identity",
      (table) =>
        `CREATE TABLE ${table} (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE ${table}_1 PARTITION OF ${table} FOR VALUES FROM (0) TO (10);
        ALTER TABLE ${table}_1 REPLICA IDENTITY NOTHING`,
      false,
    ],
  ];
  for (const [name, fault, definition, isStatement] of tables) {
    test(`finds ${name}`, async () => {
      const { look: again } = await broken(definition);
      const [level, check] = fault.split(" ") as [Finding["level"], string];
      const finding = only(await again(), level, check);
      assert(finding.fix!.length > 10);
      if (isStatement) {
        await mended(finding, again);
      }
    });
  }

  test("finds a table without a primary key: its updates would fail, and its rows cannot be read", async () => {
    const { look: again } = await broken((table) => `CREATE TABLE ${table} (id int)`);
    assertEquals(
      faults(await again()).map(({ level, check }) => `${level} ${check}`),
      [
        "problem replica-identity",
        "warning primary-key",
      ],
    );
  });

  test("finds a name that is not there, and says which was meant; other tables are looked at", async () => {
    const { table } = await broken((table) => `CREATE TABLE "${table}_Big" (id int PRIMARY KEY)`);
    const other = await broken(KEYED);
    const found = await look({ tables: [`${table}_big`, other.table] });
    assertMatch(only(found, "problem", "table-missing").fix!, new RegExp(`${table}_Big`));
    assert(found.some(({ subject }) => subject === `public.${other.table}`));
  });

  test("finds policies that hide rows, where they hold for the role", async () => {
    const role = uniqueName("role");
    const { table } = await broken((table) =>
      `${KEYED(table)}; ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY;
      CREATE ROLE ${role} LOGIN REPLICATION PASSWORD 'canary'; GRANT SELECT ON ${table} TO ${role}`
    );
    const url = new URL(server.dsn);
    [url.username, url.password] = [role, "canary"];
    const found = faults(await look({ dsn: url.href, tables: [table] }));
    const finding = found.find(({ check }) => check === "row-security")!;
    await server.query(finding.fix!);
    const after = faults(await look({ dsn: url.href, tables: [table] }));
    assert(after.every(({ check }) => check !== "row-security"));
    await server.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });

  test("finds a publication that lacks a table, an operation, columns of the key; or is another slot's", async () => {
    const { table } = await broken(KEYED);
    const publicationName = uniqueName("publication");
    const other = uniqueName("other");
    await server.query(`${KEYED(other)}; CREATE PUBLICATION ${publicationName} FOR TABLE ${other}`);
    const again = () => look({ publicationName, tables: [table] });
    const lacks = only(await again(), "problem", "publication-tables");
    assertStringIncludes(lacks.message, table);
    await mended(lacks, again);
    await server.query(`ALTER PUBLICATION ${publicationName} SET (publish = 'insert')`);
    await mended(only(await again(), "warning", "publication-operations"), again);
    await server.query(`ALTER PUBLICATION ${publicationName} SET TABLE ${table} (body)`);
    const uncovered = faults(await again()).map(({ check }) => check);
    assert(uncovered.includes("identity-not-covered"), `${uncovered}`);
    await server.query(`ALTER PUBLICATION ${publicationName} SET TABLE ${table} (id)`);
    only(await again(), "warning", "publication-part");
    await server.query(`ALTER PUBLICATION ${publicationName} SET TABLE ${table};
      COMMENT ON PUBLICATION ${publicationName} IS 'pgstream: owned by slot another'`);
    only(await again(), "warning", "publication-owner");
    await server.query(`DROP PUBLICATION ${publicationName}`);
  });

  test("finds a publication under which partitions have names of their own", async () => {
    const { table } = await broken((table) =>
      `CREATE TABLE ${table} (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE ${table}_1 PARTITION OF ${table} FOR VALUES FROM (0) TO (10)`
    );
    const publicationName = uniqueName("publication");
    await server.query(`CREATE PUBLICATION ${publicationName} FOR TABLE ${table}`);
    const found = await look({ publicationName, tables: [table] });
    assertMatch(
      only(found, "problem", "publication-partition-root").fix!,
      /publish_via_partition_root = true/,
    );
    await server.query(`DROP PUBLICATION ${publicationName}`);
  });

  test("finds a slot of another plugin, of another database, one that decodes two phases, a wrong name", async () => {
    const { table } = await broken(KEYED);
    const slotName = uniqueName("slot");
    const again = (options: DiagnoseOptions = {}) =>
      look({ slotName, tables: [table], ...options });
    const drop = () => server.query(`SELECT pg_drop_replication_slot('${slotName}')`);
    await server.query(`SELECT pg_create_physical_replication_slot('${slotName}')`);
    only(await again(), "problem", "slot-plugin");
    await drop();
    await server.query(
      `SELECT pg_create_logical_replication_slot('${slotName}', 'pgoutput', false, true)`,
    );
    only(await again(), "problem", "slot-two-phase");
    await drop();
    await server.query(`SELECT pg_create_logical_replication_slot('${slotName}', 'pgoutput')`);
    assertEquals(faults(await again()), []);
    only(await again({ failover: true }), "warning", "slot-failover");
    only(await again({ temporary: true }), "problem", "slot-exists");
    const database = uniqueName("database");
    await server.query(`CREATE DATABASE ${database}`);
    const url = new URL(server.dsn);
    url.pathname = `/${database}`;
    const elsewhere = faults(await diagnose({ dsn: url.href, logger: false, slotName }));
    assertEquals(
      elsewhere.map(({ check }) => check),
      ["tables", "slot-database"],
    );
    await drop();
  });

  test("tells who reads the slot; finds one that keeps too much, or was lost", async () => {
    const own = await startPostgres({
      settings: { max_slot_wal_keep_size: "32MB", wal_keep_size: "0", max_wal_size: "48MB" },
    });
    try {
      await own.query("CREATE TABLE documents (id int PRIMARY KEY)");
      const options = { dsn: own.dsn, slotName: "read", tables: ["documents"] };
      const stream = new PgStream({ dsn: own.dsn, slotName: "read", logger: false });
      stream.watch("documents").onChange(() => {});
      await stream.setup();
      const running = await started(stream);
      const active = (await look(options)).find(({ check }) => check === "slot")!;
      assertMatch(active.message, /read by PID \d+/);
      await running.stop();
      const fill = () =>
        own.query("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 4000000))");
      let near: Finding[] = [];
      for (let round = 0; round < 10 && near.length === 0; round++) {
        await fill();
        near = faults(await look(options));
      }
      assertEquals(near.map(({ level, check }) => `${level} ${check}`), ["warning slot-wal"]);
      assertMatch(near[0]!.message, /keeps \d+ MB of WAL, and is lost when/);
      for (let round = 0; round < 12; round++) await fill();
      await own.query("SELECT pg_switch_wal()");
      await own.query("CHECKPOINT");
      const lost = faults(await look(options));
      assertEquals(lost.map(({ level, check }) => `${level} ${check}`), ["problem slot-lost"]);
    } finally {
      await own.stop("immediate");
    }
  });

  test("finds what keeps a slot from being made: a transaction that is open, or prepared, for long", async () => {
    const own = await startPostgres({ settings: { max_prepared_transactions: "2" } });
    const sql = openClient(own.dsn);
    try {
      await own.query("CREATE TABLE documents (id int PRIMARY KEY)");
      await sql.unsafe("BEGIN; INSERT INTO documents VALUES (1); PREPARE TRANSACTION 'left'");
      await sql.unsafe("BEGIN; INSERT INTO documents VALUES (2)");
      const options = { dsn: own.dsn, tables: ["documents"] };
      assertEquals(faults(await look(options)), []);
      const later = faults(await look({ ...options, longMs: 1 }));
      assertEquals(later.map(({ level, check }) => `${level} ${check}`), [
        "warning open-transaction",
        "warning prepared-transaction",
      ]);
      for (const { fix } of later) await own.query(fix!);
      assertEquals(faults(await look({ ...options, longMs: 1 })), []);
    } finally {
      await sql.end({ timeout: 1 });
      await own.stop("immediate");
    }
  });

  test("finds a standby whose feedback is off, and that has no slot on its primary", async () => {
    const primary = await startPostgres();
    const standby = await startStandby(primary).catch(async (error) => {
      await primary.stop("immediate");
      throw error;
    });
    try {
      await primary.query("CREATE TABLE documents (id int PRIMARY KEY)");
      await until("the standby", async () => {
        const [row] = await standby.query("SELECT to_regclass('documents') AS there");
        return row!.there !== null;
      });
      const again = () => look({ dsn: standby.dsn, tables: ["documents"] });
      const checks = async () => faults(await again()).map(({ check }) => check);
      assertEquals(await checks(), ["standby-feedback", "standby-primary-slot"]);
      const [feedback] = faults(await again());
      for (const statement of feedback!.fix!.split("; ")) await standby.query(statement);
      await until("the setting", async () => (await checks()).length === 1);
    } finally {
      await standby.stop("immediate");
      await primary.stop("immediate");
    }
  });

  test("is told to stop", async () => {
    const reason = new Error("enough");
    const error = await look({ signal: AbortSignal.abort(reason) }).catch((error) => error);
    assertEquals(error, reason);
  });
});

describe("a doctor of pgvector", () => {
  test("finds what is missing, another dimension, a table that is published, a store that is not there", async () => {
    const store = await startPgvector();
    const sql = openClient(store.dsn);
    const inspect = async (
      options: Partial<ConstructorParameters<typeof PgVectorSink>[0]> = {},
    ) => {
      const sink = new PgVectorSink({ dsn: store.dsn, ...options });
      const findings = await sink.inspect();
      await sink.close();
      return findings;
    };
    try {
      assertEquals(faults(await inspect({ createTable: { dimensions: 3 } })), []);
      const missing = faults(await inspect());
      assertEquals(missing.map(({ check }) => check), ["pgvector-extension", "pgvector-table"]);
      for (const { fix } of missing) await sql.unsafe(fix!);
      assertEquals(faults(await inspect()), []);
      const wrong = only(
        await inspect({ createTable: { dimensions: 4 } }),
        "problem",
        "pgvector-table",
      );
      assertMatch(wrong.message, /384 dimensions, not of 4/);
      await sql.unsafe("CREATE PUBLICATION feeds FOR TABLE embeddings");
      const published = only(await inspect(), "warning", "pgvector-published");
      await sql.unsafe(published.fix!);
      assertEquals(faults(await inspect()), []);
      await sql.unsafe("CREATE TABLE other (id int)");
      only(await inspect({ table: "other" }), "problem", "pgvector-table");
    } finally {
      await sql.end({ timeout: 1 });
      await store.stop();
    }
    only(
      await inspect({ dsn: "postgresql://postgres:canary@127.0.0.1:1/x" }),
      "problem",
      "pgvector-connection",
    );
  });
});

describe("a doctor of Qdrant", () => {
  test("finds a collection that is missing or another's, and a store that is not there", async () => {
    const store = await startQdrant();
    const inspect = (options: Partial<ConstructorParameters<typeof QdrantSink>[0]> = {}) =>
      new QdrantSink({ url: store.url, ...options }).inspect();
    const createCollection = { size: 3, distance: "Cosine" } as const;
    try {
      assertEquals(faults(await inspect({ createCollection })), []);
      only(await inspect(), "problem", "qdrant-collection");
      await new QdrantSink({ url: store.url, createCollection }).upsert({
        id: "1",
        vector: [1, 2, 3],
      });
      assertEquals(faults(await inspect()), []);
      const other = { size: 4, distance: "Cosine" } as const;
      const wrong = only(
        await inspect({ createCollection: other }),
        "problem",
        "qdrant-collection",
      );
      assertMatch(wrong.message, /size 3.*size 4/);
      only(await inspect({ vectorName: "title" }), "problem", "qdrant-collection");
    } finally {
      await store[Symbol.asyncDispose]();
    }
    only(await inspect({ url: "http://127.0.0.1:1" }), "problem", "qdrant-connection");
  });
});
