/**
 * The real runtime of Cloudflare Workers, with a Worker of ours in it.
 * https://github.com/cloudflare/workerd/blob/main/src/workerd/server/workerd.capnp
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { install } from "./install.ts";
import { bundleForWorkers } from "./workers_bundle.ts";

const START_TIMEOUT_MS = 30_000;
const CALL_TIMEOUT_MS = 60_000;

/** How a Worker is run. */
export interface WorkerOptions {
  /** What `env` holds. */
  bindings?: Record<string, string>;
  /** Whose certificates it trusts, as PEM. Default: nobody's. */
  trusted?: string[];
}

// It ends when its input does, however the process on the other end of it dies.
const SUPERVISOR = `
exec 3<&0
"$@" </dev/null &
read -r _ <&3
kill -KILL $!
wait
`;

/** Cron triggers come by HTTP. What a Worker's `scheduled()` threw is in the answer. */
const FRONT = `
export default {
  async fetch(request, { WORKER }) {
    const { pathname } = new URL(request.url);
    if (pathname !== "/scheduled") return await WORKER.fetch(request);
    const { outcome } = await WORKER.scheduled({ scheduledTime: new Date(), cron: "* * * * *" });
    return Response.json({ outcome });
  },
};
`;

/**
 * Bundles a Worker and runs it, without Node's modules (`nodejs_compat`), in a network that has all addresses.
 *
 * @param entry path of its module from the checkout's folder.
 */
export async function startWorker(
  entry: string,
  { bindings = {}, trusted = [] }: WorkerOptions = {},
): Promise<Worker> {
  const { folder } = await install("workerd");
  const work = await mkdtemp(join(tmpdir(), "pgstream-"));
  try {
    const write = (name: string, text: string) => writeFile(join(work, name), text);
    await write("worker.js", await bundleForWorkers({ entry }));
    await write("front.js", FRONT);
    await write("config.capnp", configText(bindings, trusted));
    const args = ["serve", "--experimental", "--control-fd=1", join(work, "config.capnp")];
    const program = join(folder, "bin", "workerd");
    const child = spawn("/bin/sh", ["-c", SUPERVISOR, "pgstream-workerd", program, ...args], {
      stdio: "pipe",
    });
    const worker = new Worker(child, work);
    try {
      await worker.start();
      return worker;
    } catch (error) {
      await worker.stop();
      throw error;
    }
  } catch (error) {
    await rm(work, { recursive: true, force: true });
    throw error;
  }
}

/** A Worker that runs until `stop()`. */
export class Worker {
  /** What it and the runtime have printed. */
  log = "";
  #url = "";
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #folder: string;

  /** Made by {@linkcode startWorker}. */
  constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
    this.#ended = once(child, "close");
    child.stderr!.setEncoding("utf8").on("data", (text) => this.log += text);
  }

  /** Waits until it listens. */
  async start(): Promise<void> {
    const listening = new Promise<number>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("workerd is late")), START_TIMEOUT_MS);
      createInterface({ input: this.#child.stdout! }).on("line", (line) => {
        const [, port] = /^\{"event":"listen",.*"port":(\d+)/.exec(line) ?? [];
        if (port === undefined) this.log += `${line}\n`;
        else resolve(Number(port));
        clearTimeout(late);
      });
      this.#ended.then(() => {
        clearTimeout(late);
        reject(new Error(`workerd did not start: ${this.log}`));
      });
    });
    this.#url = `http://127.0.0.1:${await listening}`;
  }

  /** Calls `fetch()` of the Worker with JSON. @returns the JSON of its answer. */
  async call<Answer>(body: unknown, timeoutMs: number = CALL_TIMEOUT_MS): Promise<Answer> {
    return await this.#ask<Answer>("/", JSON.stringify(body), timeoutMs);
  }

  /** Calls `scheduled()`, as a cron trigger does. @returns `"ok"`, or `"exception"`. */
  async schedule(): Promise<string> {
    return (await this.#ask<{ outcome: string }>("/scheduled", "", CALL_TIMEOUT_MS)).outcome;
  }

  /** Ends it at once. */
  async stop(): Promise<void> {
    this.#child.stdin!.end();
    await this.#ended;
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #ask<Answer>(path: string, body: string, timeoutMs: number): Promise<Answer> {
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch(`${this.#url}${path}`, { method: "POST", body, signal });
    const text = await response.text();
    if (!response.ok) throw new Error(`The Worker answered ${response.status}: ${text}${this.log}`);
    return JSON.parse(text) as Answer;
  }
}

function configText(bindings: Record<string, string>, trusted: string[]): string {
  // Texts of Cap'n Proto escape as those of JSON do.
  const env = Object.entries(bindings)
    .map(([name, text]) => `(name = ${JSON.stringify(name)}, text = ${JSON.stringify(text)})`);
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "front", worker = (
      modules = [(name = "front", esModule = embed "front.js")],
      bindings = [(name = "WORKER", service = "worker")],
      compatibilityDate = "2026-01-01",
      compatibilityFlags = ["service_binding_extra_handlers"],
    )),
    (name = "worker", worker = (
      modules = [(name = "worker", esModule = embed "worker.js")],
      bindings = [${env.join(", ")}],
      compatibilityDate = "2026-01-01",
      globalOutbound = "network",
    )),
    (name = "network", network = (
      allow = ["public", "private"],
      tlsOptions = (trustedCertificates = ${JSON.stringify(trusted)}),
    )),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "front")],
);
`;
}
