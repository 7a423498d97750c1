/**
 * A real PgBouncer before a server. It is a Debian package: its files are unpacked into `.cache/`, nothing is
 * installed into the system. Where there is no `apt-get`, or it is offline, there is none.
 */

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { cacheFolder, exists, withLock } from "../install.ts";
import { giveToServer, runAs } from "./postgres_files.ts";

const run = promisify(execFile);
const PACKAGES = ["pgbouncer", "libc-ares2", "libevent-2.1-7"];
const START_TIMEOUT_MS = 10_000;

/** A pooler that runs. */
export interface Pgbouncer {
  dsn: string;
  stop(): Promise<void>;
}

/**
 * Starts one in transaction mode, as hosted servers have it.
 *
 * @param dsn of the server behind it.
 * @throws where the package cannot be had, or lets replication through: the message says so.
 */
export async function startPgbouncer(dsn: string): Promise<Pgbouncer> {
  const server = new URL(dsn);
  const root = await programs();
  const program = join(root, "usr/sbin/pgbouncer");
  const env = { LD_LIBRARY_PATH: join(root, await libraryFolder(root)) };
  const { stdout } = await run(program, ["--version"], { env });
  const [, major, minor] = /^PgBouncer (\d+)\.(\d+)/.exec(stdout) ?? [];
  if (Number(major) > 1 || Number(minor) >= 23) throw new Error("since 1.23 it speaks replication");
  const folder = await mkdtemp(join(tmpdir(), "pgstream-"));
  const port = await freePort();
  await writeFile(
    join(folder, "pgbouncer.ini"),
    `[databases]
* = host=${server.hostname} port=${server.port} user=${server.username} password=${server.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
ignore_startup_parameters = extra_float_digits,options,search_path,IntervalStyle,bytea_output
`,
  );
  await chmod(folder, 0o755);
  await giveToServer(folder);
  const child = spawn(program, ["-q", join(folder, "pgbouncer.ini")], {
    ...runAs,
    cwd: folder,
    env,
    stdio: ["ignore", "ignore", "pipe"],
    timeout: 120_000,
  });
  let said = "";
  child.stderr!.on("data", (bytes) => said += bytes);
  const ended = once(child, "exit");
  const stop = async () => {
    child.kill("SIGKILL");
    await ended;
    await rm(folder, { recursive: true });
  };
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!await listens(port)) {
    if (child.exitCode === null && performance.now() < deadline) await delay(20);
    else {
      await stop();
      throw new Error(`PgBouncer did not start: ${said}`);
    }
  }
  server.port = `${port}`;
  return { dsn: server.href, stop };
}

/** The unpacked packages. */
async function programs(): Promise<string> {
  const root = join(cacheFolder, `pgbouncer-${process.arch}`);
  await withLock(`${root}.lock`, async () => {
    if (await exists(root)) return;
    const building = await mkdtemp(join(cacheFolder, "pgbouncer.building-"));
    try {
      await chmod(building, 0o755);
      const download = () =>
        run("apt-get", ["download", ...PACKAGES], { cwd: building, timeout: 30_000 });
      // A machine without lists of packages knows none, until they are fetched.
      await download().catch(async () => {
        await run("apt-get", ["update"], { timeout: 30_000 });
        await download();
      });
      for (const file of await readdir(building)) {
        if (file.endsWith(".deb")) await run("dpkg-deb", ["-x", file, "."], { cwd: building });
      }
      await rename(building, root);
    } finally {
      await rm(building, { recursive: true, force: true });
    }
  });
  return root;
}

async function libraryFolder(root: string): Promise<string> {
  const [architecture] = (await readdir(join(root, "usr/lib"))).filter((name) =>
    name.includes("linux-gnu")
  );
  return join("usr/lib", architecture!);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => socket.end());
    socket.on("close", (hadError) => resolve(!hadError));
    socket.on("error", () => {});
  });
}
