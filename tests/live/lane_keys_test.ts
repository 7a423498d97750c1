/** What keeps its order with concurrency, whatever tables look like and whatever becomes of them. */

import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, PgStream, PgStreamError } from "../../mod.ts";
import { seededRandom } from "../support/random.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { sleep, started, uniqueName, until, within } from "../support/streams.ts";
import { currentLsn, Gate, TestTable } from "../support/test_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

/** What is to begin has had its chance. */
const AWHILE_MS = 400;

/** Tables whose changes do not tell the primary key, or that have none. */
const oneLane: [string, string, (table: string) => string][] = [
  ["no primary key", "id int, v text", (table) => `ALTER TABLE ${table} REPLICA IDENTITY FULL`],
  [
    "an identity that lacks its primary key",
    "id int PRIMARY KEY, v text NOT NULL UNIQUE",
    (table) => `ALTER TABLE ${table} REPLICA IDENTITY USING INDEX ${table}_v_key`,
  ],
];

describe("with concurrency, order is kept", () => {
  test("by primary key under FULL: a delete and the insert that follows do not run side by side (43)", async () => {
    const table = await TestTable.create(db, "full", {
      concurrency: 8,
      more: (table) => `ALTER TABLE ${table} REPLICA IDENTITY FULL`,
    });
    await table.insertMany(1, 30, "'old' || n");
    const gate = new Gate();
    const log: string[] = [];
    const stream = table.stream().onChange(async (event) => {
      if (event.operation === "delete") await gate.pass();
      log.push(`${event.operation} ${event.key} ${event.row.v}`);
    });
    const running = await started(stream);
    await until("the first rows", () => log.length === 30);
    log.length = 0;
    // Of one row, whose values differ each time: as many lanes, if the row told the lane.
    await db.query(`DELETE FROM ${table.name} WHERE id = 1`);
    for (let n = 1; n <= 10; n++) {
      await db.query(`INSERT INTO ${table.name} VALUES (1, 'new${n}')`);
      await db.query(`DELETE FROM ${table.name} WHERE id = 1`);
    }
    await db.query(`UPDATE ${table.name} SET v = 'other'`);
    await until("the delete", () => gate.waiting === 1);
    await until("other keys", () => log.some((line) => line.endsWith("other")));
    await sleep(AWHILE_MS);
    assertEquals([gate.waiting, log.filter((line) => / 1 /.test(line))], [1, []]);
    gate.open();
    await until("all of them", () => log.length === 21 + 29);
    await running.stop();
    assertEquals(
      log.filter((line) => / 1 /.test(line)),
      ["delete 1 old1"].concat(...Array.from({ length: 10 }, (_, index) => [
        `insert 1 new${index + 1}`,
        `delete 1 new${index + 1}`,
      ])),
    );
    await table.remove();
  });

  for (const [name, definition, more] of oneLane) {
    test(`of all changes, where a table has ${name}`, async () => {
      const table = await TestTable.create(db, "lane", { concurrency: 8, definition, more });
      await table.insertMany(1, 20, "'v' || n");
      await db.query(`UPDATE ${table.name} SET id = id + 100`);
      await db.query(`UPDATE ${table.name} SET v = v || '!' WHERE id > 110`);
      await db.query(`DELETE FROM ${table.name} WHERE id <= 105`);
      const seen: [string, number][] = [];
      let busy = 0;
      let most = 0;
      const stream = table.stream().onChange(async (event) => {
        most = Math.max(most, ++busy);
        await sleep(1);
        seen.push([event.lsn, event.ordinal]);
        busy--;
      });
      const running = await started(stream);
      await until("all changes", () => seen.length === 20 + 20 + 10 + 5);
      await running.stop();
      assertEquals(most, 1);
      const ordinals = (count: number) => Array.from({ length: count }, (_, index) => index);
      assertEquals(
        seen.map(([, ordinal]) => ordinal),
        [20, 20, 10, 5].flatMap((count) => ordinals(count)),
      );
      await table.remove();
    });
  }

  test("by the root's key, where a row goes from one partition to another", async () => {
    const root = uniqueName("parted");
    await db.query(`
      CREATE TABLE ${root} (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
      CREATE TABLE ${root}_1 PARTITION OF ${root} FOR VALUES IN (1);
      CREATE TABLE ${root}_2 PARTITION OF ${root} FOR VALUES IN (2)`);
    const gate = new Gate();
    const log: string[] = [];
    const stream = new PgStream({
      dsn: db.dsn,
      slotName: uniqueName(),
      logger: false,
      concurrency: 8,
    }).watch(root).onChange(async (event) => {
      if (event.operation === "delete") await gate.pass();
      log.push(`${event.table === root ? "" : event.table}${event.operation} ${event.key}`);
    });
    await stream.setup();
    const running = await started(stream);
    await db.query(`INSERT INTO ${root} VALUES (1, 1, 'a'), (1, 2, 'b')`);
    await db.query(`DELETE FROM ${root} WHERE (id, part) = (1, 2)`);
    // A delete of (1, 1) and an insert of (1, 2), which waits for the delete before it.
    await db.query(`UPDATE ${root} SET part = 2 WHERE (id, part) = (1, 1)`);
    await until("the deletes", () => gate.waiting >= 1);
    await sleep(AWHILE_MS);
    assertEquals(log, [`insert ["1","1"]`, `insert ["1","2"]`]);
    gate.open();
    await until("all changes", () => log.length === 5);
    await running.stop();
    assertEquals(
      log.filter((line) => line.endsWith(`["1","2"]`)),
      [`insert ["1","2"]`, `delete ["1","2"]`, `insert ["1","2"]`],
    );
    await stream.teardown();
    await db.query(`DROP TABLE ${root}`);
  });

  test("over a change of the primary key: nothing after it overtakes anything before it", async () => {
    const table = await TestTable.create(db, "altered", {
      concurrency: 8,
      definition: "id int PRIMARY KEY, other int NOT NULL UNIQUE, v text",
    });
    await db.query(`INSERT INTO ${table.name} SELECT n, n + 1000 FROM generate_series(1, 20) n`);
    const gate = new Gate();
    const log: string[] = [];
    const stream = table.stream().onChange(async (event) => {
      if (event.row.v === "before" && event.row.id === "1") await gate.pass();
      log.push(`${event.row.v} ${event.key}`);
    });
    const running = await started(stream);
    await until("the first rows", () => log.length === 20);
    log.length = 0;
    await db.query(`UPDATE ${table.name} SET v = 'before'`);
    await db.query(`BEGIN;
      ALTER TABLE ${table.name} DROP CONSTRAINT ${table.name}_pkey;
      ALTER TABLE ${table.name} ADD PRIMARY KEY (other);
      UPDATE ${table.name} SET v = 'amid' WHERE id = 1;
      COMMIT`);
    await db.query(`UPDATE ${table.name} SET v = 'after'`);
    await until("the one that hangs", () => gate.waiting === 1);
    await sleep(2 * AWHILE_MS);
    assertEquals(log.filter((line) => !line.startsWith("before")), []);
    gate.open();
    await until("all changes", () => log.length === 41);
    await running.stop();
    assertEquals(log.filter((line) => / 1001$/.test(line)), ["amid 1001", "after 1001"]);
    assertEquals(log.findLastIndex((line) => line.startsWith("before")), 19);
    await table.remove();
  });

  test("while the primary key is altered amid the writing: 8 lanes end as the table does", async () => {
    const seed = Date.now() % 1_000_000;
    console.log(`seed ${seed}`);
    const random = seededRandom(seed);
    const failing = seededRandom(seed + 1);
    const table = await TestTable.create(db, "storm", {
      concurrency: 8,
      definition: "id int PRIMARY KEY, other int NOT NULL UNIQUE, v int",
      more: (table) => `ALTER TABLE ${table} REPLICA IDENTITY FULL`,
      retry: { minDelayMs: 0, attempts: 100 },
    });
    // By both keys: whichever is the primary one, a pair belongs to one value of it.
    const rows = new Map<string, unknown>();
    const pairOf = (row: Record<string, unknown>) => `${row.id}/${row.other}`;
    let handled = 0;
    const stream = table.stream().onChange(async (event) => {
      await sleep(failing() * 3);
      if (failing() < 0.05) throw new Error("a fault");
      handled++;
      if (event.operation === "truncate") return rows.clear();
      if (event.oldRow !== null) rows.delete(pairOf(event.oldRow));
      if (event.operation !== "delete") rows.set(pairOf(event.row), event.row.v);
    });
    const running = await started(stream);
    let failed: unknown = null;
    void running.ended.then((error) => failed = error);
    const any = () => 1 + Math.floor(random() * 12);
    let primary = "id";
    let altered = 0;
    for (let step = 1; step <= 400; step++) {
      const chance = random();
      const write = `INSERT INTO ${table.name} VALUES (${any()}, ${any()}, ${step})
        ON CONFLICT DO NOTHING; UPDATE ${table.name} SET v = ${step} WHERE id = ${any()};`;
      if (chance < 0.04) {
        altered++;
        primary = primary === "id" ? "other" : "id";
        await db.query(`BEGIN; ${write}
          ALTER TABLE ${table.name} DROP CONSTRAINT ${table.name}_pkey;
          ALTER TABLE ${table.name} ADD CONSTRAINT ${table.name}_pkey PRIMARY KEY (${primary});
          CREATE UNIQUE INDEX IF NOT EXISTS ${table.name}_id ON ${table.name} (id);
          ${write} COMMIT`);
      } else if (chance < 0.05) await db.query(`TRUNCATE ${table.name}`);
      else if (chance < 0.25) await db.query(`DELETE FROM ${table.name} WHERE id = ${any()}`);
      else if (chance < 0.5) {
        const column = random() < 0.5 ? "id" : "other";
        const to = any();
        await db.query(`UPDATE ${table.name} SET ${column} = ${to}, v = ${step}
          WHERE ${column} = ${any()}
          AND NOT EXISTS (SELECT FROM ${table.name} WHERE ${column} = ${to})`);
      } else await db.query(write);
    }
    const truth = await db.query<Record<string, unknown>>(`SELECT * FROM ${table.name}`);
    const end = await currentLsn(db);
    await until("all changes", async () => {
      if (failed !== null) throw failed;
      return await table.confirmedLsn() >= end;
    }, 30_000);
    await running.stop();
    assert(altered > 3 && handled > 200, `seed ${seed}: ${altered} ${handled}`);
    assertEquals(
      [...rows].map(([pair, v]) => `${pair}=${v}`).sort(),
      truth.map((row) => `${pairOf(row)}=${row.v}`).sort(),
      `seed ${seed}`,
    );
    await table.remove();
  });
});

