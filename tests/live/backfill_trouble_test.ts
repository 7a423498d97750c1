/** What can be in the way of a backfill: it goes on, or says what is wrong; nothing is lost. */

import { assert, assertEquals, assertInstanceOf, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type Connect, MemoryStateStore, PgStream, PgStreamError } from "../../mod.ts";
import { connectDefault } from "../../src/transport/default.ts";
import {
  initial,
  over,
  sameRows,
  StoreModel,
  type TableOptions,
  tableWithRows,
} from "../support/backfills.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { LogLines, openClient, started, uniqueName, until, within } from "../support/streams.ts";
import { Gate, TestTable, texts } from "../support/test_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

const tableOf = (rows: number, options?: TableOptions) => tableWithRows(db, rows, options);
const same = (model: StoreModel, table: string) => sameRows(db, model, table);

async function kindOf(work: Promise<unknown>): Promise<string> {
  const error = await within("an error", work.then(() => null, (error) => error), 20_000);
  assertInstanceOf(error, PgStreamError, String(error));
  assert(error.hint, error.message);
  return error.kind;
}

/** Starts a stream that stands still at its tenth row, in the second chunk. */
async function halfway(table: TestTable, model: StoreModel) {
  const gate = new Gate();
  const running = await started(
    table.stream().onChange(async (event) => {
      if (model.events.length === 9) await gate.pass();
      model.take(event);
    }),
  );
  await until("the second chunk", () => gate.waiting > 0);
  return { ...running, gate };
}

/** A role that may log in and replicate, and no more. */
async function newRole(): Promise<{ role: string; dsn: string }> {
  const role = uniqueName("reader");
  await db.query(`CREATE ROLE ${role} LOGIN REPLICATION PASSWORD 'reader'`);
  const [{ name } = { name: "" }] = await db.query<{ name: string }>(
    "SELECT current_database() AS name",
  );
  await db.query(`GRANT CREATE ON DATABASE "${name}" TO ${role}`);
  const dsn = new URL(db.dsn);
  dsn.username = role;
  dsn.password = "reader";
  return { role, dsn: dsn.href };
}

describe("a table that changes in the middle of its backfill", () => {
  test("by a new column: the rows that follow have it, and none is missing", async () => {
    const table = await tableOf(30);
    const model = new StoreModel();
    const { gate, stop, stream } = await halfway(table, model);
    await db.query(`ALTER TABLE ${table.name} ADD w int DEFAULT 5`);
    gate.open();
    await over(stream);
    assertEquals(model.backfilled, texts(1, 30));
    // The chunk in hand was read before, and so was the one behind it.
    assertEquals(model.events.map(({ row }) => row.w ?? null), [
      ...Array(21).fill(null),
      ...Array(9).fill("5"),
    ]);
    await stop();
    await table.remove();
  });

  test("by a statement that rewrites it: a snapshot from before would show no row (42)", async () => {
    const table = await tableOf(30);
    const model = new StoreModel();
    const { gate, stop, stream } = await halfway(table, model);
    const client = openClient(db.dsn);
    await client.unsafe(`BEGIN; ALTER TABLE ${table.name} ALTER id TYPE bigint`);
    gate.open();
    await until("the chunk to wait for the table", async () => {
      const rows = await db.query(`SELECT FROM pg_locks WHERE NOT granted
        AND relation = '${table.name}'::regclass`);
      return rows.length > 0;
    });
    await client.unsafe("COMMIT");
    await over(stream);
    assertEquals(model.backfilled, texts(1, 30));
    await same(model, table.name);
    await client.end();
    await stop();
    await table.remove();
  });

  test("by another primary key: it begins anew, and takes back what it handed out", async () => {
    const table = await tableOf(40, { ...initial, value: "'k' || n" });
    const model = new StoreModel();
    const { gate, stop, stream } = await halfway(table, model);
    await db.query(
      `ALTER TABLE ${table.name} DROP CONSTRAINT ${table.name}_pkey, ADD PRIMARY KEY (v)`,
    );
    gate.open();
    await over(stream);
    assertEquals([...model.rows.keys()].sort(), texts(1, 40).map((id) => `k${id}`).sort());
    await stop();
    await table.remove();
  });

  test("by being dropped: start() says so", async () => {
    const table = await tableOf(30);
    const model = new StoreModel();
    const { gate, ended, stream } = await halfway(table, model);
    await db.query(`DROP TABLE ${table.name}`);
    gate.open();
    assertEquals(await kindOf(ended.then((error) => Promise.reject(error))), "table-missing");
    await stream.teardown();
  });
});

