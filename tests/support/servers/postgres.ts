/**
 * A real PostgreSQL server of any major version from 10 on, for tests, the demo and benchmarks.
 *
 * It cannot outlive its use: a small shell stands between it and us, reads a pipe that ends when this
 * process does, however it dies, and then stops the server and removes its folder.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import {
  copyTemplate,
  giveToServer,
  PASSWORD,
  postgresFiles,
  runAs,
  SUPERUSER,
} from "./postgres_files.ts";

const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 15_000;
const SIGNALS = { smart: "SIGTERM", fast: "SIGINT", immediate: "SIGQUIT" } as const;

/** How a server is told to stop: https://www.postgresql.org/docs/current/server-shutdown.html */
export type ShutdownMode = keyof typeof SIGNALS;

/** How a server is started. */
export interface PostgresOptions {
  /** 10 to 18. Default: 18. */
  major?: number;
  /** Added to `postgresql.conf`; overrides what is set for all servers. */
  settings?: Record<string, string>;
  /** Lines that go before those of `pg_hba.conf`. */
  hba?: string;
  /** The server stops by itself after so long. Default: 20 minutes. */
  lifetimeMs?: number;
  /**
   * What is started in place of `postgres` of the package: a program of the same version, with what comes before the
   * arguments of the server.
   */
  program?: readonly string[];
}

const SETTINGS: Record<string, string> = {
  listen_addresses: "127.0.0.1",
  fsync: "off",
  wal_level: "logical",
  max_wal_senders: "20",
  max_replication_slots: "20",
  max_connections: "60",
  shared_buffers: "32MB",
  // Files in the data folder, so that a killed server leaves nothing in /dev/shm.
  dynamic_shared_memory_type: "mmap",
};

// Each line on its input starts the server. At the end of the input: stop, remove, leave nothing.
// All of it in a process of its own below the one that we spawn: a test runner may kill that one.
const SUPERVISOR = `
folder=$1 life=$2
shift 2
exec 3<&0
(
  trap '' PIPE
  (sleep "$life"; kill -QUIT "$(cat "$folder/pid")") &
  while read -r _ <&3; do
    (
      "$@" </dev/null >>"$folder/log" 2>&1 &
      pid=$!
      echo "$pid" >"$folder/pid"
      echo "started $pid"
      wait "$pid"
      rm -f "$folder/pid"
      echo exited
    ) &
  done
  kill -QUIT "$(cat "$folder/pid")"
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -f "$folder/pid" ] || break
    sleep 0.2
  done
  segment=$(sed -n '7s/^ *[0-9]* *//p' "$folder/data/postmaster.pid")
  [ -n "$segment" ] && ipcrm -m "$segment"
  rm -rf "$folder"
  trap '' TERM
  kill -TERM "-$$"
) &
wait
`;

