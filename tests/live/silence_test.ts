/** Silence is not death: a connection that brings nothing any more, and a server that is only busy. */

import { assert, assertEquals, assertGreater } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { SlotManager } from "../../mod.ts";
import type { Backend } from "../../src/replication/backend.ts";
import { walsenderDoing } from "../../src/replication/liveness.ts";
import { ReplicationStream } from "../../src/replication/replication_stream.ts";
import { waitForSlot } from "../../src/replication/slot.ts";
import { Connector } from "../../src/wire/connector.ts";
import {
  needsOwnServer,
  testMajors,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import { sleep, uniqueName, until, walsenderPid, within } from "../support/streams.ts";
import { FaultyProxy } from "./chaos/proxy.ts";

const never = new AbortController().signal;

for (const major of testMajors(18, 14, 10)) {
  describe(`silence of PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    let connector: Connector;
    before(async () => {
      // Up to 11 only the server's own file can set it.
      db = await testPostgres({ major, settings: { wal_sender_timeout: "2400ms" } });
      connector = new Connector({ dsn: db.dsn, logger: false });
      await db.query(`CREATE TABLE documents (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
        CREATE TABLE others (id int)`);
    });
    after(() => db?.stop());

    const doing = (backend: Backend) =>
      within("walsenderDoing()", walsenderDoing(connector, backend, never));

    async function makeSlot(): Promise<{ slotName: string; teardown(): Promise<void> }> {
      const slotName = uniqueName();
      const tables = ["documents"];
      const manager = new SlotManager({ dsn: db.dsn, slotName, tables, logger: false });
      await manager.setup();
      return { slotName, teardown: async () => void await manager.teardown() };
    }

    /** Reads on, and counts what came. */
    function listen(stream: ReplicationStream): { messages: number; rows: number; ended: unknown } {
      const heard = { messages: 0, rows: 0, ended: undefined as unknown };
      void (async () => {
        for (let messages = await stream.read(); messages; messages = await stream.read()) {
          heard.messages += messages.length;
          for (const message of messages) {
            if (message.type === "xLogData" && message.data[0] === "I".charCodeAt(0)) heard.rows++;
          }
        }
      })().then(() => heard.ended = "in order", (error) => heard.ended = error);
      return heard;
    }

    test("(46) of a connection that is dead: it is counted, and the walsender waits", {
      skip: needsOwnServer,
    }, async (t) => {
      const { slotName, teardown } = await makeSlot();
      const proxy = await FaultyProxy.listen(Number(new URL(db.dsn).port), () => 1);
      t.after(() => proxy[Symbol.asyncDispose]());
      const counted: number[] = [];
      const stream = await ReplicationStream.open({
        dsn: proxy.dsn(db.dsn),
        slotName,
        logger: false,
        onUnanswered: (requests) => counted.push(requests),
      });
      t.after(() => stream.close({ timeoutMs: 0 }));
      const heard = listen(stream);
      await sleep(2700);
      // Idle, and answered each time.
      assertEquals(counted, []);
      assertEquals(heard.ended, undefined);

      proxy.drop("toClient");
      await db.query("INSERT INTO documents DEFAULT VALUES");
      await until("it to be counted", () => counted.length >= 3);
      assertEquals(counted.slice(0, 3), [1, 2, 3]);
      assertEquals(heard.rows, 0);
      // Our status updates keep the walsender alive: it will not end by itself.
      assertEquals(await walsenderPid(db, slotName), stream.processId);
      assertEquals(await doing(stream.backend), "idle");
      const stranger = { ...stream.backend, startedAt: "2001-01-01 00:00:00+00" };
      assertEquals(await doing(stranger), "gone");
      assertEquals(await doing({ ...stream.backend, startedAt: "" }), "busy");

      const closedAt = performance.now();
      assertEquals(await within("close()", stream.close({ timeoutMs: 0 })), false);
      assert(performance.now() - closedAt < 1000);
      const own = [stream.backend];
      const wait = waitForSlot(connector, slotName, { timeoutMs: 10_000, signal: never, own });
      assertEquals(await within("waitForSlot()", wait), "free");
      assertEquals(await doing(stream.backend), "gone");
      const next = await ReplicationStream.open({ dsn: db.dsn, slotName, logger: false });
      t.after(() => next.close());
      const caught = listen(next);
      await until("what was lost on the way", () => caught.rows === 1);
      await next.close();
      await teardown();
    });

    test("(46) of a walsender that decodes what nobody watches: it is busy, or it answers", async (t) => {
      const { slotName, teardown } = await makeSlot();
      const stream = await ReplicationStream.open({ dsn: db.dsn, slotName, logger: false });
      t.after(() => stream.close());
      const heard = listen(stream);
      const seen = { busy: 0, idle: 0 };
      for (let rows = 300_000; seen.busy === 0 && rows < 10_000_000; rows *= 2) {
        await db.query(`BEGIN; SAVEPOINT a; INSERT INTO others SELECT generate_series(1, ${rows});
          RELEASE a; INSERT INTO others VALUES (0); COMMIT`);
        const before = heard.rows;
        await db.query("INSERT INTO documents DEFAULT VALUES");
        while (heard.rows === before) {
          const found = await doing(stream.backend);
          assert(found !== "gone", String(heard.ended));
          seen[found]++;
          if (found === "busy") continue;
          // Whom it calls idle has to answer at once.
          const messages = heard.messages;
          stream.requestReply();
          await until("an answer", () => heard.messages > messages);
        }
      }
      assertGreater(seen.busy, 0);
      assertEquals(heard.ended, undefined);
      assertEquals(await doing(stream.backend), "idle");
      await stream.close();
      await db.query("TRUNCATE others");
      await teardown();
    });
  });
}
