/** What tests of whole streams share: run one, collect what it hands out, wait, and leave nothing. */

import { fail } from "@std/assert";
import postgres from "postgres";
import {
  type ChangeEvent,
  type Logger,
  parseLsn,
  PgStream,
  type PgStreamOptions,
} from "../../mod.ts";

/** Any number will do; a test that hangs is to say what it waited for. */
const PATIENCE_MS = 15_000;

/** Waits until `probe` gives something truthy, and returns it. */
export async function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  timeoutMs = PATIENCE_MS,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (performance.now() > deadline) fail(`Not within ${timeoutMs} ms: ${what}`);
    await sleep(20);
  }
}

/** The promise, which must settle in time. */
export async function within<T>(
  what: string,
  promise: PromiseLike<T>,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<typeof LATE>((resolve) => {
    timer = setTimeout(() => resolve(LATE), timeoutMs);
  });
  try {
    const first = await Promise.race([promise, late]);
    return first === LATE ? fail(`Not within ${timeoutMs} ms: ${what}`) : first as T;
  } finally {
    clearTimeout(timer);
  }
}

const LATE = Symbol();

/** Resolves after so many milliseconds. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A name that no other test uses, for slots and publications, which a whole server shares. */
export function uniqueName(prefix = "test"): string {
  return `${prefix}_${crypto.randomUUID().slice(0, 8)}`;
}

/** Keeps what is logged. */
export class LogLines implements Logger {
  readonly lines: string[] = [];
  debug = (...parts: unknown[]): void => this.#add("debug", parts);
  info = (...parts: unknown[]): void => this.#add("info", parts);
  warn = (...parts: unknown[]): void => this.#add("warn", parts);
  error = (...parts: unknown[]): void => this.#add("error", parts);

  #add(level: string, parts: unknown[]): void {
    this.lines.push([level, ...parts.map(String)].join(" "));
  }
}

/** A second session, for transactions that stay open. End it. */
export function openClient(dsn: string): postgres.Sql {
  return postgres(dsn, { max: 1, onnotice: () => {} });
}

/** A stream that was started. */
export interface StartedStream {
  stream: PgStream;
  /** What `start()` was rejected with; null where it resolved. */
  ended: Promise<unknown>;
  /** Stops, and fails where `start()` was rejected. */
  stop(): Promise<void>;
}

/** Starts a stream and waits until it streams, or has ended. */
export async function started(
  stream: PgStream,
  options: { signal?: AbortSignal } = {},
): Promise<StartedStream> {
  let over = false;
  const ended = stream.start(options).then(() => null, (error) => error ?? "nothing").finally(() =>
    over = true
  );
  await until("the stream to be up", () => over || stream.status().state === "streaming");
  return {
    stream,
    ended,
    async stop() {
      await within("the stream to stop", stream.stop());
      const error = await within("start() to end", ended);
      if (error !== null) throw error;
    },
  };
}

/** What `collect` hands back. */
export interface Collected extends StartedStream {
  /** The events in the order in which they were handed out, without those of the marker. */
  events: ChangeEvent[];
  slotName: string;
  /** Waits until all that was committed before the call is handed out. */
  drain(): Promise<ChangeEvent[]>;
  /** Stops, and drops slot and publication. */
  stop(): Promise<void>;
}

/**
 * Sets up and starts a stream of the tables that collects events. A table `marker` is watched beside
 * them: whatever was committed before its next row comes before that row.
 */
export async function collect(
  db: { dsn: string; query(sql: string): Promise<unknown> },
  tables: readonly string[],
  options: PgStreamOptions & { onEvent?: (event: ChangeEvent) => unknown } = {},
): Promise<Collected> {
  const { onEvent, ...streamOptions } = options;
  const slotName = uniqueName();
  const events: ChangeEvent[] = [];
  let markers = 0;
  const stream = new PgStream({ dsn: db.dsn, slotName, logger: false, ...streamOptions });
  stream.watch(...tables, "marker");
  stream.onChange(async (event) => {
    if (event.table === "marker") {
      markers++;
      return;
    }
    await onEvent?.(event);
    events.push(event);
  });
  await db.query(
    "CREATE TABLE IF NOT EXISTS marker (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
  );
  await stream.setup();
  const running = await started(stream);
  let failed: unknown = null;
  void running.ended.then((error) => failed = error);
  return {
    ...running,
    events,
    slotName,
    async drain() {
      const wanted = markers + 1;
      await db.query("INSERT INTO marker DEFAULT VALUES");
      await until("the marker's event", () => {
        if (failed !== null) throw failed;
        return markers >= wanted;
      });
      return events;
    },
    async stop() {
      await running.stop();
      await stream.teardown();
    },
  };
}

/** A database to ask, as `testPostgres()` gives it. */
export interface Database {
  dsn: string;
  query<Row extends object = Record<string, unknown>>(
    sql: string,
    parameters?: string[],
  ): Promise<Row[]>;
}

/** A new table `(id int PRIMARY KEY, v text)` with a slot of its own, set up but not started. */
export async function newTable(
  db: Database,
  prefix: string,
  options: PgStreamOptions = {},
): Promise<{
  table: string;
  slotName: string;
  /** A stream of the table. */
  make(handler: (event: ChangeEvent) => unknown): PgStream;
  /** Drops slot and publication. */
  teardown(): Promise<void>;
}> {
  const table = uniqueName(prefix);
  const slotName = uniqueName();
  await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY, v text)`);
  const make = (handler: (event: ChangeEvent) => unknown) =>
    new PgStream({ dsn: db.dsn, slotName, logger: false, ...options })
      .watch(table).onChange(handler);
  const first = make(() => {});
  await first.setup();
  return { table, slotName, make, teardown: () => first.teardown() };
}

/** What the server holds for confirmed. */
export async function confirmedLsn(db: Database, slotName: string): Promise<bigint> {
  const [row] = await db.query<{ lsn: string }>(
    "SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = $1",
    [slotName],
  );
  return parseLsn(row!.lsn);
}

/** Who uses the slot; null: nobody. */
export async function walsenderPid(db: Database, slotName: string): Promise<number | null> {
  const [row] = await db.query<{ pid: number | null }>(
    "SELECT active_pid AS pid FROM pg_replication_slots WHERE slot_name = $1",
    [slotName],
  );
  return row!.pid;
}

/** The DSN with command line options for the server's process, `-c name=value`. */
export function withServerOptions(dsn: string, options: string): string {
  const url = new URL(dsn);
  // Not by searchParams, which writes a space as "+": libpq, and so we, take that for a plus.
  if (options !== "") url.search = `options=${encodeURIComponent(options)}`;
  return url.href;
}
