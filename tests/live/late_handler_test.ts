/** A handler that was given up when the stream stopped, and goes on: nobody is to be told of it twice. */

import { assert, assertEquals, assertLess, assertLessOrEqual } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { parseLsn, PgStreamError } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { confirmedLsn, newTable, sleep, started, until, within } from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

describe("a handler that was not waited for", () => {
  const ends: [string, (released: { resolve(): void; reject(error: Error): void }) => void][] = [
    ["finishes later", ({ resolve }) => resolve()],
    ["fails later", ({ reject }) => reject(new Error("late"))],
  ];
  for (const [name, end] of ends) {
    test(`and ${name}: no second start() before, and it changes nothing`, async () => {
      const { table, slotName, make, teardown } = await newTable(db, "late");
      const released = Promise.withResolvers<void>();
      const begun: string[] = [];
      const finished: string[] = [];
      let lsn = "";
      const stream = make(async (event) => {
        begun.push(event.key!);
        lsn = event.lsn;
        if (begun.length === 2) await released.promise;
        finished.push(event.key!);
      });
      const { ended } = await started(stream);
      await db.query(`INSERT INTO ${table} VALUES (1)`);
      await until("the first event", () => stream.status().events.insert === 1);
      await db.query(`INSERT INTO ${table} VALUES (2)`);
      await db.query(`INSERT INTO ${table} VALUES (3)`);
      await until("the event that hangs", () => begun.length === 2);
      const stoppedAt = performance.now();
      await within("stop()", stream.stop({ timeoutMs: 50 }));
      assertLess(performance.now() - stoppedAt, 3000);
      assertEquals(await within("start()", ended), null);

      for (let attempt = 0; attempt < 3; attempt++) {
        const error = await within("start()", stream.start().then(() => null, (error) => error));
        assert(error instanceof PgStreamError, `start() ended with ${error}`);
        assertEquals(error.kind, "handler-running");
        assert(error.hint);
      }
      const before = stream.status();
      assertEquals([before.events.insert, before.transactions, before.queueBytes], [1, 1, 0]);
      const confirmed = await confirmedLsn(db, slotName);
      assertLessOrEqual(confirmed, parseLsn(lsn));

      end(released);
      await sleep(300);
      assertEquals(finished, name === "finishes later" ? ["1", "2"] : ["1"]);
      assertEquals(stream.status(), before);
      assertEquals(await confirmedLsn(db, slotName), confirmed);
      assertEquals(begun, ["1", "2"]);

      const again = await started(stream);
      await until("the last event", () => begun.at(-1) === "3");
      await again.stop();
      assertEquals(begun, ["1", "2", "2", "3"]);
      assertEquals(stream.status().events.insert, 3);
      await teardown();
    });
  }
});
