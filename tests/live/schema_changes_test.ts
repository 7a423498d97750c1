/** Tables that are altered between two rows. */

import { assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import { PgStream, type SchemaChange } from "../../mod.ts";
import { deleted, inserted, scenario, updated } from "../support/scenario.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { LogLines, openClient, sleep, started, uniqueName, until } from "../support/streams.ts";
import { TestTable } from "../support/test_table.ts";

for (const major of testMajors(18, 17, 14)) {
  describe(`schema changes on PostgreSQL ${major}`, () => {
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

    test("follows a primary key that is moved under REPLICA IDENTITY FULL, as a restart would", async () => {
      await scenario(db, sql, {
        create: `CREATE TABLE moved (id int PRIMARY KEY, code text NOT NULL);
          ALTER TABLE moved REPLICA IDENTITY FULL`,
        watch: ["moved"],
      }, async ({ commit, drain, expect }) => {
        await commit("INSERT INTO moved VALUES (1, 'a')");
        await drain();
        const restarted = new PgStream({ dsn: db.dsn, slotName: uniqueName(), logger: false })
          .watch("moved");
        const keys: unknown[] = [];
        restarted.onChange((event) => keys.push([event.key, event.oldKey]));
        await restarted.setup();
        await commit("ALTER TABLE moved DROP CONSTRAINT moved_pkey, ADD PRIMARY KEY (code)");
        await commit("INSERT INTO moved VALUES (2, 'b')");
        await commit("UPDATE moved SET code = 'c' WHERE code = 'b'");
        await commit("DELETE FROM moved WHERE code = 'a'");
        const events = await expect(
          inserted("moved", "1", { id: "1", code: "a" }),
          inserted("moved", "b", { id: "2", code: "b" }),
          updated("moved", "c", { id: "2", code: "c" }, {
            oldKey: "b",
            oldRow: { id: "2", code: "b" },
          }),
          deleted("moved", "a", { id: "1", code: "a" }),
        );
        const running = await started(restarted);
        await until("the same rows", () => keys.length >= 3);
        await running.stop();
        await restarted.teardown();
        assertEquals(keys, events.slice(1).map(({ key, oldKey }) => [key, oldKey]));
      });
    });

    test("knows the key of a row from before its column was renamed, though the stream came late", async () => {
      for (const identity of ["DEFAULT", "FULL"]) {
        const table = `late_${identity.toLowerCase()}`;
        await db.query(`CREATE TABLE ${table} (v text, id int, PRIMARY KEY (id, v));
          ALTER TABLE ${table} REPLICA IDENTITY ${identity}`);
        const slotName = uniqueName();
        const stream = new PgStream({ dsn: db.dsn, slotName, logger: false }).watch(table);
        const keys: (string | null)[] = [];
        stream.onChange((event) => keys.push(event.key));
        await stream.setup();
        await db.query(`INSERT INTO ${table} VALUES ('a', 1)`);
        await db.query(`ALTER TABLE ${table} RENAME id TO number`);
        await db.query(`ALTER TABLE ${table} ADD added int`);
        await db.query(`INSERT INTO ${table} VALUES ('b', 2)`);
        const running = await started(stream);
        try {
          await until("both rows", () => keys.length >= 2 || stream.status().state === "failed");
          await running.stop();
          assertEquals(keys, ['["1","a"]', '["2","b"]'], `REPLICA IDENTITY ${identity}`);
        } finally {
          await stream.stop();
          await stream.teardown();
        }
      }
    });
  });
}

const INT = 23;
const TEXT = 25;
const BIGINT = 20;

/** Names of what was added, removed, changed. */
const told = ({ added, removed, changed }: SchemaChange) =>
  [added, removed, changed].map((columns) => columns.map(({ name }) => name).join()).join("|");

for (const major of testMajors(18, 17, 14, 10)) {
  describe(`onSchemaChange on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    let sql: postgres.Sql;
    before(async () => {
      db = await testPostgres({ major });
      sql = openClient(db.dsn);
    });
    after(async () => {
      await sql?.end({ timeout: 1 });
      await db?.stop();
    });

    test("tells a change in the middle of a transaction, in its place, under lanes and in batches (20)", async () => {
      for (const batches of [false, true]) {
        const table = await TestTable.create(db, "migrated", { concurrency: 6 });
        let open = 0;
        const log: (string | number)[] = [];
        const handle = async (rows: Record<string, unknown>[]) => {
          open++;
          await sleep(Math.random() * 5);
          open--;
          for (const row of rows) log.push(Object.keys(row).join());
        };
        const changes: SchemaChange[] = [];
        const stream = table.stream().onSchemaChange(async (change) => {
          changes.push(change);
          log.push(`${open} ${told(change)}`);
          await sleep(20);
          log.push(`${open} done`);
        });
        if (batches) stream.onBatch((events) => handle(events.map(({ row }) => row)));
        else stream.onChange(({ row }) => handle([row]));
        const running = await started(stream);
        const ids = (from: number) => `SELECT n FROM generate_series(${from}, ${from + 29}) n`;
        await sql.unsafe(`BEGIN; INSERT INTO ${table.name} (id) ${ids(1)};
          ALTER TABLE ${table.name} ADD added int; INSERT INTO ${table.name} (id) ${ids(31)};
          ALTER TABLE ${table.name} RENAME v TO w; INSERT INTO ${table.name} (id) ${
          ids(61)
        }; COMMIT`);
        await until("all", () => log.length >= 94);
        await running.stop();
        const expected = (columns: string) => Array(30).fill(columns);
        assertEquals(log, [
          ...expected("id,v"),
          "0 added||",
          "0 done",
          ...expected("id,v,added"),
          "0 w|v|",
          "0 done",
          ...expected("id,w,added"),
        ]);
        assertEquals(new Set(changes.map(({ lsn }) => lsn)).size, 1);
        assertEquals(changes[0]!.added, [{ name: "added", typeOid: INT, typeModifier: -1 }]);
        assertEquals([changes[0]!.schema, changes[0]!.table], ["public", table.name]);
        await table.remove();
      }
    });

    test("tells types, keys and identities, by the one process that knew the table, whenever it runs", async () => {
      const table = await TestTable.create(db, "reshaped");
      const { name } = table;
      const changes: SchemaChange[] = [];
      const stream = table.stream().onChange(() => {})
        .onSchemaChange((change) => void changes.push(change));
      const step = async (...statements: string[]) => {
        for (const statement of statements) await db.query(statement.replaceAll("$t", name));
        await stream.catchUp();
        return changes.splice(0);
      };
      const insert = (id: number) => `INSERT INTO $t VALUES (${id}, ${id})`;
      assertEquals(await step(insert(1)), []);
      assertEquals(
        await step("ALTER TABLE $t ADD noticed int", "CREATE INDEX ON $t (noticed)"),
        [],
      );
      assertEquals((await step(insert(2))).map(told), ["noticed||"]);
      assertEquals(await step(insert(3), "VACUUM $t", "ALTER TABLE $t SET (fillfactor = 90)"), []);
      assertEquals(await step(insert(4)), [], "nothing that an event shows has changed");
      const [typed] = await step(
        "ALTER TABLE $t ALTER id TYPE bigint, ALTER v TYPE varchar(9)",
        insert(5),
      );
      assertEquals(
        typed!.changed.map(({ name, before, after }) => [name, before.typeOid, after.typeOid]),
        [
          ["id", INT, BIGINT],
          ["v", TEXT, 1043],
        ],
      );
      assertEquals(typed!.changed[1]!.after.typeModifier, 13);
      const [full] = await step("ALTER TABLE $t REPLICA IDENTITY FULL", insert(6));
      assertEquals(told(full!), "||");
      assertEquals(full!.replicaIdentity, {
        before: { kind: "default", columns: ["id"] },
        after: { kind: "full", columns: ["id", "v", "noticed"] },
      });
      const [keyed] = await step(
        `ALTER TABLE $t DROP CONSTRAINT ${name}_pkey, ADD PRIMARY KEY (v, id)`,
        insert(7),
      );
      assertEquals(keyed!.primaryKey, { before: ["id"], after: ["v", "id"] });
      assertEquals((await step("ALTER TABLE $t DROP noticed", insert(8))).map(told), ["|noticed|"]);

      // Another process does not know what the first one knew.
      const other: SchemaChange[] = [];
      await db.query(`ALTER TABLE ${name} ADD later int`);
      await db.query(insert(9).replace("$t", name));
      await table.stream().onChange(() => {}).onSchemaChange((change) => void other.push(change))
        .catchUp();
      assertEquals(other, []);
      await table.remove();
    });

    test("tells once though the connection is lost again and again, and logs what a listener throws", async () => {
      const logger = new LogLines();
      const table = await TestTable.create(db, "remade", { logger, reconnect: { minDelayMs: 10 } });
      const changes: string[] = [];
      const keys: string[] = [];
      const stream = table.stream().onChange((event) => void keys.push(event.key!))
        .onSchemaChange(() => {
          throw new Error("the listener says no");
        })
        .onSchemaChange((change) => void changes.push(told(change)));
      const running = await started(stream);
      for (let id = 1; id <= 4; id++) {
        await db.query(`INSERT INTO ${table.name} VALUES (${id})`);
        if (id === 2) await db.query(`ALTER TABLE ${table.name} ADD added int`);
        await until("the row", () => keys.length === id);
        const { reconnects } = stream.status();
        await table.terminate();
        await until("another connection", () => stream.status().reconnects > reconnects);
      }
      await running.stop();
      assertEquals([keys, changes], [["1", "2", "3", "4"], ["added||"]]);
      assertEquals(logger.lines.filter((line) => line.includes("listener says no")).length, 1);
      await table.remove();
    });

    test("tells whoever pulls when the part is asked for that begins with the new shape", async () => {
      const table = await TestTable.create(db, "pulled");
      const log: string[] = [];
      const stream = table.stream().onSchemaChange(async (change) => {
        await sleep(5);
        log.push(told(change));
      });
      const { name } = table;
      await sql.unsafe(`BEGIN; INSERT INTO ${name} VALUES (1); ALTER TABLE ${name} ADD added int;
        INSERT INTO ${name} VALUES (2); COMMIT`);
      await db.query(`INSERT INTO ${name} VALUES (3)`);
      for await (const { events, last, ack } of stream.changes()) {
        log.push(`${events.map(({ key }) => key).join()} ${last}`);
        await sleep(20);
        ack();
        if (events[0]!.key === "3") break;
      }
      assertEquals(log, ["1 false", "added||", "2 true", "3 true"]);
      await table.remove();
    });
  });
}
