/**
 * Plays a hostile server against the client, and judges what the client makes of it: an error of this
 * library with a kind that fits, in time, with no password in anything, and nothing left open.
 */
import { assert, assertEquals, assertInstanceOf, assertMatch, fail } from "@std/assert";
import { after, before, describe, test } from "node:test";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { PgStream, PgStreamError, ReplicationStream, SlotManager } from "../../mod.ts";
import type { Connection } from "../../src/wire/connection.ts";
import { Connector, type ConnectorOptions } from "../../src/wire/connector.ts";
import { collectGarbage } from "./collect_garbage.ts";
import { assertNoCanary, CANARY, CANARY_USER, CanaryLog } from "./canary.ts";
import { type Peer, startScripted, welcome } from "./scripted_server.ts";

/** What the client does while the server attacks. */
export type Operation =
  /** A connection is made. */
  | "connect"
  /** … and `SELECT 1` is run. */
  | "query"
  /** … and the rows of a COPY are read. */
  | "COPY"
  /** `ReplicationStream.open()`, and all that it gives is read. */
  | "START_REPLICATION"
  /** `PgStream.start()`; a row that is handled stops it. */
  | "start()"
  /** … with a handler that takes each row, and asks for no end. */
  | "start(), taking all"
  /** … with a handler that hangs at the first row until the caller gives up. */
  | "start(), taking nothing"
  /** `PgStream.setup()` */
  | "setup()"
  /** `SlotManager.setup()`, which waits at most `CREATE_MS` for a slot. */
  | "SlotManager.setup()";

/** How long `SlotManager.setup()` waits for a slot. */
export const CREATE_MS = 300;

/** What a server does. */
export interface HostileCase {
  /** What it does, as the end of a sentence that begins with "a server that". No two have the same. */
  name: string;
  operation: Operation;
  /**
   * The kinds that are right. `"works"`: nothing fails. `"aborted"`: what the caller's signal says,
   * which `abortMs` asks for.
   */
  kinds: readonly string[];
  /** The server's side of each connection. What it throws fails the case. */
  script: (peer: Peer) => Promise<void>;
  /** What the client waits for by its settings, in milliseconds; a second more is a hang. Default: 0. */
  waitsMs?: number;
  /** The caller gives up after so long. Part of what is waited for. */
  abortMs?: number;
  /** How often it is played: for a script that does its work at another byte each time. Default: 1. */
  times?: number;
  /** By how many MiB the process may grow meanwhile; the server in it sends many times as much. */
  maxGrowthMiB?: number;
  /** Of the DSN. Default: `sslmode=disable&connect_timeout=1` */
  parameters?: string;
}

/** Beyond what the client waits for by its settings. */
const SLACK_MS = 1000;
/** What a process may take to close its sockets, on a machine that has other things to do. */
const CLOSING_MS = 2000;

/** The client may tell a server good-bye for so long: the end of a copy that the server does not answer. */
const GOOD_BYE_MS = 1000;

type PasswordWay = "dsn" | "option" | "function" | "environment";
const WAYS: readonly PasswordWay[] = ["dsn", "option", "function", "environment"];
let played = 0;

/** What came of it. */
interface Outcome {
  error: unknown;
  /** What the user holds. */
  held: unknown[];
}

/**
 * Plays one case and judges it.
 *
 * @returns the kind of the error, `"works"` or `"aborted"`
 */
