/** Rows that were there before, handed out in step with the changes: none missing, none after a newer one. */

import { assert, assertEquals, assertGreater, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { MemoryStateStore, PgStream } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  LogLines,
  openClient,
  sleep,
  started,
  uniqueName,
  until,
  within,
} from "../support/streams.ts";
import {
  initial,
  over,
  sameRows,
  StoreModel,
  type TableOptions,
  tableWithRows,
} from "../support/backfills.ts";
import { Gate, texts } from "../support/test_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres({ settings: { max_prepared_transactions: "10" } });
});
after(() => db?.stop());

const tableOf = (rows: number, options?: TableOptions) => tableWithRows(db, rows, options);
const same = (model: StoreModel, table: string) => sameRows(db, model, table);

describe("a backfill", () => {
  test("hands out each row once, whole, and marks it; changes come beside it (37)", async () => {
    const table = await tableOf(100, { ...initial, value: "'v' || n" });
    const model = new StoreModel();
    const running = await started(table.stream().onChange(model.take));
    await db.query(`UPDATE ${table.name} SET v = 'new' WHERE id <= 3;
      DELETE FROM ${table.name} WHERE id = 50; INSERT INTO ${table.name} VALUES (101, 'last')`);
    await over(running.stream);
    await until("the last change", () => model.rows.has("101"));
    await same(model, table.name);
    const rows = model.events.filter(({ backfill }) => backfill);
    assertGreater(rows.length, 95);
    for (const event of rows) {
      assertEquals([event.operation, event.ordinal, event.xid, event.unchanged.length], [
        "insert",
        -1,
        0,
        0,
      ]);
      assert(Date.now() - event.commitTime.getTime() < 60_000);
    }
    assertEquals(new Set(model.backfilled).size, rows.length);
    await running.stop();
    await table.remove();
  });

  test("that is done is not done again by the next process, nor is one that never had a row", async () => {
    const table = await tableOf(0);
    for (const rows of [0, 20]) {
      if (rows > 0) await table.insertMany(1, rows);
      const model = new StoreModel();
      const running = await started(table.stream().onChange(model.take));
      await over(running.stream);
      await until("the rows", () => model.rows.size === rows);
      assertEquals(model.backfilled, []);
      await running.stop();
    }
    await table.remove();
  });

  test("that was interrupted goes on behind the last chunk that was handled (38)", async () => {
    const table = await tableOf(50);
    const gate = new Gate();
    const first: string[] = [];
    const stream = table.stream().onChange(async (event) => {
      if (first.length === 17) await gate.pass();
      first.push(event.key!);
    });
    const running = await started(stream);
    await until("the third chunk", () => gate.waiting > 0);
    const stopping = running.stop();
    gate.open();
    await stopping;
    const model = new StoreModel();
    const again = await started(table.stream().onChange(model.take));
    await over(again.stream);
    assertEquals(first, texts(1, 18));
    // Two chunks of seven were handled whole.
    assertEquals(model.backfilled, texts(15, 50));
    await again.stop();
    await table.remove();
  });

  test("holds one chunk, and no transaction, while a sink is slow", async () => {
    const table = await tableOf(30);
    const gate = new Gate();
    const running = await started(table.stream().onChange(() => gate.pass()));
    await until("the first row", () => gate.waiting === 1);
    await sleep(100);
    const open = await db.query(`SELECT FROM pg_stat_activity WHERE backend_type = 'client backend'
      AND query LIKE '%${table.name}%' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()`);
    assertEquals(open.length, 0);
    assertEquals(running.stream.status().backfill?.rows, 0);
    gate.open();
    await over(running.stream);
    await running.stop();
    await table.remove();
  });

  test("is told in status(), row by row", async () => {
    const table = await tableOf(40);
    await db.query(`ANALYZE ${table.name}`);
    const seen: number[] = [];
    const stream: PgStream = table.stream();
    stream.onChange(() => {
      const { backfill } = stream.status();
      seen.push(backfill!.rows);
      assertEquals([backfill!.table, backfill!.estimatedRows], [`public.${table.name}`, 40]);
    });
    const running = await started(stream);
    await over(running.stream);
    assertEquals([...new Set(seen)], [0, 7, 14, 21, 28, 35]);
    await running.stop();
    await table.remove();
  });

  test("is part of catchUp(), and of changes()", async () => {
    const table = await tableOf(30);
    const model = new StoreModel();
    const report = await table.stream().onChange(model.take).catchUp();
    assertEquals([report.events, model.backfilled], [30, texts(1, 30)]);
    await table.remove();

    const other = await tableOf(30);
    const keys: string[] = [];
    for await (const { events, ack } of other.stream().changes()) {
      keys.push(...events.map(({ key }) => key!));
      ack();
      if (keys.length === 30) break;
    }
    assertEquals(keys, texts(1, 30));
    await other.remove();
  });

  test("fills batches, and does not wait for those that nothing fills", async () => {
    const table = await tableOf(100, { backfill: "initial", backfillChunk: { maxRows: 20 } });
    const sizes: number[] = [];
    const at = performance.now();
    const stream = table.stream().onBatch((events) => void sizes.push(events.length), {
      maxEvents: 8,
      maxDelayMs: 5000,
    });
    const running = await started(stream);
    await over(running.stream);
    assertEquals(sizes, Array.from({ length: 10 }, () => [8, 2]).flat());
    assert(performance.now() - at < 4000);
    await running.stop();
    await table.remove();
  });

  test("reads a table that is watched from the next start on, and no other again", async () => {
    const table = await tableOf(5);
    const second = uniqueName("second");
    await db.query(`CREATE TABLE ${second} (id int PRIMARY KEY); INSERT INTO ${second} VALUES (7)`);
    const model = new StoreModel();
    const before = await started(table.stream().onChange(model.take));
    await over(before.stream);
    await before.stop();
    const both = table.stream().watch(second).onChange(model.take);
    await both.setup();
    const running = await started(both);
    await over(running.stream);
    assertEquals(model.backfilled, [...texts(1, 5), "7"]);
    await running.stop();
    await table.remove();
  });

  for (
    const [how, setsUp] of [["nor published", true], ["though published", false]] as const
  ) {
    test(`of a table that was not watched ${how} for a while takes back first what it handed out (47)`, async () => {
      const table = await tableOf(5);
      const other = uniqueName("other");
      await db.query(`CREATE TABLE ${other} (id int PRIMARY KEY)`);
      const model = new StoreModel();
      const run = async (stream: PgStream) => {
        if (setsUp) await stream.setup();
        const running = await started(stream.onChange(model.take));
        await over(running.stream);
        await running.stop();
      };
      await table.stream().watch(other).setup();
      await run(table.stream().watch(other));
      const { slotName } = table;
      await run(new PgStream({ dsn: db.dsn, slotName, logger: false, ...initial }).watch(other));
      await db.query(`DELETE FROM ${table.name} WHERE id = 3`);
      await run(table.stream().watch(other));
      await same(model, table.name);
      assertEquals(model.events.filter(({ operation }) => operation === "truncate").length, 1);
      await table.remove();
    });
  }

  test("is not done again by who stood by meanwhile", async () => {
    const table = await tableOf(20);
    const [first, second] = [new StoreModel(), new StoreModel()];
    const gate = new Gate();
    const active = await started(
      table.stream().onChange(async (event) => {
        await gate.pass();
        first.take(event);
      }),
    );
    await until("the first row", () => gate.waiting > 0);
    const waiting = table.stream({ whenSlotInUse: "wait" }).onChange(second.take);
    const ended = waiting.start();
    await sleep(300);
    gate.open();
    await over(active.stream);
    await active.stop();
    await over(waiting);
    assertEquals([first.backfilled, second.backfilled], [texts(1, 20), []]);
    await waiting.stop();
    await ended;
    await table.remove();
  });

  test("can keep its progress anywhere", async () => {
    const stateStore = new MemoryStateStore();
    const table = await tableOf(20, { ...initial, stateStore });
    const model = new StoreModel();
    for (let run = 0; run < 2; run++) {
      const running = await started(table.stream().onChange(model.take));
      await over(running.stream);
      await running.stop();
    }
    assertEquals(model.backfilled, texts(1, 20));
    await table.remove();
  });
});

