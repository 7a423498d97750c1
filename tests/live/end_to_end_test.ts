/**
 * From a commit to a handler and a sink. What an event says of its transaction is compared with what
 * the server says of it: through a second slot, read by SQL, whose bytes are read here by hand.
 */

import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertInstanceOf,
  assertStringIncludes,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import { type ChangeEvent, MemorySink, PgStream, PgStreamError, type SinkLike } from "../../mod.ts";
import { PgVectorSink } from "../../src/sinks/pgvector.ts";
import { QdrantSink } from "../../src/sinks/qdrant.ts";
import {
  collect,
  type Collected,
  LogLines,
  openClient,
  started,
  uniqueName,
} from "../support/streams.ts";
import { startPgvector } from "../support/servers/pgvector.ts";
import { startQdrant } from "../support/servers/qdrant.ts";
import {
  needsOwnServer,
  testMajors,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";

type Texts = Record<string, string | null>;

/** What an event tells of the change itself; rows as entries, so that nothing hides behind a prototype. */
interface Change {
  operation: string;
  table: string;
  key: string | null;
  oldKey: string | null;
  row: [string, unknown][];
  oldRow: [string, unknown][] | null;
  unchanged: readonly string[];
  backfill: boolean;
}

function changeOf(event: ChangeEvent): Change {
  const { operation, schema, table, key, oldKey, row, oldRow, unchanged, backfill } = event;
  return {
    operation,
    table: `${schema}|${table}`,
    key,
    oldKey,
    row: Object.entries(row),
    oldRow: oldRow === null ? null : Object.entries(oldRow),
    unchanged,
    backfill,
  };
}

function inserted(table: string, key: string, row: Texts): Change {
  return {
    operation: "insert",
    table: `public|${table}`,
    key,
    oldKey: null,
    row: Object.entries(row),
    oldRow: null,
    unchanged: [],
    backfill: false,
  };
}

function updated(
  table: string,
  key: string,
  row: Texts,
  { oldKey = null, oldRow = null, unchanged = [] }: {
    oldKey?: string | null;
    oldRow?: Texts | null;
    unchanged?: string[];
  } = {},
): Change {
  return {
    ...inserted(table, key, row),
    operation: "update",
    oldKey,
    oldRow: oldRow === null ? null : Object.entries(oldRow),
    unchanged,
  };
}

function deleted(table: string, key: string, row: Texts): Change {
  return { ...inserted(table, key, row), operation: "delete", oldRow: Object.entries(row) };
}

function truncated(table: string): Change {
  return { ...inserted(table, "", {}), operation: "truncate", key: null };
}

/** Where a change stands, as the server tells it. */
interface Coordinates {
  operation: string;
  table: string;
  lsn: string;
  ordinal: number;
  xid: number;
  commitTimeMs: number;
}

const OPERATIONS: Record<string, string> = { I: "insert", U: "update", D: "delete", T: "truncate" };
const POSTGRES_EPOCH_MS = Date.UTC(2000, 0, 1);

/** https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html, read by hand. */
async function coordinatesOnServer(
  db: TestPostgres,
  slot: string,
  publication: string,
): Promise<Coordinates[]> {
  const messages = await db.query<{ data: string }>(
    `SELECT encode(data, 'hex') AS data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
      'proto_version', '1', 'publication_names', $2)`,
    [slot, `"${publication}"`],
  );
  const names = new Map<number, string>();
  const found: Coordinates[] = [];
  let transaction = { lsn: "", xid: 0, commitTimeMs: 0 };
  let ordinal = 0;
  for (const { data } of messages) {
    const bytes = Uint8Array.from(data.match(/../g)!, (pair) => parseInt(pair, 16));
    const view = new DataView(bytes.buffer);
    const letter = String.fromCharCode(bytes[0]!);
    if (letter === "B") {
      transaction = {
        lsn: `${view.getUint32(1).toString(16)}/${view.getUint32(5).toString(16)}`.toUpperCase(),
        commitTimeMs: Number(view.getBigInt64(9)) / 1000 + POSTGRES_EPOCH_MS,
        xid: view.getUint32(17),
      };
      ordinal = 0;
    } else if (letter === "R") {
      const [schema, table] = new TextDecoder("utf-8", { ignoreBOM: true })
        .decode(bytes.subarray(5)).split("\0");
      names.set(view.getUint32(1), `${schema}|${table}`);
    } else if (OPERATIONS[letter] !== undefined) {
      const oids = letter === "T"
        ? Array.from({ length: view.getUint32(1) }, (_, index) => view.getUint32(6 + 4 * index))
        : [view.getUint32(1)];
      for (const oid of oids) {
        found.push({
          operation: OPERATIONS[letter]!,
          table: names.get(oid)!,
          ordinal: ordinal++,
          ...transaction,
        });
      }
    }
  }
  return found;
}

/** A stream beside a second slot of the same publication. */
interface Scenario extends Collected {
  /** Runs SQL in one transaction. @returns its id, and when the server says that it was committed. */
  commit(sql: string): Promise<{ xid: number; commitTimeMs: number | null }>;
  /** Compares all that has been handed out with what the server says, in order and in full. */
  expect(...changes: Change[]): Promise<ChangeEvent[]>;
}

async function scenario(
  db: TestPostgres,
  sql: postgres.Sql,
  options: { create: string; watch: string[]; logger?: LogLines; delivered?: string[] },
  body: (scenario: Scenario) => Promise<void>,
): Promise<void> {
  await db.query(options.create);
  const watched = options.delivered ?? options.watch.map((table) => `public|${table}`);
  const stream = await collect(db, options.watch, { logger: options.logger ?? false });
  const reference = uniqueName("reference");
  await db.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [reference]);
  try {
    await body({
      ...stream,
      async commit(text) {
        const [row] = await sql.begin(async (tx) => {
          await tx.unsafe(text);
          return await tx`SELECT txid_current()::text AS xid,
            current_setting('track_commit_timestamp') AS tracked`;
        });
        const xid = Number(BigInt(row!.xid) & 0xffff_ffffn);
        if (row!.tracked !== "on") return { xid, commitTimeMs: null };
        const [time] = await db.query<{ ms: string }>(
          "SELECT (extract(epoch FROM pg_xact_commit_timestamp($1::text::xid)) * 1000)::text AS ms",
          [String(xid)],
        );
        return { xid, commitTimeMs: Number(time!.ms) };
      },
      async expect(...changes) {
        const events = await stream.drain();
        assertEquals(events.map(changeOf), changes);
        const onServer = (await coordinatesOnServer(db, reference, stream.slotName))
          .filter(({ table }) => watched.includes(table));
        assertEquals(
          events.map((event) => ({
            operation: event.operation,
            table: `${event.schema}|${event.table}`,
            lsn: event.lsn,
            ordinal: event.ordinal,
            xid: event.xid,
          })),
          onServer.map(({ commitTimeMs: _, ...coordinates }) => coordinates),
        );
        events.forEach((event, index) => {
          assertInstanceOf(event.commitTime, Date);
          assertAlmostEquals(event.commitTime.getTime(), onServer[index]!.commitTimeMs, 1);
        });
        return events;
      },
    });
    await stream.stop();
  } finally {
    await stream.stream.stop();
    await db.query("SELECT pg_drop_replication_slot($1)", [reference]);
  }
}

