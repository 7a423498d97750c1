/** What a stream can be told, and what it does when it is not told. */
import type { ChangeEvent } from "../change.ts";
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
  events: T[];
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

/** @throws {PgStreamError} of kind `not-available` or `invalid-option`. */
export function checkOptions(options: PgStreamOptions): void {
  if (options.values === "js") throw notYet('values: "js"');
  if (options.backfill === "initial") throw notYet('backfill: "initial"');
  if ((options.concurrency ?? 1) !== 1) throw notYet("concurrency");
  if (options.retry !== undefined) throw notYet("retry");
  if (options.onFailure !== undefined && options.onFailure !== "stop") throw notYet("onFailure");
  if (options.onSlotLost === "recreate") throw notYet('onSlotLost: "recreate"');
  if (options.whenSlotInUse === "wait") throw notYet('whenSlotInUse: "wait"');
  if (typeof options.reconnect === "object") throw notYet("reconnect");
  const bytes = options.maxQueueBytes ?? 1;
  if (!(Number.isFinite(bytes) && bytes > 0)) {
    throw new PgStreamError(`maxQueueBytes must be a number above 0, not ${bytes}`, {
      kind: "invalid-option",
      hint: "Leave it out for 8 MiB.",
    });
  }
}