export async function play(hostile: HostileCase): Promise<string> {
  const way = WAYS[played++ % WAYS.length]!;
  // Only counts where nothing else gives a password.
  process.env.PGPASSWORD = CANARY;
  const log = new CanaryLog();
  const server = await startScripted(hostile.script);
  const what = `A server that ${hostile.name}`;
  let growth: Growth | null = null;
  try {
    const inDsn = way === "dsn" ? `:${encodeURIComponent(CANARY)}` : "";
    const parameters = hostile.parameters ?? "sslmode=disable&connect_timeout=1";
    const options: ConnectorOptions = {
      dsn: `postgresql://${CANARY_USER}${inDsn}@127.0.0.1:${server.port}/db?${parameters}`,
      logger: log,
      ...(way === "option" ? { password: CANARY } : {}),
      ...(way === "function" ? { password: () => Promise.resolve(CANARY) } : {}),
    };
    const waits = (hostile.waitsMs ?? 0) + (hostile.abortMs ?? 0) +
      (streams(hostile.operation) ? GOOD_BYE_MS : 0);
    const signal = hostile.abortMs === undefined
      ? new AbortController().signal
      : AbortSignal.timeout(hostile.abortMs);
    if (hostile.maxGrowthMiB !== undefined) growth = await Growth.begin();
    const begun = performance.now();
    const outcome = await inTime(what, waits + SLACK_MS, run(hostile.operation, options, signal));
    const tookMs = Math.round(performance.now() - begun);
    // A timer may be late by itself; what was only just in time by the first clock is so by the second.
    assert(tookMs <= waits + SLACK_MS + 50, `${what}: it took ${tookMs} ms`);

    const grownMiB = growth?.endMiB() ?? 0;
    assert(
      grownMiB <= (hostile.maxGrowthMiB ?? 0),
      `${what}: the process grew by ${grownMiB} MiB, which are more than ${hostile.maxGrowthMiB}`,
    );

    assertNoCanary(what, outcome.error, ...outcome.held, ...log.lines);
    const kind = kindOf(what, outcome.error, signal);
    assert(
      hostile.kinds.includes(kind),
      `${what}: ${kind} in place of ${hostile.kinds.join(" or ")}: ${outcome.error}`,
    );
    const late = Date.now() + CLOSING_MS;
    while (server.open() > 0 && Date.now() < late) await delay(5);
    assertEquals(server.open(), 0, `${what}: connections stay open`);
    assertEquals(server.failures, [], `${what}: the script failed`);
    return kind;
  } finally {
    growth?.endMiB();
    await server.stop();
  }
}

function streams(operation: Operation): boolean {
  return operation === "START_REPLICATION" || operation.startsWith("start()");
}

/**
 * What the process takes of memory, at the most: of the system, and in objects and buffers. The one does not go
 * down again, so that what came before could hide something; the other does not tell everything.
 */
class Growth {
  readonly #before = held();
  readonly #timer = setInterval(() => this.#look(), 20);
  #most = 0;

  static async begin(): Promise<Growth> {
    await collectGarbage();
    return new Growth();
  }

  /** May be called twice. */
  endMiB(): number {
    this.#look();
    clearInterval(this.#timer);
    return Math.round(this.#most / 1024 / 1024);
  }

  #look(): void {
    const now = held();
    this.#most = Math.max(
      this.#most,
      now.process - this.#before.process,
      now.objects - this.#before.objects,
    );
  }
}

function held(): { process: number; objects: number } {
  const { rss, heapUsed, external } = process.memoryUsage();
  return { process: rss, objects: heapUsed + external };
}

function kindOf(what: string, error: unknown, signal: AbortSignal): string {
  if (error === null) return "works";
  if (signal.aborted && error === signal.reason) return "aborted";
  assertInstanceOf(
    error,
    PgStreamError,
    `${what}: not an error of this library: ${stackOf(error)}`,
  );
  assertMatch(error.kind, /^[a-z]+(-[a-z]+)*$/, `${what}: ${error}`);
  assert(error.message.length > 0 && error.summary.length > 0, `${what}: the error says nothing`);
  assert(error.hint === undefined || error.hint.length > 0, `${what}: an empty hint`);
  return error.kind;
}

function stackOf(error: unknown): string {
  return error instanceof Error ? `${error.stack}` : String(error);
}

async function inTime<T>(what: string, limitMs: number, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      try {
        fail(`${what}: hangs, ${limitMs} ms are over`);
      } catch (error) {
        reject(error);
      }
    }, limitMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Never rejects. */
async function run(
  operation: Operation,
  options: ConnectorOptions,
  signal: AbortSignal,
): Promise<Outcome> {
  const held: unknown[] = [];
  const work = OPERATIONS[operation](options, signal, held);
  return { error: await work.then(() => null, (error) => error ?? "nothing was thrown"), held };
}

type Work = (options: ConnectorOptions, signal: AbortSignal, held: unknown[]) => Promise<void>;

