/** `pgstream status`, as somebody calls it whose disk fills up. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { PgStream } from "../../mod.ts";
import { Cli, pgstream } from "../support/cli.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { started, until } from "../support/streams.ts";

let server: PostgresServer;
before(async () => {
  if (needsOwnServer) return;
  server = await startPostgres({ settings: { max_slot_wal_keep_size: "1GB" } });
  await server.query("CREATE TABLE documents (id int PRIMARY KEY, body text)");
  await server.query("INSERT INTO documents SELECT n FROM generate_series(1, 50) n");
});
after(async () => await server?.stop("immediate"));

const status = (...args: string[]) =>
  pgstream(["status", ...args], { env: { DATABASE_URL: server.dsn } });

describe("pgstream status", { skip: needsOwnServer }, () => {
  test("says that there is no slot, before there is one", async () => {
    const { status: code, stdout } = await status();
    assertEquals([code, stdout], [0, "There is no logical slot\n"]);
  });

  test("shows who reads a slot, what it keeps, and rows that were read; as JSON, all of it", async () => {
    const stream = new PgStream({
      dsn: server.dsn,
      slotName: "docs",
      backfill: "initial",
      logger: false,
    });
    stream.watch("documents").onChange(() => {});
    await stream.setup();
    const running = await started(stream);
    await until("the rows", () => stream.status().events.insert === 50);
    await until("the backfill", () => stream.status().backfill === null);
    const { stdout } = await status();
    assertMatch(stdout, /^slot {2}reader +behind +keeps +until lost\n/);
    assertMatch(stdout, /^docs {2}PID \d+ +\d[\d.]* k?B.* \d[\d.]* [kM]?B +[\d.]+ [MG]B more\n/m);
    assertMatch(stdout, /^docs: public\.documents: 50 rows that were there are all read$/m);
    await running.stop();
    const line = (await status("--json", "--slot", "docs")).stdout;
    const { slots: [slot], backfills, ...rest } = JSON.parse(line);
    assertEquals(rest, {});
    const { lagBytes, retainedWalBytes, safeWalBytes, confirmedLsn, ...known } = slot;
    for (const bytes of [lagBytes, retainedWalBytes, safeWalBytes]) assert(bytes >= 0);
    assertMatch(confirmedLsn, /^[0-9A-F]+\/[0-9A-F]+$/);
    assertEquals(known, {
      slotName: "docs",
      plugin: "pgoutput",
      activePid: null,
      application: null,
      temporary: false,
      failover: false,
      lagSeconds: null,
      walStatus: "reserved",
      invalidated: null,
      secondsUntilLost: null,
    });
    assertEquals(backfills, [{
      slotName: "docs",
      table: "public.documents",
      rows: 50,
      done: true,
    }]);
    await stream.teardown();
  });

  test("--watch reads again and again, tells when it is lost at this rate, and ends with 0", async () => {
    await server.query("SELECT pg_create_logical_replication_slot('left', 'pgoutput')");
    const watching = new Cli(["status", "--watch", "--json", "--interval", "0.2"], {
      env: { DATABASE_URL: server.dsn },
    });
    try {
      await until("a forecast", async () => {
        await server.query("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))");
        return watching.lines.some((line) => JSON.parse(line).slots[0].secondsUntilLost !== null);
      }, 20_000);
    } finally {
      watching.signal("SIGINT");
    }
    assertEquals((await watching.ended).status, 0);
    const seconds = watching.lines.map((line) => JSON.parse(line).slots[0].secondsUntilLost)
      .find((seconds) => seconds !== null);
    assert(seconds > 1 && seconds < 3600, `${seconds}`);
    await server.query("SELECT pg_drop_replication_slot('left')");
  });

  test("tells of a server that is not there in one line, and ends with 1", async () => {
    const { status: code, stdout, stderr } = await pgstream(
      ["status", "--dsn", "postgresql://user:canary@127.0.0.1:1/x", "--verbose"],
    );
    assertEquals([code, stdout], [1, ""]);
    assertMatch(stderr, /^error: Cannot connect to 127\.0\.0\.1:1: nothing listens there\. Is/);
    assert(!stderr.includes("canary"));
  });
});
