/** Connections that are lost and remade: what waits in the queue comes again, and is handed out once. */

import { assert, assertEquals, assertGreater } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, parseLsn, type PgStreamOptions } from "../../mod.ts";
import { seededRandom } from "../support/random.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { TcpProxy } from "../support/tcp_proxy.ts";
import { confirmedLsn, newTable, sleep, started, until } from "../support/streams.ts";

let db: TestPostgres;
let proxy: TcpProxy;
before(async () => {
  db = await testPostgres();
  proxy = await TcpProxy.start(db.dsn);
});
after(async () => {
  await proxy?.stop();
  await db?.stop();
});

/** Quick, so that tests are. */
const reconnect = { minDelayMs: 10, maxDelayMs: 50 };
const proxied = (options: PgStreamOptions = {}): PgStreamOptions => ({
  dsn: proxy.through(db.dsn),
  reconnect,
  ...options,
});
const numbers = (many: number) => Array.from({ length: many }, (_, index) => String(index + 1));
const place = ({ lsn, ordinal, key }: ChangeEvent) => `${lsn} ${ordinal} ${key}`;

/** Cuts the connection, and waits until another one streams. */
async function remake(stream: { status(): { reconnects: number; state: string } }): Promise<void> {
  const { reconnects } = stream.status();
  proxy.cut();
  await until("another connection", () => {
    const status = stream.status();
    assert(status.state !== "failed");
    return status.reconnects > reconnects && status.state === "streaming";
  });
}

describe("a connection that is lost", () => {
  const shapes: { name: string; rows: number; maxQueueBytes: number; fill: string }[] = [
    {
      name: "while whole transactions wait in the queue",
      rows: 60,
      maxQueueBytes: 8 * 1024 * 1024,
      fill: "DO $$ BEGIN FOR n IN 1..20 LOOP " +
        "INSERT INTO $table SELECT 3 * (n - 1) + i FROM generate_series(1, 3) i; COMMIT; END LOOP; END $$",
    },
    {
      name: "in the middle of a transaction that fills the queue",
      rows: 4000,
      maxQueueBytes: 100_000,
      // More than the sockets hold by themselves.
      fill: "INSERT INTO $table SELECT n, repeat('x', 10000) FROM generate_series(1, 4000) n",
    },
    {
      name: "in a transaction that is half of tables nobody watches",
      rows: 2000,
      maxQueueBytes: 50_000,
      fill: "DO $$ BEGIN FOR n IN 1..2000 LOOP INSERT INTO beside VALUES (n); " +
        "INSERT INTO $table VALUES (n, repeat('x', 20000)); END LOOP; END $$",
    },
  ];
  for (const { name, rows, maxQueueBytes, fill } of shapes) {
    test(`${name}, again and again: each event is handed out once, in order (44)`, async () => {
      const { table, slotName, make, teardown } = await newTable(
        db,
        "cut",
        proxied({ maxQueueBytes }),
      );
      await db.query("CREATE TABLE IF NOT EXISTS beside (id int PRIMARY KEY)");
      await db.query("TRUNCATE beside");
      await db.query(`ALTER PUBLICATION ${slotName} ADD TABLE beside`);
      const { promise: released, resolve: release } = Promise.withResolvers<void>();
      const begun: ChangeEvent[] = [];
      const stream = make(async (event) => {
        begun.push(event);
        if (begun.length === 1) await released;
        else if (begun.length % Math.ceil(rows / 400) === 0) await sleep(2);
      });
      const running = await started(stream);
      await db.query(fill.replaceAll("$table", table));
      await until("the first event", () => begun.length === 1);
      const before = await confirmedLsn(db, slotName);
      // The first event is in hand all the while; the others are queued, or wait for room to be queued,
      // and as long as they do a new connection would have nothing to bring.
      for (let round = 0; round < 3; round++) {
        await sleep(150);
        proxy.cut();
      }
      await sleep(300);
      assertEquals(begun.length, 1);
      assertGreater(stream.status().queueBytes, 0);
      assert(await confirmedLsn(db, slotName) <= parseLsn(begun[0]!.lsn));
      release();
      // … and now while they are being handed out. A large transaction is sent from its start each time.
      for (let round = 0; round < 5 && begun.length < rows * 0.9; round++) {
        await sleep(100);
        await remake(stream);
      }
      await until("all rows", () => begun.length >= rows, 60_000);
      await db.query(`INSERT INTO ${table} VALUES (${rows + 1})`);
      await until("a new row", () => begun.at(-1)?.key === String(rows + 1));
      const { reconnects, state } = stream.status();
      await running.stop();
      assertEquals(state, "streaming");
      assertGreater(reconnects, 0);
      assertEquals(begun.map(({ key }) => key), numbers(rows + 1));
      assertEquals(new Set(begun.map(place)).size, rows + 1);
      assertGreater(await confirmedLsn(db, slotName), before);

      // Nothing was confirmed by guess: a consumer that starts anew has nothing to do.
      const again: string[] = [];
      const next = await started(make((event) => void again.push(event.key!)));
      await db.query(`INSERT INTO ${table} VALUES (${rows + 2})`);
      await until("the next row", () => again.length > 0);
      await next.stop();
      assertEquals(again, [String(rows + 2)]);
      await teardown();
    });
  }

  test("at random moments of a busy hour, with handlers side by side: each event once (44)", async () => {
    const seed = Date.now() & 0xffff;
    console.log(`seed ${seed}`);
    const random = seededRandom(seed);
    const { table, make, teardown } = await newTable(
      db,
      "busy",
      proxied({ concurrency: 4, maxQueueBytes: 20_000 }),
    );
    const seen = new Map<string, string[]>();
    let handled = 0;
    const stream = make(async (event) => {
      if (handled % 7 === 0) await sleep(random() * 5);
      const versions = seen.get(event.key!) ?? [];
      versions.push((event.row as { v: string }).v);
      seen.set(event.key!, versions);
      handled++;
    });
    const running = await started(stream);
    const expected = new Map<string, string[]>();
    let written = 0;
    const writing = (async () => {
      for (let version = 0; version < 150; version++) {
        const ids = [...new Set(Array.from({ length: 20 }, () => Math.floor(random() * 40)))];
        const rows = ids.map((id) => `(${id}, '${version} ' || repeat('x', 300))`).join();
        await db.query(
          `INSERT INTO ${table} VALUES ${rows} ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v`,
        );
        for (const id of ids) {
          const versions = expected.get(String(id)) ?? [];
          versions.push(String(version));
          expected.set(String(id), versions);
        }
        written += ids.length;
      }
    })();
    for (let cut = 0; cut < 15; cut++) {
      await sleep(random() * 60);
      proxy.cut();
    }
    await writing;
    await until("all events", () => handled >= written, 30_000);
    assertGreater(stream.status().reconnects, 0);
    await running.stop();
    const found = new Map(
      [...seen].map(([key, versions]) => [key, versions.map((text) => text.split(" ")[0]!)]),
    );
    assertEquals(found, expected, `seed ${seed}`);
    assertEquals(handled, written, `seed ${seed}`);
    await teardown();
  });
});
