/** The servers that all other live tests stand on: they start, obey, and leave nothing behind. */

import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer, testPostgres } from "../support/servers/test_postgres.ts";

describe("a PostgreSQL server for tests", { skip: needsOwnServer }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await startPostgres({ settings: { work_mem: "128kB" } });
  });
  after(() => server.stop());

  test("is of the major asked for, decodes logically, and takes settings", async () => {
    const rows = await server.query(`SELECT current_setting('server_version') AS version,
      current_setting('wal_level') AS wal_level, current_setting('work_mem') AS work_mem`);
    assertEquals(rows, [{ version: server.version, wal_level: "logical", work_mem: "128kB" }]);
    assertMatch(server.version, /^18\./);
  });

  test("asks for a password over TCP", async () => {
    const rows = await server.query(
      "SELECT auth_method FROM pg_hba_file_rules WHERE type = 'host' AND error IS NULL",
    );
    assertEquals(new Set(rows.map((row) => row.auth_method)), new Set(["scram-sha-256"]));
  });

  test("keeps what was committed through a restart and a crash, on the same port", async () => {
    const { name } = await server.createDatabase();
    const { port } = server;
    await server.query("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)", {
      database: name,
    });
    for (const mode of ["smart", "fast", "immediate"] as const) await server.restart(mode);
    await server.kill9();
    await assertRejects(() => server.query("SELECT 1"));
    await server.start();
    assertEquals(await server.query("SELECT n FROM kept", { database: name }), [{ n: 1 }]);
    assertEquals(server.port, port);
  });

  test("says why it does not start", async () => {
    const error = await assertRejects(
      () => startPostgres({ settings: { no_such_setting: "1" } }),
      Error,
    );
    assertStringIncludes(error.message, "no_such_setting");
  });

  test("is gone with its folder when the process that started it is killed", async () => {
    const { child, pid, dataDir } = await startProgram();
    assertEquals(await remains(pid, dataDir), { folder: true, alive: true });
    child.kill("SIGKILL");
    assertEquals(await remains(pid, dataDir, 20_000), { folder: false, alive: false });
  });

  test("is gone with its folder when the shell that watches it is killed", async () => {
    const { child, pid, supervisor, dataDir } = await startProgram();
    process.kill(supervisor, "SIGKILL");
    assertEquals(await remains(pid, dataDir, 20_000), { folder: false, alive: false });
    child.kill("SIGKILL");
  });
});

/** A program that starts a server and stays. */
async function startProgram() {
  const program = fileURLToPath(new URL("../support/servers/print_server.ts", import.meta.url));
  const args = process.versions.deno === undefined ? [program] : ["run", "-A", program];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(createInterface({ input: child.stdout }), "line") as [string];
  return { child, ...JSON.parse(line) as { pid: number; supervisor: number; dataDir: string } };
}

/** What is left of a server, at last after `waitMs`. */
async function remains(pid: number, dataDir: string, waitMs = 0) {
  const deadline = Date.now() + waitMs;
  while ((existsSync(dataDir) || isAlive(pid)) && Date.now() < deadline) await delay(50);
  return { folder: existsSync(dataDir), alive: isAlive(pid) };
}

test("a test's database is its own, and empty", async () => {
  const postgres = await testPostgres();
  try {
    const rows = await postgres.query(
      "SELECT current_database()::text AS name, count(c.oid)::int AS tables FROM pg_class c WHERE relnamespace = 'public'::regnamespace",
    );
    assertEquals(rows, [{ name: postgres.database, tables: 0 }]);
  } finally {
    await postgres.stop();
  }
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
