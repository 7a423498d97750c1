/** Publications and servers that go away in the middle of a stream: an error, and nothing skipped. */

import { assert, assertEquals, assertLess, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { inspect } from "node:util";
import { type ChangeEvent, isRetryable, parseLsn } from "../../mod.ts";
import { refusal, streamOf } from "../support/refusal.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import {
  needsOwnServer,
  testMajors,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import {
  confirmedLsn,
  sleep,
  started,
  uniqueName,
  until,
  within,
  withServerOptions,
} from "../support/streams.ts";

for (const major of testMajors(18, 16)) {
  describe(`publications on PostgreSQL ${major}`, () => {
    let own: TestPostgres;
    before(async () => {
      own = await testPostgres({ major });
      await own.query(`CREATE TABLE documents (id int PRIMARY KEY);
        CREATE TABLE unpublished (id int PRIMARY KEY)`);
    });
    after(() => own?.stop());

    test("that are not there at the start, or lack a watched table", async () => {
      const slotName = uniqueName();
      const stream = streamOf(own.dsn, ["documents"], { slotName });
      await stream.setup();
      const two = streamOf(own.dsn, ["documents", "unpublished"], { slotName });
      const lacking = await refusal("start()", () => two.start());
      assertEquals(lacking.kind, "table-not-published");
      assertStringIncludes(lacking.message, "unpublished");
      assertStringIncludes(lacking.message, slotName);
      assertStringIncludes(lacking.hint!, "setup()");
      await own.query(`DROP PUBLICATION ${slotName}`);
      const missing = await refusal("start()", () => stream.start());
      assertEquals(missing.kind, "publication-missing");
      assertStringIncludes(missing.message, slotName);
      assertStringIncludes(missing.hint!, "setup()");
      await stream.teardown();
    });

    // Up to 17 the server ends the stream; 18 warns, and skips every row from there on.
    for (const options of ["", "-c client_min_messages=error"]) {
      test(`that are dropped in the middle end the stream; options "${options}" (15)`, async () => {
        const slotName = uniqueName();
        const events: ChangeEvent[] = [];
        const stream = streamOf(withServerOptions(own.dsn, options), ["documents"], { slotName })
          .onChange((event) => void events.push(event));
        await stream.setup();
        const { ended } = await started(stream);
        await own.query("INSERT INTO documents VALUES (1)");
        await until("the first row", () => events.length === 1);
        await own.query(`DROP PUBLICATION ${slotName}`);
        await own.query("INSERT INTO documents VALUES (2)");
        const outcome = await within("start() to reject", ended)
          .finally(() => stream.stop());
        const error = await refusal("start()", () => Promise.reject(outcome));
        assertEquals(error.kind, "publication-missing");
        assertStringIncludes(error.message, slotName);
        assert(error.hint);
        assertEquals(events.length, 1);
        // Not confirmed: it is there still, for whoever mends the publication in time.
        const [slot] = await own.query<{ behind: boolean }>(
          `SELECT confirmed_flush_lsn < pg_current_wal_lsn() AS behind
          FROM pg_replication_slots WHERE slot_name = $1`,
          [slotName],
        );
        assertEquals(slot!.behind, true);
        await stream.teardown();
        await own.query("DELETE FROM documents");
      });
    }
  });
}

describe("a server that goes away in the middle", { skip: needsOwnServer }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await startPostgres();
    await server.query("CREATE TABLE documents (id int PRIMARY KEY, content text)");
  });
  after(() => server?.stop("immediate"));

  const query = <Row extends object>(sql: string, parameters: string[] = []): Promise<Row[]> =>
    server.query<Row>(sql, { parameters });
  const ROWS = 5000;
  const endings: [string, (slotName: string) => Promise<unknown>, boolean][] = [
    ["is killed", () => server.kill9(), true],
    ["is stopped at once", () => server.shutdown("immediate"), true],
    // In order means: after all that was committed has been sent.
    ["is stopped in order", () => server.shutdown("fast"), true],
    [
      "terminates the walsender",
      (slotName) =>
        server.query(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
          WHERE slot_name = '${slotName}'`),
      false,
    ],
  ];
  for (const [name, end, down] of endings) {
    for (const busy of [false, true]) {
      test(`${name}, ${busy ? "in a large transaction" : "idle"}`, async () => {
        const slotName = uniqueName();
        await server.query("TRUNCATE documents");
        const seen: number[] = [];
        let lsn = "0/0";
        const stream = streamOf(server.dsn, ["documents"], {
          slotName,
          maxQueueBytes: 100_000,
          reconnect: false,
        }).onChange(async (event) => {
          seen.push(Number(event.key));
          if (event.key === "1") lsn = event.lsn;
          if (seen.length % 10 === 0) await sleep(1);
        });
        await stream.setup();
        const { ended } = await started(stream);
        try {
          if (busy) {
            await server.query(`INSERT INTO documents SELECT n, repeat('x', 1000)
              FROM generate_series(1, ${ROWS}) n`);
            await until("some rows", () => seen.length > 10);
          }
          await end(slotName);
          const endedAt = performance.now();
          const outcome = await within("start() to reject", ended);
          assertLess(performance.now() - endedAt, 5000);
          const error = await refusal("start()", () => Promise.reject(outcome));
          assertEquals(isRetryable(error), true, inspect(error));
          assert(error.hint, inspect(error));
          const { state, lastError, queueBytes } = stream.status();
          assertEquals({ state, lastError, queueBytes }, {
            state: "failed",
            lastError: error.message,
            queueBytes: 0,
          });
        } finally {
          if (down) await server.start();
        }
        await until("the slot to be free", async () => {
          const free = await server.query(`SELECT FROM pg_replication_slots
            WHERE slot_name = '${slotName}' AND active_pid IS NULL`);
          return free.length > 0;
        });
        const first = seen.splice(0);
        const whole = busy ? Array.from({ length: ROWS }, (_, index) => index + 1) : [];
        assertEquals(first, whole.slice(0, first.length));
        // The server may have forgotten a confirmation in its crash; what it knows of does not come.
        const confirmed = busy &&
          await confirmedLsn({ dsn: server.dsn, query }, slotName) > parseLsn(lsn);
        if (confirmed) assertEquals(first.length, ROWS);
        const again = await started(stream);
        await server.query(`INSERT INTO documents VALUES (${ROWS + 1})`);
        await until("the last row", () => seen.at(-1) === ROWS + 1);
        await again.stop();
        assertEquals(seen, [...confirmed ? [] : whole, ROWS + 1]);
        await stream.teardown();
      });
    }
  }
});
