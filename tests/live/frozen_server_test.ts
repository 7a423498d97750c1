/** A server whose processes stand still: stop() does not wait for an answer. */

import { assertEquals, assertLess } from "@std/assert";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { PgStream } from "../../mod.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { openClient, sleep, started, uniqueName, until, within } from "../support/streams.ts";

describe("a server that stands still", { skip: needsOwnServer }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await startPostgres();
  });
  after(() => server?.stop("immediate"));

  async function postmasterPid(): Promise<number> {
    const lines = await readFile(join(server.dataDir, "postmaster.pid"), "utf8");
    return Number(lines.split("\n")[0]);
  }

  test("while a stream asks it for a table that was altered: stop() is in time, nothing is lost", async () => {
    await server.query("CREATE TABLE altered (id int PRIMARY KEY, v text)");
    const keys: string[] = [];
    const stream = new PgStream({ dsn: server.dsn, slotName: uniqueName(), logger: false })
      .watch("altered").onChange((event) => void keys.push(event.key!));
    await stream.setup();
    const { ended } = await started(stream);
    await server.query("INSERT INTO altered VALUES (1)");
    await until("the first row", () => keys.length === 1);

    const client = openClient(server.dsn);
    await client.unsafe("SELECT 1");
    const postmaster = await postmasterPid();
    // No new session is begun; the walsender and the client go on.
    process.kill(postmaster, "SIGSTOP");
    try {
      // Under FULL only the catalogue tells the primary key.
      await client.unsafe(`ALTER TABLE altered REPLICA IDENTITY FULL;
        ALTER TABLE altered RENAME id TO number; INSERT INTO altered VALUES (2)`);
      await until("the walsender to have sent it", async () => {
        const [row] = await client.unsafe(
          "SELECT bool_and(sent_lsn >= pg_current_wal_lsn()) AS sent FROM pg_stat_replication",
        );
        return row!.sent === true;
      });
      await sleep(500);
      assertEquals(keys, ["1"], "the row came without a look into the catalogue");
      const stoppedAt = performance.now();
      await within("stop()", stream.stop({ timeoutMs: 100 }));
      assertLess(performance.now() - stoppedAt, 2500);
      assertEquals(await within("start()", ended), null);
      assertEquals(stream.status().state, "stopped");
    } finally {
      process.kill(postmaster, "SIGCONT");
      await client.end({ timeout: 1 });
    }
    const again = await started(stream);
    await until("the second row", () => keys.length === 2);
    await again.stop();
    assertEquals(keys, ["1", "2"]);
    await stream.teardown();
  });

  test("walsender and all: stop() is in time", async () => {
    await server.query("CREATE TABLE standing (id int PRIMARY KEY)");
    const slotName = uniqueName();
    const stream = new PgStream({ dsn: server.dsn, slotName, logger: false })
      .watch("standing").onChange(() => {});
    await stream.setup();
    const { ended } = await started(stream);
    const [walsender] = await server.query<{ pid: number }>(
      `SELECT active_pid AS pid FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
    );
    process.kill(walsender!.pid, "SIGSTOP");
    try {
      const stoppedAt = performance.now();
      await within("stop()", stream.stop({ timeoutMs: 100 }));
      assertLess(performance.now() - stoppedAt, 2500);
      assertEquals(await within("start()", ended), null);
    } finally {
      process.kill(walsender!.pid, "SIGCONT");
    }
    await until("the slot to be free", async () => {
      const free = await server.query(`SELECT FROM pg_replication_slots
        WHERE slot_name = '${slotName}' AND active_pid IS NULL`);
      return free.length > 0;
    });
    await stream.teardown();
  });
});