/** Starts a server and waits until it takes connections: half a second once the files are there. */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const { major = 18, settings, hba, lifetimeMs = 20 * 60_000 } = options;
  const files = await postgresFiles(major);
  const { program = [join(files.bin, "postgres")] } = options;
  const folder = await mkdtemp(join(tmpdir(), "pgstream-"));
  await giveToServer(folder);

  const args = ["-c", SUPERVISOR, "pgstream-server", folder, String(Math.ceil(lifetimeMs / 1000))];
  args.push(...program, "-D", join(folder, "data"));
  // A session of its own: Ctrl+C in the terminal is for the program, which then stops the server.
  const supervisor = spawn("/bin/sh", args, {
    ...runAs,
    cwd: folder,
    detached: true,
    stdio: ["pipe", "pipe", "ignore"],
  });
  const server = new PostgresServer(supervisor, folder, major, files.version);
  try {
    const socketDir = join(folder, "socket");
    await mkdir(socketDir);
    await giveToServer(socketDir);
    await copyTemplate(files.template, server.dataDir);
    await server.configure({ ...SETTINGS, unix_socket_directories: socketDir, ...settings });
    if (hba !== undefined) {
      const path = join(server.dataDir, "pg_hba.conf");
      await writeFile(path, `${hba}\n${await readFile(path, "utf8")}`);
    }
    await server.start();
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

/** A running server, as its superuser. Dispose of it, or call `stop()`. */
export class PostgresServer implements AsyncDisposable {
  readonly host = "127.0.0.1";
  readonly user: string = SUPERUSER;
  readonly password: string = PASSWORD;
  /** The database that `dsn` and `query` use. */
  readonly database = "postgres";
  readonly major: number;
  /** As the server reports it, e.g. "18.4". */
  readonly version: string;
  readonly dataDir: string;
  /** Where the unix socket is; connections over it need no password. */
  readonly socketDir: string;
  readonly #supervisor: ChildProcess;
  readonly #folder: string;
  readonly #clients = new Map<string, postgres.Sql>();
  #port = 0;
  /** The server's process, and when it ended; null while it is down. */
  #running: { pid: number; exited: Promise<void> } | null = null;
  #exited = (): void => {};
  #started = (_pid: number): void => {};

  /** @param supervisor the shell that starts and stops the server. */
  constructor(supervisor: ChildProcess, folder: string, major: number, version: string) {
    this.#supervisor = supervisor;
    this.#folder = folder;
    this.major = major;
    this.version = version;
    this.dataDir = join(folder, "data");
    this.socketDir = join(folder, "socket");
    createInterface({ input: supervisor.stdout! }).on("line", (line) => {
      if (line === "exited") this.#exited();
      else this.#started(Number(line.slice("started ".length)));
    });
  }

  /** The process between this one and the server. */
  get supervisorPid(): number {
    return this.#supervisor.pid!;
  }

  /** The TCP port. A restart keeps it. */
  get port(): number {
    return this.#port;
  }

  /** Of `database`, as the superuser, over TCP. */
  get dsn(): string {
    return this.dsnOf(this.database);
  }

  /** The DSN of a database of this server, over TCP. */
  dsnOf(database: string, user: string = this.user, password: string = this.password): string {
    const credentials = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
    return `postgresql://${credentials}@${this.host}:${this.#port}/${encodeURIComponent(database)}`;
  }

  /** Runs SQL and returns the rows; several statements where there are no parameters. */
  async query<Row extends object = Record<string, unknown>>(
    text: string,
    options: { database?: string; parameters?: string[] } = {},
  ): Promise<Row[]> {
    const database = options.database ?? this.database;
    let client = this.#clients.get(database);
    if (client === undefined) {
      client = postgres(this.dsnOf(database), { max: 1, onnotice: () => {} });
      this.#clients.set(database, client);
    }
    return [...await client.unsafe<Row[]>(text, options.parameters ?? [])];
  }

  /** @returns the name and DSN of a new, empty database. */
  async createDatabase(
    name = `test_${crypto.randomUUID().slice(0, 8)}`,
  ): Promise<{ name: string; dsn: string }> {
    await this.query(`CREATE DATABASE "${name.replaceAll('"', '""')}"`);
    return { name, dsn: this.dsnOf(name) };
  }

  /** Adds lines to `postgresql.conf`: read at the next start, or after `SELECT pg_reload_conf()`. */
  async configure(settings: Record<string, string>): Promise<void> {
    const lines = Object.entries(settings)
      .map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`);
    await appendFile(join(this.dataDir, "postgresql.conf"), lines.join(""));
  }

  /** What the server has logged since it was first started. */
  log(): Promise<string> {
    return readFile(join(this.#folder, "log"), "utf8");
  }

  /** Starts a server that is down, and waits until it takes connections. */
  async start(): Promise<void> {
    const keepPort = this.#port !== 0;
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      if (!keepPort) {
        this.#port = await freePort();
        await this.configure({ port: String(this.#port) });
      }
      const logged = await this.log().then((log) => log.length, () => 0);
      if (await this.#startOnce(deadline)) return;
      const reason = (await this.log()).slice(logged);
      // Another process took the port since we looked, or a killed server's backends still end.
      const passing = /Address already in use|pre-existing shared memory|lock file .* exists/;
      if (!passing.test(reason) || Date.now() > deadline) {
        throw new Error(`PostgreSQL ${this.version} did not start:\n${reason.trim()}`);
      }
      await delay(100);
    }
  }

  async #startOnce(deadline: number): Promise<boolean> {
    const { promise: started, resolve: onStarted } = Promise.withResolvers<number>();
    const { promise: exited, resolve: onExited } = Promise.withResolvers<void>();
    let down = false;
    this.#started = onStarted;
    this.#exited = () => {
      down = true;
      this.#running = null;
      onExited();
    };
    this.#supervisor.stdin!.write("start\n");
    const pid = await started;
    this.#running = { pid, exited };
    while (!down) {
      // https://www.postgresql.org/docs/current/storage-file-layout.html: its last line is the state.
      const lines = await readFile(join(this.dataDir, "postmaster.pid"), "utf8")
        .then((text) => text.split("\n"), () => []);
      if (Number(lines[0]) === pid && lines[7]?.trim() === "ready") return true;
      if (Date.now() > deadline) sendSignal(pid, "SIGQUIT");
      await delay(10);
    }
    return false;
  }

  /** Takes the server down; the data stays, and `start()` brings it up again. */
  async shutdown(mode: ShutdownMode = "fast"): Promise<void> {
    await this.#closeClients();
    await this.#end(SIGNALS[mode]);
  }

  /** Down and up again, on the same port. */
  async restart(mode: ShutdownMode = "fast"): Promise<void> {
    await this.shutdown(mode);
    await this.start();
  }

  /** Kills the server's main process, as a crash would; the data stays, `start()` recovers it. */
  async kill9(): Promise<void> {
    await this.#end("SIGKILL");
    await this.#closeClients();
  }

  /** Stops the server for good and removes all that it had. */
  async stop(mode: ShutdownMode = "fast"): Promise<void> {
    if (this.#supervisor.exitCode !== null || this.#supervisor.signalCode !== null) return;
    const closed = once(this.#supervisor, "close");
    try {
      await this.shutdown(mode);
    } finally {
      this.#supervisor.stdin!.end();
      await closed;
    }
  }

  /** The same as `stop()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    sendSignal(running.pid, signal);
    const late = delay(STOP_TIMEOUT_MS, true, { ref: false });
    if (await Promise.race([running.exited, late]) !== true) return;
    sendSignal(running.pid, "SIGQUIT");
    await running.exited;
    throw new Error(`PostgreSQL did not stop within ${STOP_TIMEOUT_MS} ms of ${signal}`);
  }

  async #closeClients(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    await Promise.all(clients.map((client) => client.end({ timeout: 1 })));
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") throw new Error("No port was given");
  return address.port;
}

/** A server that does not start ends by itself, perhaps before it is told to. */
function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ESRCH") throw error;
  }
}