describe("a role that may not read", () => {
  test("a table is told by setup(), before anything is made", async () => {
    const { role, dsn } = await newRole();
    const table = uniqueName("secret");
    await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY)`);
    const slotName = uniqueName();
    const stream = new PgStream({ dsn, slotName, logger: false, ...initial }).watch(table);
    const error = await stream.setup().then(() => null, (error) => error);
    assertEquals(error?.kind, "select-privilege");
    assertStringIncludes(error.hint, `GRANT SELECT ON "public"."${table}" TO "${role}"`);
    assertEquals(
      (await db.query(`SELECT FROM pg_replication_slots
      WHERE slot_name = '${slotName}'`)).length,
      0,
    );
  });

  for (
    const [what, kind, take] of [
      [
        "a table any more",
        "select-privilege",
        (table: string) => `REVOKE ALL ON ${table} FROM $role`,
      ],
      [
        "all of its rows",
        "row-security",
        (table: string) => `ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY`,
      ],
    ] as const
  ) {
    test(`${what} is told by start(), and no row is left out in silence (42)`, async () => {
      const { role, dsn } = await newRole();
      const table = await tableOf(3);
      await db.query(`GRANT SELECT ON ${table.name} TO ${role};
        GRANT USAGE ON SCHEMA pgstream TO ${role}; GRANT ALL ON pgstream.state TO ${role}`);
      await db.query(take(table.name).replace("$role", role));
      const stream = table.stream({ dsn }).onChange(() => {});
      assertEquals(await kindOf(stream.start()), kind);
      await table.remove();
    });
  }

  test("or make the table of states, is told by setup(), with what to run", async () => {
    const { role, dsn } = await newRole();
    const table = await tableOf(1);
    await db.query(`GRANT SELECT ON ${table.name} TO ${role}`);
    const stream = table.stream({ dsn });
    const error = await stream.setup().then(() => null, (error) => error);
    assertEquals(error?.kind, "state-store");
    assertStringIncludes(error.hint, "GRANT");
    await table.remove();
  });

  test("and needs no state: start() without setup() says to run it", async () => {
    const stateless = await TestTable.create(db, "stateless");
    await db.query("ALTER TABLE IF EXISTS pgstream.state RENAME TO state_away");
    try {
      const stream = stateless.stream(initial).onChange(() => {});
      assertEquals(await kindOf(stream.start()), "state-missing");
      await stateless.stream(initial).teardown();
    } finally {
      await db.query("ALTER TABLE IF EXISTS pgstream.state_away RENAME TO state");
    }
    await db.query(`DROP TABLE ${stateless.name}`);
  });
});

describe("a backfill", () => {
  test("fills a gap, and takes back first what was deleted inside it (47)", async () => {
    const table = await tableOf(20, { ...initial, onSlotLost: "recreate" });
    const model = new StoreModel();
    const first = await started(table.stream().onChange(model.take));
    await over(first.stream);
    await first.stop();
    await db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`);
    await db.query(`DELETE FROM ${table.name} WHERE id = 3; UPDATE ${table.name} SET v = 'x'
      WHERE id = 4; INSERT INTO ${table.name} VALUES (21, 'y')`);
    const second = await started(table.stream().onChange(model.take));
    await until("the gap to be filled", () => model.rows.get("21") !== undefined);
    await over(second.stream);
    await same(model, table.name);
    const truncates = model.events.filter(({ operation }) => operation === "truncate");
    assertEquals(truncates.map(({ backfill }) => backfill), [true]);
    await second.stop();
    await table.remove();
  });

  test("fills it for the next process, where this one dies as the slot is made anew (47)", async () => {
    const stateStore = new MemoryStateStore();
    const table = await tableOf(20, { ...initial, onSlotLost: "recreate", stateStore });
    const model = new StoreModel();
    const first = await started(table.stream().onChange(model.take));
    await over(first.stream);
    await first.stop();
    await db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`);
    await db.query(`DELETE FROM ${table.name} WHERE id = 3`);
    // What the store holds at that moment is all that is left of a process that dies then.
    const left = new MemoryStateStore();
    const key = `slot/${table.slotName}`;
    const connect: Connect = async (address, options) => {
      const transport = await connectDefault(address, options);
      const write = transport.write.bind(transport);
      transport.write = async (bytes) => {
        if (new TextDecoder().decode(bytes).includes("pg_create_logical_replication_slot(")) {
          await left.set(key, (await stateStore.get(key))!);
        }
        return await write(bytes);
      };
      return transport;
    };
    const dying = await started(table.stream({ connect }).onChange(() => {}));
    await over(dying.stream);
    await dying.stop();
    assert(await left.get(key), "no slot was made");

    const next = await started(table.stream({ stateStore: left }).onChange(model.take));
    await until("the gap to be filled", () => !model.rows.has("3"));
    await over(next.stream);
    await same(model, table.name);
    await next.stop();
    await table.remove();
  });

  test("after a slot that was made anew by setup() takes back what the lost one had kept", async () => {
    const table = await tableOf(10);
    const model = new StoreModel();
    const run = async () => {
      await table.stream().setup();
      const running = await started(table.stream().onChange(model.take));
      await over(running.stream);
      await running.stop();
    };
    await run();
    await db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`);
    await db.query(`DELETE FROM ${table.name} WHERE id = 3`);
    await run();
    await same(model, table.name);
    await table.remove();
  });

  test("or none, with a state store: another server is noticed by the next process (47)", async () => {
    const stateStore = new MemoryStateStore();
    const table = await tableOf(1, { stateStore });
    const run = async () => {
      const running = await started(table.stream().onChange(() => {}));
      await running.stop();
    };
    await run();
    const key = `slot/${table.slotName}`;
    const known = JSON.parse((await stateStore.get(key))!);
    await stateStore.set(key, JSON.stringify({ ...known, server: { systemId: "1", timeline: 1 } }));
    assertEquals(await kindOf(table.stream().onChange(() => {}).start()), "system-changed");
    // A slot that is made anew knows nothing of the other one.
    await db.query(`SELECT pg_drop_replication_slot('${table.slotName}')`);
    await table.stream().setup();
    await run();
    await table.remove();
  });

  test("of a table without a primary key reads it in one snapshot, and says so", async () => {
    const logger = new LogLines();
    const table = await TestTable.create(db, "keyless", {
      ...initial,
      backfillChunk: { maxBytes: 300 },
      logger,
      definition: "a int, b text",
      more: (name) =>
        `ALTER TABLE ${name} REPLICA IDENTITY FULL;
        INSERT INTO ${name} SELECT n % 10, 'same' FROM generate_series(1, 100) n`,
    });
    const rows: string[] = [];
    const running = await started(
      table.stream().onChange((event) => {
        // Nothing tells its rows from those that were handed out before: these are taken back.
        if (event.operation === "truncate") return void (rows.length = 0);
        rows.push(`${event.row.a} ${event.row.b}`);
      }),
    );
    await over(running.stream);
    await db.query(`INSERT INTO ${table.name} VALUES (99, 'later')`);
    await until("the change", () => rows.at(-1) === "99 later");
    assertEquals(rows.slice(0, -1).sort(), texts(0, 9).flatMap((a) => Array(10).fill(`${a} same`)));
    assert(logger.lines.some((line) => line.includes("has no primary key")));
    const some = running.stream.backfill(table.name, { where: "a = 1" });
    assertEquals(await kindOf(some), "no-primary-key");
    assertEquals(rows.at(-1), "99 later");
    await running.stop();
    await table.remove();
  });

  test("does not wait for writers of other tables, nor of other databases (40)", async () => {
    const table = await tableOf(10);
    const other = uniqueName("other");
    await db.query(`CREATE TABLE ${other} (id int)`);
    await db.query(`CREATE DATABASE ${other}`);
    const elsewhere = new URL(db.dsn);
    elsewhere.pathname = `/${other}`;
    const writers = [openClient(db.dsn), openClient(elsewhere.href)];
    await writers[0]!.unsafe(`BEGIN; INSERT INTO ${other} VALUES (1)`);
    await writers[1]!.unsafe("BEGIN; CREATE TABLE t AS SELECT 1");
    const model = new StoreModel();
    const running = await started(table.stream().onChange(model.take));
    await over(running.stream);
    assertEquals(model.backfilled, texts(1, 10));
    await running.stop();
    for (const writer of writers) {
      await writer.unsafe("ROLLBACK");
      await writer.end();
    }
    await db.query(`DROP DATABASE ${other}`);
    await table.remove();
  });

  test("ends with its stream while a chunk waits for changes that nobody takes", async () => {
    const table = await tableOf(10, { ...initial, maxQueueBytes: 1 });
    const gate = new Gate();
    const stream = table.stream().onChange(() => gate.pass());
    await table.insertMany(11, 40);
    const running = await started(stream);
    await until("the handler to hang", () => gate.waiting > 0);
    await until("a chunk to be read", async () => {
      const [row] = await db.query<{ read: boolean }>(`SELECT count(*) > 0 AS read
        FROM pg_stat_activity WHERE query LIKE 'COPY%; COMMIT' AND state = 'idle'
          AND application_name = 'pgstream'`);
      return row!.read;
    });
    const stopping = stream.stop({ timeoutMs: 50 });
    await within("the stream to stop", stopping, 5000);
    assertEquals(await running.ended, null);
    gate.open();
    await table.remove();
  });

  test("outlives its connections: those that read, and that of the stream", async () => {
    const table = await tableOf(60, { ...initial, reconnect: { minDelayMs: 10, maxDelayMs: 50 } });
    const model = new StoreModel();
    let killed = 0;
    const running = await started(
      table.stream().onChange(async (event) => {
        model.take(event);
        if (model.events.length % 9 !== 0) return;
        killed++;
        await db.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'pgstream' AND datname = current_database()
          AND backend_type ${killed % 2 === 0 ? "=" : "<>"} 'walsender'`);
      }),
    );
    await over(running.stream);
    await same(model, table.name);
    assert(killed > 4);
    // A chunk that was read and not handed out is read again; none is handed out twice.
    assertEquals(model.backfilled.length, 60);
    await running.stop();
    await table.remove();
  });
});