describe("what is open while a backfill begins", () => {
  const cases = [
    ["a transaction", ["BEGIN"], ["COMMIT"], /are open: PID \d+/],
    [
      "a prepared transaction",
      ["BEGIN"],
      ["COMMIT PREPARED 'gid'"],
      /are open: prepared transaction "gid"/,
    ],
  ] as const;
  for (const [what, begin, end, named] of cases) {
    test(`${what} that has changed the table: its rows are not missed, and it is named (41)`, async () => {
      const table = uniqueName("open");
      await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY, v text)`);
      const slotName = uniqueName();
      const logger = new LogLines();
      const stream = new PgStream({ dsn: db.dsn, slotName, logger, ...initial }).watch(table);
      // The slot exists already: making it would wait for the transaction too.
      await db.query(`SELECT pg_create_logical_replication_slot('${slotName}', 'pgoutput')`);
      const writer = openClient(db.dsn);
      await writer.unsafe(`${begin}; INSERT INTO ${table} VALUES (1, 'before')`);
      await stream.setup();
      await writer.unsafe(`INSERT INTO ${table} VALUES (2, 'after')`);
      if (end[0] !== "COMMIT") await writer.unsafe("PREPARE TRANSACTION 'gid'");
      const model = new StoreModel();
      const running = await started(stream.onChange(model.take));
      await until("a warning", () => logger.lines.some((line) => named.test(line)), 20_000);
      assertEquals(model.events, []);
      await writer.unsafe(end[0]);
      await over(running.stream);
      await until("both rows", () => model.rows.size === 2);
      await same(model, table);
      await running.stop();
      await writer.end();
      await stream.teardown();
      await db.query(`DROP TABLE ${table}`);
    });
  }
});

describe("a backfill beside changes", () => {
  test("reads again what was not sent of rows that moved to where it has been", async () => {
    const table = await tableOf(30, {
      ...initial,
      value: "repeat(n::text, 3000)",
      more: "ALTER TABLE $table ALTER v SET STORAGE EXTERNAL",
    });
    const gate = new Gate();
    const model = new StoreModel();
    const running = await started(
      table.stream().onChange(async (event) => {
        if (model.events.length === 10) await gate.pass();
        model.take(event);
      }),
    );
    await until("the second chunk", () => gate.waiting > 0);
    // From beyond the cursor to behind it: the value is not sent, and no chunk comes by there again.
    await db.query(`UPDATE ${table.name} SET id = 0 WHERE id = 29`);
    gate.open();
    await over(running.stream);
    await until("the moved row", () => model.rows.get("0")?.v !== undefined);
    await same(model, table.name);
    await running.stop();
    await table.remove();
  });

  test("does not go back in time where commits are seen late by snapshots (39)", async () => {
    const table = await tableOf(5, { ...initial, value: "'old'" });
    const model = new StoreModel();
    const standBy = async (name: string) => {
      await db.query(`ALTER SYSTEM SET synchronous_standby_names = '${name}'`);
      await db.query("SELECT pg_reload_conf()");
    };
    const running = await started(table.stream().onChange(model.take));
    await over(running.stream);
    await standBy("nobody");
    const writer = openClient(db.dsn);
    const committing = writer.unsafe(`UPDATE ${table.name} SET v = 'new' WHERE id = 2`);
    committing.catch(() => {});
    await until("the change, before its commit returns", () => model.rows.get("2")?.v === "new");
    const before = model.events.length;
    const filling = running.stream.backfill(table.name);
    await sleep(500);
    // A snapshot would still show the old row.
    assertEquals(model.events.length, before);
    await standBy("");
    await within("the backfill", filling);
    await committing;
    assertEquals(model.events.length, before + 5);
    await same(model, table.name);
    await running.stop();
    await writer.end();
    await table.remove();
  });
});

describe("stream.backfill()", () => {
  test("hands out a table again, all or some of it", async () => {
    const table = await tableOf(9, { value: "'v' || n" });
    const model = new StoreModel();
    const running = await started(table.stream().onChange(model.take));
    const { stream } = running;
    await stream.backfill(table.name, { keys: ["8", "3", "4", "77", "3"] });
    assertEquals(model.backfilled.sort(), ["3", "4", "8"]);
    await stream.backfill(table.name, { where: "id > 7" });
    assertEquals(model.backfilled.slice(3), ["8", "9"]);
    await stream.backfill(`public.${table.name}`);
    assertEquals(model.backfilled.slice(5), texts(1, 9));
    assertEquals(stream.status().backfill, null);
    await running.stop();
    await table.remove();
  });

  test("says what is wrong where it cannot be, and leaves the stream alone", async () => {
    const table = await tableOf(3, {});
    const stream = table.stream().onChange(() => {});
    const kindOf = async (work: Promise<unknown>) =>
      await within("an error", work.then(() => "none", (error) => error.kind ?? error.message));
    assertEquals(await kindOf(stream.backfill(table.name)), "not-running");
    const running = await started(stream);
    assertEquals(await kindOf(stream.backfill("other")), "not-watched");
    const refused = await within(
      "an error",
      stream.backfill(table.name, { where: "no_column > 1" }).catch((error) => error.message),
    );
    assertStringIncludes(refused as string, "no_column");
    const where =
      `true) TO STDOUT; CREATE TABLE public.${table.name}_x(); COPY (SELECT 1 WHERE (true`;
    assertEquals(await kindOf(stream.backfill(table.name, { where })), "invalid-option");
    assertEquals(await db.query(`SELECT FROM pg_class WHERE relname = '${table.name}_x'`), []);
    const gone = new Error("enough");
    assertEquals(
      await kindOf(stream.backfill(table.name, { signal: AbortSignal.abort(gone) })),
      "enough",
    );
    assertEquals(stream.status().state, "streaming");
    const gate = new Gate();
    const blocked = openClient(db.dsn);
    await blocked.unsafe(`BEGIN; LOCK TABLE ${table.name} IN ACCESS EXCLUSIVE MODE`);
    const waiting = stream.backfill(table.name);
    waiting.catch(() => {});
    await sleep(200);
    await running.stop();
    assertEquals(await kindOf(waiting), "stopped");
    gate.open();
    await blocked.unsafe("ROLLBACK");
    await blocked.end();
    await table.remove();
  });
});