async function connected(
  options: ConnectorOptions,
  signal: AbortSignal,
  held: unknown[],
  use: (connection: Connection) => Promise<unknown>,
): Promise<void> {
  const connection = await new Connector(options).connect({ signal });
  held.push(connection);
  try {
    await use(connection);
  } finally {
    await connection.close();
  }
}

const OPERATIONS: Readonly<Record<Operation, Work>> = {
  "connect": (options, signal, held) => connected(options, signal, held, () => Promise.resolve()),
  "query": (options, signal, held) =>
    connected(options, signal, held, (connection) => connection.query("SELECT 1", { signal })),
  "COPY": (options, signal, held) =>
    connected(options, signal, held, async (connection) => {
      for await (const rows of connection.copyOut("COPY t TO STDOUT", { signal })) {
        while (rows.advance()) { /* taken */ }
      }
    }),
  "START_REPLICATION": async (options, signal, held) => {
    const stream = await ReplicationStream.open({ ...options, signal });
    held.push(stream);
    try {
      while (await stream.read() !== null) { /* taken */ }
    } finally {
      await stream.close();
    }
  },
  "start()": async (options, signal, held) => {
    const stream = streamOf(options, held);
    stream.onChange(() => void stream.stop());
    await stream.start({ signal });
    signal.throwIfAborted();
  },
  "start(), taking all": async (options, signal, held) => {
    const stream = streamOf(options, held);
    stream.onChange(() => {});
    await stream.start({ signal });
    signal.throwIfAborted();
  },
  "start(), taking nothing": async (options, signal, held) => {
    const stream = streamOf(options, held);
    stream.onChange(() =>
      new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()))
    );
    await stream.start({ signal });
    signal.throwIfAborted();
  },
  "setup()": async (options, signal, held) => {
    await streamOf(options, held).setup({ signal });
  },
  "SlotManager.setup()": async (options, signal, held) => {
    const manager = new SlotManager({
      ...options,
      tables: ["documents"],
      createTimeoutMs: CREATE_MS,
    });
    held.push(manager);
    await manager.setup({ signal });
  },
};

function streamOf(options: ConnectorOptions, held: unknown[]): PgStream {
  const stream = new PgStream({ ...options, reconnect: false });
  stream.watch("documents");
  held.push(stream);
  return stream;
}

/** Makes cases of one operation. @param before what comes of every peer before the case's own script */
export function casesOf(
  operation: Operation,
  before: (peer: Peer) => Promise<unknown>,
): (
  name: string,
  kinds: readonly string[],
  script: (peer: Peer) => Promise<void>,
) => HostileCase {
  return (name, kinds, script) => ({
    name,
    operation,
    kinds,
    script: async (peer) => {
      await before(peer);
      await script(peer);
    },
  });
}

/** Lets the client in, and takes its first message. */
export async function afterTheQuestion(peer: Peer): Promise<void> {
  await welcome(peer);
  await peer.message();
}

/** How many are played at once: most of them wait. */
const SIDE_BY_SIDE = 10;

/**
 * A test for each case.
 *
 * @param options.sideBySide default: some; 1 where a case takes all of the machine, or measures memory
 */
export function playAll(
  theme: string,
  cases: readonly HostileCase[],
  { sideBySide = SIDE_BY_SIDE } = {},
): void {
  describe(theme, () => {
    const outcomes = new Map<string, Promise<void>>();
    let playing: Promise<unknown> = Promise.resolve();
    before(() => {
      const starts = cases.map((hostile) => {
        const { promise, resolve } = Promise.withResolvers<void>();
        const outcome = promise.then(async () => {
          for (let time = 0; time < (hostile.times ?? 1); time++) await play(hostile);
        });
        outcome.catch(() => {});
        outcomes.set(hostile.name, outcome);
        return async () => {
          resolve();
          await outcome.catch(() => {});
        };
      });
      const work = async () => {
        for (let start = starts.shift(); start !== undefined; start = starts.shift()) await start();
      };
      playing = Promise.all(Array.from({ length: sideBySide }, work));
    });
    after(() => playing);
    for (const hostile of cases) {
      test(`${hostile.operation}: a server that ${hostile.name}`, async () => {
        await outcomes.get(hostile.name);
      });
    }
  });
}
