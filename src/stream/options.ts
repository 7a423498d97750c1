/** What a stream can be told, and what it does when it is not told. */
import type { StateStore } from "../backfill/state_store.ts";
import type { RetryLimits } from "../backoff.ts";
import type { EventOf } from "../change.ts";
import type { BatchLimits, Failure, FailureDecision } from "../delivery/handler.ts";
import type { LaneKey } from "../delivery/lane_plan.ts";
import { PgStreamError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { StreamObserver } from "../observer.ts";
import { checkPublicationName, checkSlotName } from "../replication/names.ts";
import type { Connect } from "../transport/transport.ts";
import type { Parsers } from "../values/types.ts";

export type { Failure, HandlerContext } from "../delivery/handler.ts";

/** Options of a `PgStream`; a string in their place is the `dsn`. */
export interface PgStreamOptions {
  /**
   * `postgresql://user:password@host:5432/database?sslmode=disable`, or `host=… user=…`.
   * Default: `DATABASE_URL`, then the `PG*` variables; these also fill in what the DSN lacks.
   */
  dsn?: string;
  /** A password, or what gives one at each connection, in place of the DSN's. */
  password?: string | (() => string | Promise<string>);
  /** How a socket is opened. Default: by `node:net`, which Node, Deno and Bun have. See `./workers`. */
  connect?: Connect;
  /** The replication slot: lower case letters, digits and underscores. Default: `"pgstream"`. */
  slotName?: string;
  /** Default: the slot's name. */
  publicationName?: string;
  /**
   * True: stored generated columns are published as well (PostgreSQL 18 and later); false: they are not.
   * Default: as the publication is; a new one publishes none.
   */
  publishGeneratedColumns?: boolean;
  /**
   * What values are: `"text"`: strings as Postgres prints them; `"js"`: what they are in JavaScript, by type,
   * as the README's table has it. NULL is null, and `key` is text either way. Default: `"text"`.
   */
  values?: "text" | "js";
  /**
   * With `values: "js"`: what reads the text of a type, in place of what does by default. By the type's own
   * name, `pg_type.typname` (`timestamptz`, `geometry`), or its OID; in arrays of it, too. Where it throws,
   * or gives a promise, the stream stops with an error of kind `parser-failed`, and nothing is lost; what it threw is not
   * told, for it may hold the value. Default: none.
   */
  parsers?: { readonly [oidOrTypeName: string]: (text: string) => unknown };
  /**
   * `"initial"`: the rows that are there already are handed out too, as inserts with `backfill: true`, beside
   * the changes and in step with them: of a key, what comes last is the newest. Once for each table; a
   * process that ends goes on where it was. Default: `"never"`.
   */
  backfill?: "initial" | "never";
  /**
   * Where the progress of an initial backfill is kept. Default: the table `pgstream.state` of the source
   * database, which `setup()` makes; a standby as the source has none. Closed by whoever made it.
   */
  stateStore?: StateStore;
  /**
   * How many rows of a backfill are held in memory, half of them read while the other half is handed out; a
   * process that is killed repeats so many at most. Default: 10,000 rows, or 2 MiB where that is less.
   */
  backfillChunk?: { maxRows?: number; maxBytes?: number };
  /**
   * How many handlers may run side by side: primary keys are spread over so many lanes. Changes of one
   * key share a lane and keep their order; a key change waits for both lanes, a TRUNCATE, and a change
   * of a table's shape, for all. Default: 1, strict commit order.
   */
  concurrency?: number;
  /**
   * With `concurrency`: what keeps its order, in place of the table and its primary key. Changes for
   * which it returns the same text are handled in commit order. Where a row goes from one to another,
   * return both.
   */
  key?: LaneKey;
  /**
   * The socket is held back while what waits for the handler takes more memory than this. Most of it
   * waits as the bytes that came, and counts twice: they are copied. Only as many events are made ahead as
   * a handler, its batches and its lanes can use; with `concurrency` a quarter of this in bytes. Default: 8 MiB,
   * with which a process with one slow handler takes less than 64 MB more than an idle one.
   */
  maxQueueBytes?: number;
  /**
   * How a handler that fails is tried again: `attempts` in all, default 5; the first wait is
   * `minDelayMs`, default 100, and doubles up to `maxDelayMs`, default 2,000, with jitter. A longer
   * `retryAfterMs` of the error is honoured; a `PgStreamError` that is not `retryable` is not tried again.
   * A batch that keeps failing is split until the event that cannot be handled stands alone.
   */
  retry?: Partial<RetryLimits>;
  /**
   * What is done about an event that fails for good: `"stop"`: `start()` rejects, and nothing of its
   * transaction is confirmed; `"skip"`, which only a function may say: it is given up, logged and
   * counted. The function is waited for: a place to keep what is skipped. Default: `"stop"`.
   *
   * TypeScript widens the one literal that an async function returns: write `return "skip" as const`.
   */
  onFailure?: "stop" | ((failure: Failure) => FailureDecision | Promise<FailureDecision>);
  /**
   * What is done about a slot that is gone, or that the server gave up, so that changes were missed:
   * `"error"`: `start()` rejects; `"recreate"`: it is made anew, and `onGap` is told. Default: `"error"`.
   */
  onSlotLost?: "error" | "recreate";
  /**
   * What is done while another session holds the slot: `"error"`: an error that names its PID, after a
   * few seconds; `"wait"`: stand by until it is free, and go on behind what the other consumer has
   * confirmed; a slot that was dropped and made anew meanwhile looks the same. Default: `"error"`.
   */
  whenSlotInUse?: "error" | "wait";
  /**
   * How a lost connection is remade: the first wait is `minDelayMs`, default 100, and doubles up to
   * `maxDelayMs`, default 5,000, with jitter; `attempts` in a row, default: without end. `false`: not
   * at all, `start()` rejects. The first connection is never tried twice.
   */
  reconnect?: false | Partial<RetryLimits>;
  /**
   * True: large columns that an update left alone, and that the server therefore did not send, are read again
   * by primary key before the event is handed out: they are in `row`, and not in `unchanged`. Their values are
   * those of the time when they are read, which may be newer than the event. What is of a row that is gone
   * by then, or has another key, stays in `unchanged`. The role needs `SELECT`. A read that fails is tried
   * again as a handler is, and given up with an error of kind `read-unchanged`. About 2 MiB are read ahead of
   * the handlers, beside `maxQueueBytes`; `changes()` hands out smaller parts. Default: false.
   */
  readUnchanged?: boolean;
  /** A slot that standbys keep too, so that it outlives a fail-over. PostgreSQL 17 and later. Default: false. */
  failover?: boolean;
  /**
   * A slot that ends with its connection: it starts at what is committed from then on, and leaves
   * nothing behind. Default: false.
   */
  temporary?: boolean;
  /** Default: warnings and errors to the console. `false`: nothing. */
  logger?: Logger | false;
  /** Is told of the stream's work: for metrics and traces, see `./inspect`. Default: nobody is. */
  observer?: StreamObserver;
}

/** Changes that were missed, because the slot that kept them was lost. */
export interface Gap {
  /** The slot. */
  slotName: string;
  /** The kind of the `SlotError` that it would have been: `"slot-missing"`, `"slot-lost"`, … */
  reason: string;
  /** All before this was handled; null where this process does not know. */
  fromLsn: string | null;
  /** From here on nothing is missed. */
  toLsn: string;
}

/** Which rows and columns of a table are published (PostgreSQL 15 and later). */
export interface WatchOptions<R> {
  /** Only these columns; those of the replica identity have to be among them. Default: all. */
  columns?: readonly (keyof R & string)[];
  /**
   * Only rows for which this SQL condition holds, put into a statement as it is: a condition on columns of the
   * replica identity, with operators and functions that are built in and immutable. An update that makes a row
   * fit comes as an insert, one that makes it fit no more as a delete. Default: all.
   */
  where?: string;
}

/** A transaction as `changes()` hands it out. */
export interface Transaction<T> {
  /** Its events, or a part of them. */
  events: EventOf<T>[];
  /** LSN of the commit record. */
  lsn: string;
  /** False where a large transaction comes in parts and more follow. */
  last: boolean;
  /** Confirms it, once all before it are confirmed. */
  ack(): void;
}

/** More handlers than any store takes at once. */
const MOST_LANES = 10_000;

/** What an option may be. */
const CHOICES: { [option in keyof PgStreamOptions]?: unknown[] } = {
  values: ["text", "js"],
  backfill: ["never", "initial"],
  onSlotLost: ["error", "recreate"],
  whenSlotInUse: ["error", "wait"],
  readUnchanged: [true, false],
  failover: [true, false],
  temporary: [true, false],
  publishGeneratedColumns: [true, false],
};

/** Options with their defaults. */
export interface ResolvedOptions {
  slotName: string;
  publicationName: string;
  publishGeneratedColumns: boolean | undefined;
  concurrency: number;
  key: LaneKey | undefined;
  maxQueueBytes: number;
  retry: RetryLimits;
  onFailure: NonNullable<PgStreamOptions["onFailure"]>;
  onSlotLost: "error" | "recreate";
  whenSlotInUse: "error" | "wait";
  reconnect: RetryLimits | null;
  readUnchanged: boolean;
  failover: boolean;
  temporary: boolean;
  /** Null: values stay text. */
  parsers: Parsers | null;
  backfill: "initial" | "never";
  stateStore: StateStore | null;
  backfillChunk: { maxRows: number; maxBytes: number };
}

/** @throws {PgStreamError} of kind `invalid-option`, `slot-name` or `publication-name`. */
export function resolveOptions(options: PgStreamOptions): ResolvedOptions {
  for (const [name, choices] of Object.entries(CHOICES)) {
    const value = options[name as keyof PgStreamOptions];
    if (value === undefined || choices.includes(value)) continue;
    const named = choices.map((choice) => JSON.stringify(choice)).join(" or ");
    throw invalidOption(name, value, `Choose ${named}.`);
  }
  const { slotName = "pgstream", concurrency = 1, key, onFailure = "stop", retry, reconnect } =
    options;
  const { publicationName = slotName, maxQueueBytes = 8 * 1024 * 1024 } = options;
  checkSlotName(slotName);
  checkPublicationName(publicationName);
  checkCount("concurrency", concurrency);
  if (concurrency > MOST_LANES) {
    throw invalidOption("concurrency", concurrency, `Choose at most ${MOST_LANES}.`);
  }
  if (!(Number.isFinite(maxQueueBytes) && maxQueueBytes > 0)) {
    throw invalidOption(
      "maxQueueBytes",
      maxQueueBytes,
      "Choose bytes above 0; the default is 8 MiB.",
    );
  }
  if (key !== undefined && typeof key !== "function") {
    throw invalidOption("key", key, "Pass a function: (event) => string.");
  }
  if (onFailure !== "stop" && typeof onFailure !== "function") {
    throw invalidOption("onFailure", onFailure, 'Choose "stop", or pass a function.');
  }
  return {
    slotName,
    publicationName,
    publishGeneratedColumns: options.publishGeneratedColumns,
    concurrency,
    key,
    maxQueueBytes,
    retry: resolveLimits("retry", retry, { attempts: 5, minDelayMs: 100, maxDelayMs: 2000 }),
    onFailure,
    onSlotLost: options.onSlotLost ?? "error",
    whenSlotInUse: options.whenSlotInUse ?? "error",
    reconnect: reconnect === false ? null : resolveLimits("reconnect", reconnect, {
      attempts: Infinity,
      minDelayMs: 100,
      maxDelayMs: 5000,
    }),
    readUnchanged: options.readUnchanged ?? false,
    failover: options.failover ?? false,
    temporary: options.temporary ?? false,
    parsers: resolveParsers(options),
    backfill: options.backfill ?? "never",
    stateStore: resolveStore(options.stateStore),
    backfillChunk: resolveChunk(options.backfillChunk),
  };
}

/** What SQL calls types, and `pg_type.typname` does not: a parser of that name would never be called. */
export const SQL_NAMES =
  /^(?:int|integer|(?:small|big)int|boolean|real|float|dec|decimal|(?:double|character|bit|time|timestamp) .+|.*\[\]|.*\(.*\)|.+\..+)$/i;

function resolveParsers({ values, parsers }: PgStreamOptions): Parsers | null {
  if (parsers !== undefined && values !== "js") {
    throw invalidOption("parsers", parsers, 'They read values for values: "js". Set that, too.');
  }
  if (parsers !== undefined && (typeof parsers !== "object" || parsers === null)) {
    throw invalidOption("parsers", parsers, "Pass { typname: (text) => … }.");
  }
  for (const [name, parser] of Object.entries(parsers ?? {})) {
    const option = `parsers[${JSON.stringify(name)}]`;
    if (typeof parser !== "function") {
      throw invalidOption(option, parser, "Pass a function: (text) => ….");
    }
    if (SQL_NAMES.test(name)) {
      throw invalidOption("parsers", name, "Name types as pg_type.typname does: int4, _int4.");
    }
  }
  return values === "js" ? { ...parsers } : null;
}

function resolveStore(store: StateStore | undefined): StateStore | null {
  if (store === undefined) return null;
  if (typeof store?.get !== "function" || typeof store.set !== "function") {
    throw invalidOption("stateStore", store, "Pass an object with the methods get and set.");
  }
  return store;
}

function resolveChunk(
  { maxRows = 10_000, maxBytes = 2 * 1024 * 1024 }: NonNullable<PgStreamOptions["backfillChunk"]> =
    {},
): { maxRows: number; maxBytes: number } {
  checkCount("backfillChunk.maxRows", maxRows);
  if (!(typeof maxBytes === "number" && maxBytes > 0)) {
    throw invalidOption("backfillChunk.maxBytes", maxBytes, "Choose bytes above 0.");
  }
  return { maxRows, maxBytes };
}

/** @throws {PgStreamError} of kind `invalid-option`. */
export function resolveBatch(limits: Partial<BatchLimits> = {}): BatchLimits {
  const resolved = {
    maxEvents: limits.maxEvents ?? 100,
    maxBytes: limits.maxBytes ?? 1024 * 1024,
    maxDelayMs: limits.maxDelayMs ?? 50,
  };
  checkCount("maxEvents", resolved.maxEvents);
  if (!(typeof resolved.maxBytes === "number" && resolved.maxBytes > 0)) {
    throw invalidOption("maxBytes", resolved.maxBytes, "Choose bytes above 0.");
  }
  checkDelay("maxDelayMs", resolved.maxDelayMs);
  return resolved;
}

function resolveLimits(
  name: string,
  given: Partial<RetryLimits> | undefined,
  defaults: RetryLimits,
): RetryLimits {
  if (given !== undefined && (typeof given !== "object" || given === null)) {
    throw invalidOption(name, given, "Pass { attempts, minDelayMs, maxDelayMs }, or leave it out.");
  }
  const {
    attempts = defaults.attempts,
    minDelayMs = defaults.minDelayMs,
    maxDelayMs = defaults.maxDelayMs > minDelayMs ? defaults.maxDelayMs : minDelayMs,
  } = given ?? {};
  if (attempts !== Infinity) checkCount(`${name}.attempts`, attempts);
  checkDelay(`${name}.minDelayMs`, minDelayMs);
  checkDelay(`${name}.maxDelayMs`, maxDelayMs);
  return { attempts, minDelayMs: Math.min(minDelayMs, maxDelayMs), maxDelayMs };
}

function checkCount(name: string, value: unknown): void {
  if (Number.isInteger(value) && (value as number) > 0) return;
  throw invalidOption(name, value, "Choose a whole number above 0.");
}

function checkDelay(name: string, value: unknown): void {
  if (Number.isFinite(value) && (value as number) >= 0) return;
  throw invalidOption(name, value, "Choose milliseconds, 0 or more.");
}

function invalidOption(name: string, value: unknown, hint: string): PgStreamError {
  // JSON.stringify throws on some of what somebody may pass.
  const shown = typeof value === "string"
    ? JSON.stringify(value)
    : typeof value === "object" && value !== null
    ? "an object"
    : String(value);
  return new PgStreamError(`The option ${name} cannot be ${shown}`, {
    kind: "invalid-option",
    hint,
  });
}