describe("a key of one's own", () => {
  const definition = "id int PRIMARY KEY, v text";

  test("keeps the order of what shares it, and lets others overtake", async () => {
    const gate = new Gate();
    const log: string[] = [];
    const table = await TestTable.create(db, "tenants", { definition });
    const stream = table.stream({ concurrency: 8, key: ({ row }) => `tenant ${row.v}` })
      .onChange(async (event) => {
        if (event.key === "1") await gate.pass();
        log.push(event.key!);
      });
    const running = await started(stream);
    await table.insertMany(1, 100, "CASE WHEN n <= 10 THEN 'a' ELSE 'other' || n END");
    await until("other tenants", () => gate.waiting === 1 && log.length > 20);
    await sleep(AWHILE_MS);
    assertEquals(log.filter((key) => Number(key) <= 10), []);
    gate.open();
    await until("all rows", () => log.length === 100);
    await running.stop();
    assertEquals(log.filter((key) => Number(key) <= 10).map(Number), [
      1,
      2,
      3,
      4,
      5,
      6,
      7,
      8,
      9,
      10,
    ]);
    await table.remove();
  });

  for (const busy of ["a1", "a2"]) {
    test(`of a row that goes from a1 to a2: it waits for ${busy}`, async () => {
      const gate = new Gate();
      const log: string[] = [];
      const table = await TestTable.create(db, "moving", {
        definition,
        more: (table) => `ALTER TABLE ${table} REPLICA IDENTITY FULL`,
      });
      await db.query(`INSERT INTO ${table.name} VALUES (1, 'a1'), (2, '${busy}')`);
      const stream = table.stream({
        concurrency: 8,
        key: ({ row, oldRow }) =>
          oldRow === null ? String(row.v) : [String(oldRow.v), String(row.v)],
      }).onChange(async (event) => {
        if (event.operation === "delete") await gate.pass();
        log.push(`${event.operation} ${event.key} ${event.row.v}`);
      });
      const running = await started(stream);
      await until("the first rows", () => log.length === 2);
      await db.query(`DELETE FROM ${table.name} WHERE id = 2`);
      await db.query(`UPDATE ${table.name} SET v = 'a2' WHERE id = 1`);
      await until("the delete", () => gate.waiting === 1);
      await sleep(AWHILE_MS);
      assertEquals(log.length, 2);
      gate.open();
      await until("the move", () => log.length === 4);
      await running.stop();
      assertEquals(log.slice(2), [`delete 2 ${busy}`, "update 1 a2"]);
      await table.remove();
    });
  }

  test("is not asked of a TRUNCATE, which waits for all", async () => {
    const table = await TestTable.create(db, "asked", { definition });
    const asked: string[] = [];
    const seen: ChangeEvent[] = [];
    const stream = table.stream({
      concurrency: 4,
      key: (event) => {
        asked.push(event.operation);
        return event.row.v.toLowerCase();
      },
    }).onChange((event) => void seen.push(event));
    const running = await started(stream);
    await table.insertMany(1, 2, "'A'");
    await db.query(`TRUNCATE ${table.name}`);
    await table.insertMany(3, 3, "'A'");
    await until("all events", () => seen.length === 4);
    await running.stop();
    assert(!asked.includes("truncate"));
    assertEquals(seen.map(({ operation }) => operation), [
      "insert",
      "insert",
      "truncate",
      "insert",
    ]);
    await table.remove();
  });

  const wrong: [string, () => unknown][] = [
    ["throws", () => {
      throw new Error("no tenant");
    }],
    ["gives nothing", () => undefined],
    ["gives a promise", () => Promise.resolve("a")],
    ["gives no key at all", () => []],
  ];
  for (const [name, key] of wrong) {
    test(`that ${name} loses nothing, and is told as an error of its own`, async () => {
      const table = await TestTable.create(db, "wrong", { definition });
      const seen: string[] = [];
      const stream = table.stream({ concurrency: 4, key: key as () => string })
        .onChange((event) => void seen.push(event.key!));
      const { ended } = await started(stream);
      await table.insert(1);
      const error = await within("start() to reject", ended);
      assertInstanceOf(error, PgStreamError);
      assert(error.hint, String(error));
      assertEquals(seen, []);
      const next = await started(table.stream().onChange((event) => void seen.push(event.key!)));
      await until("the row", () => seen.length === 1);
      await next.stop();
      await table.remove();
    });
  }
});
