/** A server that crashes, and forgets what was confirmed since its last checkpoint. */

import { assertEquals, assertGreater, assertLessOrEqual } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, parseLsn, PgStream, ReplicationStream } from "../../mod.ts";
import { PgOutputDecoder } from "../../src/pgoutput/mod.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import {
  confirmedLsn,
  type Database,
  sleep,
  started,
  uniqueName,
  until,
  within,
} from "../support/streams.ts";

for (const major of [18, 15]) {
  describe(`a PostgreSQL ${major} that crashes`, { skip: needsOwnServer }, () => {
    let server: PostgresServer;
    let db: Database;
    before(async () => {
      server = await startPostgres({ major });
      db = {
        dsn: server.dsn,
        query: <Row extends object>(sql: string, parameters: string[] = []) =>
          server.query<Row>(sql, { parameters }),
      };
    });
    after(() => server?.stop("immediate"));

    async function newStream(): Promise<
      { table: string; slotName: string; events: ChangeEvent[]; make(): PgStream }
    > {
      const table = uniqueName("crashed");
      const slotName = uniqueName();
      await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY)`);
      const events: ChangeEvent[] = [];
      const make = () =>
        new PgStream({ dsn: server.dsn, slotName, logger: false, reconnect: { maxDelayMs: 100 } })
          .watch(table).onChange((event) => void events.push(event));
      await make().setup();
      return { table, slotName, events, make };
    }
    const keys = (events: ChangeEvent[]) => events.map(({ key }) => key);

    test("after a confirmation: what it forgot comes again, what was saved does not (9)", async () => {
      const { table, slotName, events, make } = await newStream();
      await db.query("CHECKPOINT");
      const first = await started(make());
      for (let id = 1; id <= 5; id++) await db.query(`INSERT INTO ${table} VALUES (${id})`);
      await until("the rows", () => events.length === 5);
      await first.stop();
      const saved = await confirmedLsn(db, slotName);
      const lsns = events.map(({ lsn }) => parseLsn(lsn));
      assertGreater(saved, lsns.at(-1)!);

      await server.shutdown("immediate");
      await server.start();
      const remembered = await confirmedLsn(db, slotName);
      console.log(
        `${server.version} ${
          remembered < saved ? `went ${saved - remembered} bytes back` : "remembers"
        }`,
      );
      assertLessOrEqual(remembered, saved);
      await db.query(`INSERT INTO ${table} VALUES (6)`);

      // Nothing is lost: a transaction is sent again unless its commit begins before that.
      const again = events.splice(0).filter(({ lsn }) => parseLsn(lsn) >= remembered);
      const next = await started(make());
      await until("the new row", () => events.at(-1)?.key === "6");
      await next.stop();
      const kept = await confirmedLsn(db, slotName);
      assertEquals(keys(events), [...keys(again), "6"]);

      // Whoever has kept a position of its own starts there, and has no row twice.
      await server.shutdown("immediate");
      await server.start();
      await db.query(`INSERT INTO ${table} VALUES (7)`);
      const stream = await ReplicationStream.open({
        dsn: server.dsn,
        slotName,
        startLsn: kept,
        logger: false,
      });
      const decoder = new PgOutputDecoder();
      const rows: string[] = [];
      await within(
        "the new row",
        (async () => {
          for await (const { data } of stream) {
            const message = decoder.decode(data);
            if (message.type === "insert") rows.push(message.row.id as string);
            if (rows.at(-1) === "7") break;
          }
        })(),
      );
      assertEquals(rows, ["7"]);
      await make().teardown();
    });

    test("under a stream that lives on: each event once, and the slot catches up (9)", async () => {
      const { table, slotName, events, make } = await newStream();
      await db.query("CHECKPOINT");
      const running = await started(make());
      for (let id = 1; id <= 5; id++) await db.query(`INSERT INTO ${table} VALUES (${id})`);
      await until("the rows", () => events.length === 5);
      const last = parseLsn(events.at(-1)!.lsn);
      await until("their confirmation", async () => await confirmedLsn(db, slotName) > last);
      for (let crash = 1; crash <= 3; crash++) {
        await server.shutdown("immediate");
        await sleep(200);
        await server.start();
        await db.query(`INSERT INTO ${table} VALUES (${5 + crash})`);
        await until("the row after it", () => events.at(-1)?.key === String(5 + crash), 30_000);
      }
      const end = parseLsn(events.at(-1)!.lsn);
      await until("the confirmation", async () => await confirmedLsn(db, slotName) > end);
      assertEquals(running.stream.status().reconnects >= 3, true);
      await running.stop();
      assertEquals(keys(events), ["1", "2", "3", "4", "5", "6", "7", "8"]);
      await make().teardown();
    });
  });
}
