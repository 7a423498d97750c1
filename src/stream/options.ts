/** What a stream can be told, and what it does when it is not told. */
import type { ChangeEvent, EventOf } from "../change.ts";
import { PgStreamError } from "../errors.ts";
import type { Logger } from "../logger.ts";

/** Options of a `PgStream`; a string in their place is the `dsn`. */
export interface PgStreamOptions {
  /**
   * `postgresql://user:password@host:5432/database?sslmode=disable`, or `host=… user=…`.
   * Default: `DATABASE_URL`, then the `PG*` variables; these also fill in what the DSN lacks.
   */
  dsn?: string;
  /** A password, or what gives one at each connection, in place of the DSN's. */
  password?: string | (() => string | Promise<string>);
  /** The replication slot: lower case letters, digits and underscores. Default: `"pgstream"`. */
  slotName?: string;
  /** Default: the slot's name. */
  publicationName?: string;
  /** What values are: `"text"`: strings as Postgres prints them, or null. Default: `"text"`. */
  values?: "text" | "js";
  /** Whether the rows that are there already are handed out first. Default: `"never"`. */
  backfill?: "initial" | "never";
  /** Lanes by primary key. Default: 1, strict commit order. */
  concurrency?: number;
  /** The socket is held back while more than this is queued for the handler. Default: 8 MiB. */
  maxQueueBytes?: number;
  /** Retries of a handler that fails. */
  retry?: { attempts?: number; minDelayMs?: number; maxDelayMs?: number };
  /** What is done about a handler that fails for good. Default: `"stop"`. */
  onFailure?: "stop" | ((failure: Failure) => "stop" | "skip" | Promise<"stop" | "skip">);
  /** What is done about a slot that the server gave up. Default: `"error"`. */
  onSlotLost?: "error" | "recreate";
  /** What is done while another session holds the slot. Default: `"error"`. */
  whenSlotInUse?: "error" | "wait";
  /** How a lost connection is remade. */
  reconnect?: false | { attempts?: number; minDelayMs?: number; maxDelayMs?: number };
  /** Default: warnings and errors to the console. `false`: nothing. */
  logger?: Logger | false;
}

/** Events that could not be handled. */
export interface Failure {
  /** What the handler threw. */
  error: unknown;
  /** The events in the handler's hands. */
  events: readonly ChangeEvent[];
  /** How often they were tried. */
  attempts: number;
}

/** Which rows and columns of a table are published. */
export interface WatchOptions<R> {
  /** Only these columns. */
  columns?: readonly (keyof R & string)[];
  /** Only rows for which this SQL condition holds. */
  where?: string;
}

/** What a handler gets beside the event and the sink. */
export interface HandlerContext {
  /** Aborted when the stream is told to stop: give up what takes long. */
  signal: AbortSignal;
  /** 1 for the first try of this event. */
  attempt: number;
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

/** For what the surface already names and this version does not do yet: an error, never silence. */
export function notYet(what: string): PgStreamError {
  return new PgStreamError(`${what} is not available in this version`, {
    kind: "not-available",
    hint: "See the CHANGELOG for what each version has.",
  });
}

/** What an option may be, and what of it this version does not do yet. */
const CHOICES: { [option in keyof PgStreamOptions]?: { now: unknown[]; later: unknown[] } } = {
  values: { now: ["text"], later: ["js"] },
  backfill: { now: ["never"], later: ["initial"] },
  onSlotLost: { now: ["error"], later: ["recreate"] },
  whenSlotInUse: { now: ["error"], later: ["wait"] },
};

/** @throws {PgStreamError} of kind `not-available` or `invalid-option`. */
export function checkOptions(options: PgStreamOptions): void {
  for (const [name, { now, later }] of Object.entries(CHOICES)) {
    const value = options[name as keyof PgStreamOptions];
    if (value === undefined || now.includes(value)) continue;
    if (later.includes(value)) throw notYet(`${name}: ${JSON.stringify(value)}`);
    const choices = [...now, ...later].map((choice) => JSON.stringify(choice)).join(" or ");
    throw invalidOption(name, value, `Choose ${choices}.`);
  }
  const { concurrency = 1, maxQueueBytes = 1, onFailure = "stop", retry, reconnect } = options;
  if (!(Number.isInteger(concurrency) && concurrency > 0)) {
    throw invalidOption("concurrency", concurrency, "Choose a whole number above 0.");
  }
  if (concurrency !== 1) throw notYet("concurrency");
  if (!(Number.isFinite(maxQueueBytes) && maxQueueBytes > 0)) {
    throw invalidOption(
      "maxQueueBytes",
      maxQueueBytes,
      "Choose bytes above 0; the default is 8 MiB.",
    );
  }
  if (typeof onFailure === "function") throw notYet("onFailure");
  if (onFailure !== "stop") throw invalidOption("onFailure", onFailure, 'Choose "stop".');
  for (const [name, value] of Object.entries({ retry, reconnect })) {
    if (value === undefined || (name === "reconnect" && value === false)) continue;
    if (typeof value === "object") throw notYet(name);
    throw invalidOption(name, value, "Leave it out.");
  }
}

function invalidOption(name: string, value: unknown, hint: string): PgStreamError {
  const shown = typeof value === "number" ? `${value}` : JSON.stringify(value);
  return new PgStreamError(`The option ${name} cannot be ${shown}`, {
    kind: "invalid-option",
    hint,
  });
}
