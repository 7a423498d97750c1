/** Large values that the server did not send, read again before the event is handed out. */

import { assert, assertEquals, assertInstanceOf, assertLessOrEqual } from "@std/assert";
import { after, before, describe, test } from "node:test";
import {
  BackfillError,
  type ChangeEvent,
  DeliveryError,
  PgStream,
  type PgStreamOptions,
} from "../../mod.ts";
import { LONG_TEXT } from "../support/scenario.ts";
import { startPostgres } from "../support/servers/postgres.ts";
import {
  needsOwnServer,
  testMajors,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import { openClient, sleep, started, uniqueName, until, within } from "../support/streams.ts";
import { currentLsn, Gate, TestTable } from "../support/test_table.ts";

const COLUMNS = "id int PRIMARY KEY, code text NOT NULL UNIQUE, n int, body text";
const options: PgStreamOptions = { readUnchanged: true, retry: { minDelayMs: 5 } };

/** What of an event these tests look at; a long text by its first letters. */
function view({ operation, key, row, unchanged }: ChangeEvent): string {
  const { body } = row as { body?: string | null };
  const shown = body === undefined ? "absent" : body === null ? "null" : body.slice(0, 3);
  return `${operation} ${key} ${shown} ${unchanged.join() || "-"}`;
}

for (const major of testMajors(18, 17, 14, 10)) {
  describe(`readUnchanged on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
    });
    after(() => db?.stop());

    /** Rows 1 to `rows`, each with a text of 5 KB out of line that begins with its number. */
    async function tableOf(
      rows: number,
      more: PgStreamOptions & { identity?: string; definition?: string } = {},
    ): Promise<TestTable> {
      const { identity = "DEFAULT", ...given } = more;
      const table = await TestTable.create(db, "large", {
        definition: COLUMNS,
        ...options,
        ...given,
        more: (name) => `ALTER TABLE ${name} ALTER body SET STORAGE EXTERNAL`,
      });
      if (identity !== "DEFAULT") {
        const index = `USING INDEX ${table.name}_code_key`;
        await db.query(
          `ALTER TABLE ${table.name} REPLICA IDENTITY ${identity === "INDEX" ? index : identity}`,
        );
      }
      await db.query(`INSERT INTO ${table.name} (id, code, n, body)
        SELECT i, 'c' || i, 0, lpad(i::text, 3, '0') || ${LONG_TEXT} FROM generate_series(1, ${rows}) i`);
      await table.stream().onChange(() => {}).catchUp();
      return table;
    }

    for (const identity of ["DEFAULT", "FULL", "INDEX"]) {
      test(`under REPLICA IDENTITY ${identity}: changed keys, rows that are gone, values that are newer`, async () => {
        const table = await tableOf(8, { identity });
        const t = table.name;
        const statements = [
          `UPDATE ${t} SET n = 1 WHERE id = 1`,
          `UPDATE ${t} SET id = 20 WHERE id = 2`,
          `UPDATE ${t} SET n = 1 WHERE id = 3; DELETE FROM ${t} WHERE id = 3`,
          `UPDATE ${t} SET n = 1 WHERE id = 4; UPDATE ${t} SET id = 40 WHERE id = 4`,
          `UPDATE ${t} SET n = 1 WHERE id = 5; UPDATE ${t} SET body = 'new' WHERE id = 5`,
          `UPDATE ${t} SET n = 1 WHERE id = 6; UPDATE ${t} SET body = NULL WHERE id = 6`,
          `UPDATE ${t} SET code = 'other' WHERE id = 7`,
          // Another row under the key of one that is gone.
          `UPDATE ${t} SET n = 1 WHERE id = 8; DELETE FROM ${t} WHERE id = 8;
            INSERT INTO ${t} VALUES (8, 'again', 2, 'again')`,
        ];
        for (const statement of statements) await db.query(statement);
        const read: string[] = [];
        const stream = table.stream().onChange((event) => void read.push(view(event)));
        await within("catchUp()", stream.catchUp());
        const full = identity === "FULL";
        const gone = (key: number, old: string) =>
          full ? `update ${key} ${old} -` : `update ${key} absent body`;
        assertEquals(read.filter((line) => !line.startsWith("delete")), [
          "update 1 001 -",
          "update 20 002 -",
          gone(3, "003"),
          gone(4, "004"),
          "update 40 004 -",
          full ? "update 5 005 -" : "update 5 new -",
          "update 5 new -",
          full ? "update 6 006 -" : "update 6 null -",
          "update 6 null -",
          "update 7 007 -",
          full ? "update 8 008 -" : "update 8 aga -",
          "insert 8 aga -",
        ]);
        await table.remove();
      });
    }

    test("in batches, in 8 lanes, and from changes(): each value whole", async () => {
      const table = await tableOf(400);
      const t = table.name;
      const bodies = new Map<string, string>();
      for (
        const { id, body } of await db.query<{ id: number; body: string }>(
          `SELECT id, body FROM ${t}`,
        )
      ) {
        bodies.set(String(id), body);
      }
      const check = (events: readonly ChangeEvent[], seen: string[]) => {
        for (const { key, row, unchanged } of events) {
          assertEquals(unchanged, [], key!);
          assertEquals((row as { body: string }).body, bodies.get(key!), key!);
          seen.push(key!);
        }
      };
      const runs: ((seen: string[]) => Promise<unknown>)[] = [
        (seen) => table.stream().onChange((event) => check([event], seen)).catchUp(),
        (seen) =>
          table.stream({ concurrency: 8 }).onChange((event) => check([event], seen)).catchUp(),
        (seen) =>
          table.stream({ concurrency: 3 }).onBatch((events) => check(events, seen)).catchUp(),
        async (seen) => {
          let parts = 0;
          for await (const { events, last, ack } of table.stream().changes()) {
            check(events, seen);
            parts++;
            ack();
            if (last) break;
          }
          assert(parts > 3, "values are not read for all of a large transaction at once");
        },
      ];
      for (const run of runs) {
        await db.query(`UPDATE ${t} SET n = n + 1`);
        const seen: string[] = [];
        await within("all of it", run(seen));
        assertEquals(seen.length, 400);
        assertEquals(new Set(seen).size, 400);
      }
      await table.remove();
    });

    test("as JS values, where the stream's values are: each event has one of its own", async () => {
      const table = await TestTable.create(db, "large", {
        definition: "id int8 PRIMARY KEY, n int, doc jsonb, bytes bytea, numbers int8[]",
        ...options,
        values: "js",
        more: (name) =>
          ["doc", "bytes", "numbers"].map((column) =>
            `ALTER TABLE ${name} ALTER ${column} SET STORAGE EXTERNAL`
          ).join("; "),
      });
      const t = table.name;
      await db.query(
        `INSERT INTO ${t} SELECT i, 0, jsonb_build_object('big', 9007199254740993, 'text', ${LONG_TEXT}),
        decode(repeat('00ff', 3000), 'hex'), array_fill(9007199254740993, ARRAY[1000])
        FROM generate_series(1, 2) i`,
      );
      await table.stream().onChange(() => {}).catchUp();
      await db.query(`UPDATE ${t} SET n = 1`);
      await db.query(`UPDATE ${t} SET n = 2, bytes = NULL WHERE id = 2`);
      await db.query(`UPDATE ${t} SET n = 3 WHERE id = 1`);
      const rows: Record<string, unknown>[] = [];
      const collect = ({ row, unchanged }: ChangeEvent) => {
        assertEquals(unchanged, []);
        rows.push(row);
      };
      await within("catchUp()", table.stream().onChange(collect).catchUp());
      const numbers = new Array(1000).fill(9007199254740993n);
      assertEquals(rows.map(({ id, n }) => [id, n]), [[1n, 1], [2n, 1], [2n, 2], [1n, 3]]);
      for (const { id, doc, bytes, numbers: read } of rows) {
        assertEquals((doc as { big: unknown }).big, 9007199254740993n);
        assertEquals(read, numbers);
        if (id === 2n) assertEquals(bytes, null);
        else assertEquals((bytes as Uint8Array).length, 6000);
      }
      assert(rows[0]!.bytes !== rows[3]!.bytes);
      await table.remove();
    });

    test("by keys of several columns and any text, of names that have to be quoted", async () => {
      const schema = uniqueName('We"ird, S');
      const quoted = `"${schema.replaceAll('"', '""')}"."T""a.b;"`;
      await db.query(`CREATE SCHEMA "${schema.replaceAll('"', '""')}";
        CREATE TABLE ${quoted} ("k""1" text, "k 2" timestamptz, "__proto__" text, n int, rest text,
          PRIMARY KEY ("k 2", "k""1"));
        ALTER TABLE ${quoted} ALTER "__proto__" SET STORAGE EXTERNAL, ALTER rest SET STORAGE EXTERNAL`);
      const slotName = uniqueName();
      const events: ChangeEvent[] = [];
      const stream = new PgStream({ dsn: db.dsn, slotName, logger: false, ...options })
        .watch(`"${schema.replaceAll('"', '""')}"."T""a.b;"`).onChange((event) =>
          void events.push(event)
        );
      await stream.setup();
      const keys = ["it's", 'a"b\\', "tab\t,", "", "é€\u{1F600}", "'); DROP TABLE marker; --"];
      for (const key of keys) {
        await db.query(
          `INSERT INTO ${quoted} VALUES ($1, '2026-01-01 12:00+02', $2, 0, repeat('r', 9000))`,
          [key, `${key}|${"p".repeat(5000)}`],
        );
      }
      await db.query(`UPDATE ${quoted} SET n = 1`);
      await within("catchUp()", stream.catchUp());
      const updates = events.filter(({ operation }) => operation === "update");
      assertEquals(updates.length, keys.length);
      for (const { row, unchanged } of updates) {
        const { 'k"1': key, rest, ...others } = row as Record<string, string>;
        assertEquals(unchanged, []);
        assert(Object.hasOwn(others, "__proto__"));
        assertEquals(
          Object.entries(others).find(([name]) => name === "__proto__")?.[1],
          `${key}|${"p".repeat(5000)}`,
        );
        assertEquals(rest, "r".repeat(9000));
      }
      await stream.teardown();
    });

    test("but not from a table that was altered into one where key or column are others", async () => {
      const table = await tableOf(4, { definition: COLUMNS.replace("id int", "id text") });
      const t = table.name;
      const seen: string[] = [];
      const catchUp = () =>
        within(
          "catchUp()",
          table.stream().onChange((event) => void seen.push(view(event))).catchUp(),
        );
      await db.query(`UPDATE ${t} SET id = 'x' || id WHERE id = '1'; UPDATE ${t} SET n = 1;
        DELETE FROM ${t} WHERE id = 'x1'; ALTER TABLE ${t} ALTER id TYPE int USING id::int`);
      await catchUp();
      assertEquals(seen.splice(0).sort(), [
        "delete x1 absent -",
        "update 2 002 -",
        "update 3 003 -",
        "update 4 004 -",
        "update x1 absent body",
        "update x1 absent body",
      ]);
      await db.query(`UPDATE ${t} SET n = 2 WHERE id = 2; ALTER TABLE ${t} RENAME body TO text`);
      await catchUp();
      assertEquals(seen.splice(0), ["update 2 absent body"]);
      await db.query(`ALTER TABLE ${t} RENAME text TO body; UPDATE ${t} SET n = 3 WHERE id = 2;
        ALTER TABLE ${t} DROP CONSTRAINT ${t}_pkey, ADD PRIMARY KEY (code)`);
      await catchUp();
      assertEquals(seen.splice(0), ["update 2 absent body"]);
      await table.remove();
    });

    test("with a role that may not read: an error that says so, and nothing is confirmed", async () => {
      const table = await tableOf(3);
      const role = uniqueName("reader");
      await db.query(`CREATE ROLE ${role} LOGIN REPLICATION PASSWORD 'reader'`);
      const dsn = new URL(db.dsn);
      dsn.username = role;
      dsn.password = "reader";
      const before = await currentLsn(db);
      await db.query(`UPDATE ${table.name} SET n = 1`);
      const seen: string[] = [];
      const make = (more: PgStreamOptions = {}) =>
        table.stream({ dsn: dsn.href, ...more }).onChange((event) => void seen.push(view(event)));
      const error = await within("the failure", make().start().then(() => null, (error) => error));
      assertInstanceOf(error, DeliveryError, String(error));
      assertEquals([error.kind, error.retryable], ["read-unchanged", false]);
      assertInstanceOf(error.cause, BackfillError);
      assertEquals(error.cause.kind, "select-privilege");
      assertEquals(seen, []);
      assertLessOrEqual(await table.confirmedLsn(), before);
      // Whoever is asked may do without.
      const kinds: string[] = [];
      const onFailure = ({ error, events }: { error: unknown; events: readonly ChangeEvent[] }) => {
        kinds.push(`${events[0]!.key} ${(error as DeliveryError).kind}`);
        return "skip" as const;
      };
      const probe = await within("catchUp()", make({ onFailure }).catchUp());
      assertEquals([probe.events, kinds.length], [0, 3]);
      await db.query(`GRANT SELECT ON ${table.name} TO ${role}; UPDATE ${table.name} SET n = 2`);
      await within("catchUp()", make().catchUp());
      assertEquals(seen, ["update 1 001 -", "update 2 002 -", "update 3 003 -"]);
      await db.query(`DROP OWNED BY ${role}`);
      await table.remove();
    });

    test("though the connection that reads is lost between two reads, and in one", async () => {
      const table = await tableOf(60);
      const seen: string[] = [];
      const gate = new Gate();
      const stream = table.stream().onChange(async (event) => {
        seen.push(view(event));
        if (seen.length === 1) await gate.pass();
      });
      const running = await started(stream);
      await db.query(`UPDATE ${table.name} SET n = 1`);
      await until("the first", () => gate.waiting === 1);
      const others = "datname = current_database() AND pid <> pg_backend_pid() " +
        "AND application_name LIKE 'pgstream%' AND pid NOT IN (SELECT active_pid FROM pg_replication_slots " +
        "WHERE active_pid IS NOT NULL)";
      const ended = await db.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${others}`,
      );
      assertEquals(ended.length, 1, "one connection reads");
      // And the next one is kept waiting by somebody who has the table.
      const sql = openClient(db.dsn);
      await sql.unsafe(`BEGIN; LOCK TABLE ${table.name}`);
      gate.open();
      await until(
        "a read that waits",
        async () =>
          (await db.query(
            `SELECT 1 FROM pg_stat_activity WHERE ${others} AND wait_event_type = 'Lock'`,
          ))
            .length > 0,
      );
      await db.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${others}`);
      await sql.unsafe("COMMIT");
      await sql.end({ timeout: 1 });
      await until("all", () => seen.length === 60);
      await running.stop();
      assertEquals(seen.filter((line) => line.endsWith(" -")).length, 60);
      assert(stream.status().retries > 0);
      await until(
        "no connection to be left",
        async () => (await db.query(`SELECT 1 FROM pg_stat_activity WHERE ${others}`)).length === 0,
      );
      await table.remove();
    });

    if (major < 15) return;

    test("only columns that are published, and only rows that are", async () => {
      const table = await tableOf(3);
      const t = table.name;
      await db.query(
        `ALTER PUBLICATION ${table.slotName} SET TABLE ${t} (id, n, body) WHERE (id <> 3)`,
      );
      await db.query(`UPDATE ${t} SET n = 1`);
      const rows: string[] = [];
      const stream = table.stream().onChange((event) =>
        void rows.push(`${Object.keys(event.row)}`)
      );
      await within("catchUp()", stream.catchUp());
      assertEquals(rows, ["id,n,body", "id,n,body"]);
      await table.remove();
    });
  });
}