const LONG_TEXT = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 160))";

// Until PostgreSQL 15 CREATE PUBLICATION and friends ask for no more than these.
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

    const external = (table: string, rest = "") =>
      `CREATE TABLE ${table} (id int PRIMARY KEY, code text NOT NULL, note text, big text${rest});
      ALTER TABLE ${table} ALTER big SET STORAGE EXTERNAL;`;
    const changesOf = (table: string) => [
      `INSERT INTO ${table} VALUES (1, 'a', 'n', ${LONG_TEXT})`,
      `UPDATE ${table} SET note = NULL`,
      `UPDATE ${table} SET id = 2`,
      `UPDATE ${table} SET code = 'b'`,
    ];
    async function bigOf(table: string): Promise<string> {
      const [row] = await db.query<{ big: string }>(`SELECT big FROM ${table}`);
      assertEquals(row!.big.length, 5120);
      return row!.big;
    }

    test("tells unchanged from NULL in a column that is stored out of line", async () => {
      await scenario(
        db,
        sql,
        { create: external("toast_default"), watch: ["toast_default"] },
        async (
          { commit, expect },
        ) => {
          for (const change of changesOf("toast_default")) await commit(change);
          const big = await bigOf("toast_default");
          await commit("UPDATE toast_default SET big = NULL; DELETE FROM toast_default");
          const unchanged = ["big"];
          await expect(
            inserted("toast_default", "1", { id: "1", code: "a", note: "n", big }),
            updated("toast_default", "1", { id: "1", code: "a", note: null }, { unchanged }),
            updated("toast_default", "2", { id: "2", code: "a", note: null }, {
              unchanged,
              oldKey: "1",
              oldRow: { id: "1" },
            }),
            updated("toast_default", "2", { id: "2", code: "b", note: null }, { unchanged }),
            updated("toast_default", "2", { id: "2", code: "b", note: null, big: null }),
            deleted("toast_default", "2", { id: "2" }),
          );
        },
      );
    });

    test("fills unchanged columns from the old row under REPLICA IDENTITY FULL", async () => {
      await scenario(db, sql, {
        create: `${external("toast_full")} ALTER TABLE toast_full REPLICA IDENTITY FULL`,
        watch: ["toast_full"],
      }, async ({ commit, expect }) => {
        for (const change of changesOf("toast_full")) await commit(change);
        const big = await bigOf("toast_full");
        await commit("DELETE FROM toast_full");
        const rows: Texts[] = [
          { id: "1", code: "a", note: "n", big },
          { id: "1", code: "a", note: null, big },
          { id: "2", code: "a", note: null, big },
          { id: "2", code: "b", note: null, big },
        ];
        await expect(
          inserted("toast_full", "1", rows[0]!),
          updated("toast_full", "1", rows[1]!, { oldRow: rows[0]! }),
          updated("toast_full", "2", rows[2]!, { oldRow: rows[1]!, oldKey: "1" }),
          updated("toast_full", "2", rows[3]!, { oldRow: rows[2]! }),
          deleted("toast_full", "2", rows[3]!),
        );
      });
    });

    test("knows rows by their primary key under REPLICA IDENTITY USING INDEX", async () => {
      await scenario(db, sql, {
        create: `${external("toast_index")} CREATE UNIQUE INDEX toast_index_code
          ON toast_index (code, id); ALTER TABLE toast_index REPLICA IDENTITY USING INDEX toast_index_code`,
        watch: ["toast_index"],
      }, async ({ commit, expect }) => {
        for (const change of changesOf("toast_index")) await commit(change);
        const big = await bigOf("toast_index");
        await commit("DELETE FROM toast_index");
        const unchanged = ["big"];
        await expect(
          inserted("toast_index", "1", { id: "1", code: "a", note: "n", big }),
          updated("toast_index", "1", { id: "1", code: "a", note: null }, { unchanged }),
          updated("toast_index", "2", { id: "2", code: "a", note: null }, {
            unchanged,
            oldKey: "1",
            oldRow: { id: "1", code: "a" },
          }),
          updated("toast_index", "2", { id: "2", code: "b", note: null }, {
            unchanged,
            oldRow: { id: "2", code: "a" },
          }),
          deleted("toast_index", "2", { id: "2", code: "b" }),
        );
      });
    });

    test("knows a deleted row by the index where that lacks the primary key, and has warned", async () => {
      const logger = new LogLines();
      await scenario(db, sql, {
        create: `${external("toast_code")} CREATE UNIQUE INDEX toast_code_code ON toast_code (code);
          ALTER TABLE toast_code REPLICA IDENTITY USING INDEX toast_code_code`,
        watch: ["toast_code"],
        logger,
      }, async ({ commit, expect }) => {
        for (const change of changesOf("toast_code")) await commit(change);
        const big = await bigOf("toast_code");
        await commit("DELETE FROM toast_code");
        const unchanged = ["big"];
        await expect(
          inserted("toast_code", "1", { id: "1", code: "a", note: "n", big }),
          updated("toast_code", "1", { id: "1", code: "a", note: null }, { unchanged }),
          updated("toast_code", "2", { id: "2", code: "a", note: null }, { unchanged }),
          updated("toast_code", "2", { id: "2", code: "b", note: null }, {
            unchanged,
            oldRow: { code: "a" },
          }),
          deleted("toast_code", "b", { code: "b" }),
        );
        const warnings = logger.lines.filter((line) => line.startsWith("warn")).join("\n");
        assertStringIncludes(warnings, "public.toast_code");
        assertStringIncludes(warnings, "REPLICA IDENTITY DEFAULT");
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

    test("follows columns that are added, dropped and renamed between two rows", async () => {
      await scenario(db, sql, {
        create: "CREATE TABLE altered (id int PRIMARY KEY, a text, b text)",
        watch: ["altered"],
      }, async ({ commit, expect }) => {
        await commit(`INSERT INTO altered VALUES (1, 'a', 'b');
          ALTER TABLE altered ADD COLUMN c text DEFAULT 'c'; INSERT INTO altered VALUES (2, 'a', 'b');
          ALTER TABLE altered DROP COLUMN a; INSERT INTO altered VALUES (3, 'b');
          ALTER TABLE altered RENAME COLUMN b TO a; UPDATE altered SET a = 'x' WHERE id = 1`);
        await commit("ALTER TABLE altered RENAME COLUMN id TO number");
        await commit("UPDATE altered SET number = 4 WHERE number = 3");
        await expect(
          inserted("altered", "1", { id: "1", a: "a", b: "b" }),
          inserted("altered", "2", { id: "2", a: "a", b: "b", c: "c" }),
          inserted("altered", "3", { id: "3", b: "b", c: "c" }),
          updated("altered", "1", { id: "1", a: "x", c: "c" }),
          updated("altered", "4", { number: "4", a: "b", c: "c" }, {
            oldKey: "3",
            oldRow: { number: "3" },
          }),
        );
      });
    });

    test("follows a primary key that is moved to other columns", async () => {
      await scenario(db, sql, {
        create: "CREATE TABLE rekeyed (id int PRIMARY KEY, code text NOT NULL)",
        watch: ["rekeyed"],
      }, async ({ commit, expect }) => {
        await commit("INSERT INTO rekeyed VALUES (1, 'a')");
        await commit(`ALTER TABLE rekeyed DROP CONSTRAINT rekeyed_pkey, ADD PRIMARY KEY (code, id);
          INSERT INTO rekeyed VALUES (1, 'b')`);
        await commit("DELETE FROM rekeyed WHERE code = 'a'");
        await expect(
          inserted("rekeyed", "1", { id: "1", code: "a" }),
          inserted("rekeyed", '["b","1"]', { id: "1", code: "b" }),
          deleted("rekeyed", '["a","1"]', { id: "1", code: "a" }),
        );
      });
    });

    test("follows a table only while it has the watched name, and says so", async () => {
      const logger = new LogLines();
      await scenario(db, sql, {
        create: "CREATE TABLE renamed (id int PRIMARY KEY)",
        watch: ["renamed"],
        logger,
      }, async ({ commit, expect }) => {
        await commit("INSERT INTO renamed VALUES (1)");
        await commit(
          "ALTER TABLE renamed RENAME TO renamed_away; INSERT INTO renamed_away VALUES (2)",
        );
        await commit("ALTER TABLE renamed_away RENAME TO renamed; INSERT INTO renamed VALUES (3)");
        await expect(inserted("renamed", "1", { id: "1" }), inserted("renamed", "3", { id: "3" }));
        assertStringIncludes(logger.lines.join("\n"), "public.renamed_away");
      });
    });

    test("knows the key of a row from before its column was renamed, though the stream came late", async () => {
      for (const identity of ["DEFAULT", "FULL"]) {
        const table = `late_${identity.toLowerCase()}`;
        await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY, v text);
          ALTER TABLE ${table} REPLICA IDENTITY ${identity}`);
        const slotName = uniqueName();
        const stream = new PgStream({ dsn: db.dsn, slotName, logger: false }).watch(table);
        const keys: (string | null)[] = [];
        stream.onChange((event) => keys.push(event.key));
        await stream.setup();
        await db.query(`INSERT INTO ${table} VALUES (1, 'a')`);
        await db.query(`ALTER TABLE ${table} RENAME id TO number`);
        await db.query(`INSERT INTO ${table} VALUES (2, 'b')`);
        const running = await started(stream);
        try {
          while (keys.length < 2 && stream.status().state === "streaming") {
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
          await running.stop();
          assertEquals(keys, ["1", "2"], `REPLICA IDENTITY ${identity}`);
        } finally {
          await stream.stop();
          await stream.teardown();
        }
      }
    });

    test("refuses REPLICA IDENTITY NOTHING before anybody's UPDATE fails", async () => {
      await db.query(
        `${external("toast_nothing")} ALTER TABLE toast_nothing REPLICA IDENTITY NOTHING`,
      );
      const slotName = uniqueName();
      const stream = new PgStream({ dsn: db.dsn, slotName, logger: false }).watch("toast_nothing");
      const error = await stream.setup().then(() => null, (error) => error);
      assertInstanceOf(error, PgStreamError);
      assertEquals(error.kind, "replica-identity");
      assertEquals(
        await db.query("SELECT FROM pg_publication WHERE pubname = $1", [slotName]),
        [],
      );
      await db.query(
        `INSERT INTO toast_nothing VALUES (1, 'a'); UPDATE toast_nothing SET code = 'b'`,
      );
    });
  });
}

/** Any text has a vector; equal texts have equal ones. */
function embed(text: string): Promise<number[]> {
  let [a, b, c] = [1, 1, 1];
  for (const char of text) [a, b, c] = [b, c, (a * 31 + char.codePointAt(0)!) % 997];
  return Promise.resolve([a, b, c]);
}

describe("the quick start's handler keeps a store in step with the table", () => {
  let db: TestPostgres;
  before(async () => {
    db = await testPostgres();
    await db.query(
      `CREATE TABLE documents (id bigint PRIMARY KEY, content text NOT NULL, views int);
      ALTER TABLE documents ALTER content SET STORAGE EXTERNAL`,
    );
  });
  after(() => db?.stop());

  async function follow(sink: SinkLike): Promise<Map<string, string>> {
    await db.query("TRUNCATE documents");
    const slotName = uniqueName();
    const stream = new PgStream({ dsn: db.dsn, slotName, logger: false });
    stream.watch("documents").sink(sink);
    let handled = 0;
    stream.onChange(async (event, sink) => {
      if (event.operation === "insert" || event.operation === "update") {
        if (event.unchanged.includes("content")) return;
        if (event.oldKey !== null) await sink.delete(event.oldKey);
        await sink.upsert({
          id: event.key,
          vector: await embed(event.row.content),
          payload: { content: event.row.content },
        });
      } else if (event.operation === "delete") {
        await sink.delete(event.key);
      }
    });
    stream.onChange(() => void handled++);
    await stream.setup();
    const running = await started(stream);
    try {
      await db.query(`INSERT INTO documents SELECT n, 'text ' || n FROM generate_series(1, 20) n`);
      await db.query(`UPDATE documents SET content = ${LONG_TEXT} WHERE id <= 4`);
      await db.query("UPDATE documents SET views = 1 WHERE id <= 6");
      await db.query("UPDATE documents SET id = id + 9007199254740992 WHERE id > 17");
      await db.query("DELETE FROM documents WHERE id BETWEEN 8 AND 10");
      await db.query("INSERT INTO documents VALUES (9, '🦆 \uFEFF \"''\\')");
      await db.query(
        "DELETE FROM documents WHERE id = 99; UPDATE documents SET views = 2 WHERE id = 9",
      );
      while (handled < 38 && stream.status().state === "streaming") {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const { events } = stream.status();
      assertEquals(events, { insert: 21, update: 14, delete: 3, truncate: 0 });
      await running.stop();
    } finally {
      await stream.stop();
      await stream.teardown();
    }
    const rows = await db.query<{ id: string; content: string }>(
      "SELECT id::text, content FROM documents",
    );
    return new Map(rows.map(({ id, content }) => [id, content]));
  }

  test("in memory", async () => {
    const sink = new MemorySink();
    const rows = await follow(sink);
    assertEquals(
      new Map(sink.points().map(({ id, payload }) => [id, payload.content as string])),
      rows,
    );
    for (const [id, content] of rows) {
      assertEquals([...sink.get(id)!.vector], await embed(content));
    }
  });

  test("in pgvector", async () => {
    const server = await startPgvector();
    const sql = openClient(server.dsn);
    try {
      const rows = await follow(
        new PgVectorSink({ dsn: server.dsn, createTable: { dimensions: 3 } }),
      );
      const stored = await sql.unsafe(
        "SELECT id, vector::text, payload->>'content' AS content FROM embeddings",
      );
      assertEquals(new Map(stored.map(({ id, content }) => [id, content])), rows);
      for (const { vector, content } of stored) {
        assertEquals(JSON.parse(vector), await embed(content));
      }
    } finally {
      await sql.end({ timeout: 1 });
      await server.stop();
    }
  });

  test("in Qdrant", async () => {
    const server = await startQdrant();
    try {
      const options = { url: server.url, collectionName: "docs" };
      const rows = await follow(
        new QdrantSink({ ...options, createCollection: { size: 3, distance: "Dot" } }),
      );
      const reader = new QdrantSink(options);
      const hits = await reader.search([1, 1, 1], { limit: 100 });
      assertEquals(new Map(hits.map(({ id, payload }) => [id, payload.content as string])), rows);
      for (
        const { content, score } of hits.map((hit) => ({ ...hit, content: hit.payload.content }))
      ) {
        const [a, b, c] = await embed(content as string);
        assertAlmostEquals(score, a! + b! + c!, 0.01);
      }
    } finally {
      await server.close();
    }
  });
});
void needsOwnServer;
void assert;
