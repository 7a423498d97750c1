/** A stream that was stopped keeps no process alive. */

import { assertEquals, assertLess } from "@std/assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { newTable } from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

/** @returns milliseconds from the end of stop() to the end of the process. */
async function lifeAfterStop(...options: string[]): Promise<number> {
  const program = fileURLToPath(new URL("../support/stop_and_end.ts", import.meta.url));
  const args = [program, ...options];
  if (process.versions.deno !== undefined) args.unshift("run", "-A", "--no-check");
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 30_000,
  });
  let printed = "";
  let stoppedAt = NaN;
  child.stdout.on("data", (chunk) => {
    printed += chunk;
    stoppedAt = performance.now();
  });
  const [status] = await once(child, "close");
  const endedAt = performance.now();
  assertEquals([status, printed.trim()], [0, "stopped"]);
  return endedAt - stoppedAt;
}

describe("a process ends by itself", () => {
  test("after a stop() in the middle of connecting", async () => {
    // Takes connections and says nothing.
    const sockets: Socket[] = [];
    const silent = createServer((socket) => {
      sockets.push(socket);
      socket.on("error", () => {}).resume();
    }).listen(0, "127.0.0.1");
    await once(silent, "listening");
    const { port } = silent.address() as AddressInfo;
    const dsn = `postgresql://user:password@127.0.0.1:${port}/db?sslmode=disable`;
    try {
      assertLess(await lifeAfterStop(dsn, "unused", "unused", "connecting"), 3000);
      assertEquals(sockets.length, 1);
    } finally {
      for (const socket of sockets) socket.destroy();
      silent.close();
    }
  });

  test("after a second stop(), and a third", async () => {
    const { table, slotName, teardown } = await newTable(db, "ended");
    assertLess(await lifeAfterStop(db.dsn, slotName, table, "streaming"), 3000);
    await teardown();
  });
});