test(
  "a server that is restarted while values are read is waited for",
  { skip: needsOwnServer },
  async () => {
    const server = await startPostgres({ major: 18 });
    try {
      await server.query(`CREATE TABLE large (${COLUMNS});
      ALTER TABLE large ALTER body SET STORAGE EXTERNAL;
      INSERT INTO large SELECT i, i, 0, ${LONG_TEXT} FROM generate_series(1, 200) i`);
      const seen: string[] = [];
      const make = () =>
        new PgStream({
          dsn: server.dsn,
          logger: false,
          ...options,
          reconnect: { maxDelayMs: 100 },
        }).watch("large").onChange(async (event) => {
          seen.push(view(event));
          await sleep(5);
        });
      await make().setup();
      const running = await started(make());
      await server.query("UPDATE large SET n = 1");
      await until("some", () => seen.length > 20);
      await server.shutdown("immediate");
      await sleep(3000);
      await server.start();
      await until("all", () => seen.length >= 200, 30_000);
      await running.stop();
      assertEquals(seen.length, 200);
      assertEquals(seen.filter((line) => line.endsWith(" -")).length, 200);
    } finally {
      await server.stop("immediate");
    }
  },
);

test(
  "a transaction that is handed out before others can see it is waited for: no value from before it (39)",
  {
    skip: needsOwnServer,
  },
  async () => {
    const server = await startPostgres({ major: 17 });
    const sql = openClient(server.dsn);
    try {
      await server.query(`CREATE TABLE large (${COLUMNS});
      ALTER TABLE large ALTER body SET STORAGE EXTERNAL;
      INSERT INTO large SELECT i, i, 0, 'old' || ${LONG_TEXT} FROM generate_series(1, 2) i`);
      const seen: string[] = [];
      const make = () =>
        new PgStream({ dsn: server.dsn, logger: false, ...options })
          .watch("large").onChange((event) => void seen.push(view(event)));
      await make().setup();
      const running = await started(make());
      // A standby that is waited for, and does not exist: the commit is written, and sent, and not over.
      await server.query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
      await server.query("SELECT pg_reload_conf()");
      await until("the setting", async () => {
        const [row] = await sql.unsafe("SHOW synchronous_standby_names");
        return row!.synchronous_standby_names === "nobody";
      });
      const committing = sql.unsafe(
        `BEGIN; UPDATE large SET body = 'new' || ${LONG_TEXT} WHERE id = 1;
      UPDATE large SET n = 1 WHERE id = 1; UPDATE large SET id = 3 WHERE id = 2; COMMIT`,
      );
      committing.catch(() => {});
      await until("its first event", () => seen.length > 0);
      await sleep(300);
      assertEquals(seen, ["update 1 new -"]);
      await server.query("ALTER SYSTEM RESET synchronous_standby_names");
      await server.query("SELECT pg_reload_conf()");
      await committing;
      await until("the others", () => seen.length === 3);
      await running.stop();
      assertEquals(seen, ["update 1 new -", "update 1 new -", "update 3 old -"]);
    } finally {
      await sql.end({ timeout: 1 });
      await server.stop("immediate");
    }
  },
);
