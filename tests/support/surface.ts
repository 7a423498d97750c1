/** The public surface, as types: `surface_check.ts` holds the exports to it. Additions are welcome. */

export type PointId = string | number | bigint;
export interface VectorPoint {
  id: PointId;
  vector: readonly number[] | Float32Array;
  payload?: Record<string, unknown>;
}

/** What a stream needs of a store: two methods. Each optional one switches a feature on. */
export interface SinkLike {
  upsert(point: VectorPoint): Promise<unknown>;
  delete(id: PointId): Promise<unknown>; // a missing id is no error
  upsertMany?(points: readonly VectorPoint[]): Promise<unknown>;
  deleteMany?(ids: readonly PointId[]): Promise<unknown>;
  close?(): Promise<unknown>;
}
/** The base class for custom sinks: everything but upsert and delete has a default. */
export declare abstract class Sink implements SinkLike, AsyncDisposable {
  abstract upsert(point: VectorPoint): Promise<unknown>;
  abstract delete(id: PointId): Promise<unknown>;
  upsertMany(points: readonly VectorPoint[]): Promise<unknown>;
  deleteMany(ids: readonly PointId[]): Promise<unknown>;
  close(): Promise<unknown>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Rows of tables that nobody typed. With `values: "text"` each value is a string or null. */
// deno-lint-ignore no-explicit-any
export type AnyRow = Record<string, any>;
type SchemaOf<N extends string> = string extends N ? string
  : N extends `${infer S}.${string}` ? S
  : "public";
type TableOf<N extends string> = N extends `${string}.${infer T}` ? T : N;

interface EventBase<N extends string> {
  schema: SchemaOf<N>;
  table: TableOf<N>;
  /** LSN of the commit record, "0/1A3F28". (lsn, ordinal) names and orders an event. */
  lsn: string;
  /** Place in its transaction, from 0; −1 for a row that a backfill read. */
  ordinal: number;
  commitTime: Date;
  xid: number;
  /** Columns stored out of line whose value the server did not send: absent from `row`, never null. */
  unchanged: readonly string[];
}
export interface InsertEvent<R = AnyRow, N extends string = string> extends EventBase<N> {
  operation: "insert";
  row: R;
  oldRow: null;
  /** Primary key as text; several columns: a JSON array of texts. */
  key: string;
  oldKey: null;
  backfill: boolean;
}
export interface UpdateEvent<R = AnyRow, N extends string = string> extends EventBase<N> {
  operation: "update";
  row: Partial<R>;
  /** What the server sent of the old row: its key, or all of it under REPLICA IDENTITY FULL. */
  oldRow: Partial<R> | null;
  key: string;
  /** The key before, where this update changed it. */
  oldKey: string | null;
  backfill: false;
}
export interface DeleteEvent<R = AnyRow, N extends string = string> extends EventBase<N> {
  operation: "delete";
  /** The old row, or its key: what the server sent. */
  row: Partial<R>;
  oldRow: Partial<R>;
  key: string;
  oldKey: null;
  backfill: false;
}
export interface TruncateEvent<N extends string = string> extends EventBase<N> {
  operation: "truncate";
  row: Record<string, never>;
  oldRow: null;
  key: null;
  oldKey: null;
  /** True where the table's known rows are void because changes were missed, and a backfill follows. */
  backfill: boolean;
}
export type ChangeEvent<R = AnyRow, N extends string = string> =
  | InsertEvent<R, N>
  | UpdateEvent<R, N>
  | DeleteEvent<R, N>
  | TruncateEvent<N>;
export type EventOf<T> = { [N in keyof T & string]: ChangeEvent<T[N], N> }[keyof T & string];

export interface Logger {
  debug(message: string, ...details: unknown[]): void;
  info(message: string, ...details: unknown[]): void;
  warn(message: string, ...details: unknown[]): void;
  error(message: string, ...details: unknown[]): void;
}
export interface PgStreamOptions {
  dsn?: string; //            URI or key=value; default DATABASE_URL, then PG* variables
  password?: string | (() => string | Promise<string>);
  slotName?: string; //       default "pgstream"
  publicationName?: string; // default: the slot's name
  values?: "text" | "js"; //  default "text"
  backfill?: "initial" | "never"; // default "never"
  concurrency?: number; //    lanes by primary key; default 1: strict commit order
  maxQueueBytes?: number; //  default 8 MiB
  retry?: { attempts?: number; minDelayMs?: number; maxDelayMs?: number }; // default 5, 100, 2000; each retry is logged
  onFailure?: "stop" | ((failure: Failure) => "stop" | "skip" | Promise<"stop" | "skip">); // default "stop"
  onSlotLost?: "error" | "recreate"; // default "error"
  whenSlotInUse?: "error" | "wait"; // default "error" after a short deadline; "wait": a hot standby
  reconnect?: false | { attempts?: number; minDelayMs?: number; maxDelayMs?: number };
  logger?: Logger | false; // default: warnings and errors to console
}
export interface Failure {
  error: unknown;
  events: readonly ChangeEvent[];
  attempts: number;
}
export interface HandlerContext {
  signal: AbortSignal;
  attempt: number;
}
export interface WatchOptions<R> {
  columns?: readonly (keyof R & string)[];
  where?: string;
}
export interface Transaction<T> {
  events: EventOf<T>[];
  lsn: string;
  /** False where a large transaction comes in parts and more follow. */
  last: boolean;
  ack(): void;
}

export declare class PgStream<T extends object = Record<string, AnyRow>>
  implements AsyncDisposable {
  constructor(options?: PgStreamOptions | string);
  /** Names are literal, never folded: `watch("User")`; split at the first dot outside double quotes. */
  watch(...tables: (keyof T & string)[]): this;
  watch<N extends keyof T & string>(table: N, options: WatchOptions<T[N]>): this;
  sink(sink: SinkLike): this;
  onChange(handler: (event: EventOf<T>, sink: Sink, context: HandlerContext) => unknown): this;
  onBatch(
    handler: (events: EventOf<T>[], sink: Sink, context: HandlerContext) => unknown,
    options?: { maxEvents?: number; maxBytes?: number; maxDelayMs?: number },
  ): this;
  setup(options?: { signal?: AbortSignal }): Promise<SetupReport>;
  /** Until stop(), abort (both graceful: it resolves) or a failure (it rejects with a PgStreamError). */
  start(options?: { signal?: AbortSignal; signals?: boolean }): Promise<void>;
  /** Handles what is committed at the call, confirms, returns: for cron, serverless, edge. */
  catchUp(options?: { signal?: AbortSignal }): Promise<CatchUpReport>;
  changes(options?: { signal?: AbortSignal }): AsyncIterable<Transaction<T>>;
  backfill(
    table: keyof T & string,
    options?: { where?: string; signal?: AbortSignal },
  ): Promise<void>;
  status(): StreamStatus;
  stop(options?: { timeoutMs?: number }): Promise<void>;
  teardown(options?: { dropSlot?: boolean; dropPublication?: boolean }): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
/** LSNs as strings, no bigint: reports survive JSON.stringify. */
export interface SetupReport {
  slot: "created" | "found";
  publication: "created" | "altered" | "found";
  added: string[];
  removed: string[];
  warnings: string[];
}
export interface CatchUpReport {
  events: number;
  transactions: number;
  lsn: string;
}
export interface StreamStatus {
  state: "idle" | "connecting" | "streaming" | "reconnecting" | "stopping" | "stopped" | "failed";
  receivedLsn: string;
  confirmedLsn: string;
  lagBytes: number;
  queueBytes: number;
  transactions: number;
  events: Record<"insert" | "update" | "delete" | "truncate", number>;
  retries: number;
  skipped: number;
  reconnects: number;
  lastError: string | null;
}
/** The base of every error that this library throws. */
export declare class PgStreamError extends Error {
  /** For programs, e.g. "slot-in-use", "publication-missing", "handler-failed", "authentication". */
  kind: string;
  /** The way out, for people: the statement to run, the option to set. */
  hint?: string;
}
