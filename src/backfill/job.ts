/** One backfill of one table. */
import { formatTableName, type TableName } from "../table_name.ts";
import { whatIsOpen } from "../wire/sql_condition.ts";
import type { Chunk, Wanted } from "./chunk_reader.ts";
import { BackfillError } from "./errors.ts";
import { noProgress, type TableProgress } from "./progress.ts";

/** Why a job is cancelled that may be planned anew. */
export const CANCELLED = new Error("The backfill begins anew");

/** Which rows are to be read. */
export interface JobOptions {
  name: TableName;
  /** What is changed as the job advances. Default: its own, from the first row. */
  progress?: TableProgress;
  /** True where the stream stands or falls with it. Default: false. */
  initial?: boolean;
  /** Only rows for which this SQL condition holds. */
  where?: string | undefined;
  /** Only rows with these keys, as events have them. */
  keys?: readonly string[] | undefined;
  /** Ends the job, which then rejects with its reason. */
  signal?: AbortSignal | undefined;
}

/** The error for a condition that is not one text in its own right; null where it may go into a statement. */
export function noCondition({ name, where }: JobOptions): BackfillError | null {
  const open = where === undefined ? null : whatIsOpen(where);
  return open === null ? null : new BackfillError(
    `What to read of table "${formatTableName(name)}" is not one condition: ${open} in it has no ` +
      "place there, or no end",
    {
      kind: "invalid-option",
      hint: "Pass what stands between the parentheses of WHERE (…), such as: id > 1000",
    },
  );
}

/** Waits for its turn, is played, and settles. */
export class Job {
  readonly name: TableName;
  readonly progress: TableProgress;
  readonly initial: boolean;
  /** The next chunk, while the one before it is handed out. */
  ahead: Promise<Chunk> | null = null;
  /** Settles when the progress is stored that was made last. */
  saved: Promise<void> = Promise.resolve();
  /** Settles with the job. */
  readonly finished: Promise<void>;
  readonly #options: JobOptions;
  readonly #outcome: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #abort = new AbortController();
  readonly #keys: string[];
  #estimatedRows: number | null = null;
  /** Rows of this process' own, and since when: what the rate is made of. */
  #rowsBefore: number;
  #beganAt: number | null = null;

  /** Begins nothing. */
  constructor(options: JobOptions) {
    this.#options = options;
    this.name = options.name;
    this.initial = options.initial ?? false;
    this.progress = options.progress ?? noProgress(options.name);
    this.#rowsBefore = this.progress.rows;
    this.#keys = [...new Set(options.keys)];
    // Keys that are named are all that is wanted.
    if (options.keys !== undefined) this.progress.done = true;
    this.finished = this.#outcome.promise;
    this.finished.catch(() => {});
    const { signal } = options;
    if (signal?.aborted) this.cancel(signal.reason);
    signal?.addEventListener("abort", this.#onAbort);
  }

  readonly #onAbort = () => this.cancel(this.#options.signal!.reason);

  /** True where not all of the table's rows are wanted. */
  get partial(): boolean {
    return this.#options.keys !== undefined || this.#options.where !== undefined;
  }

  /** Aborted when nothing more of it is wanted. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** How far it is. `nowMs` by the clock that it began by. */
  status(nowMs: number): BackfillStatus {
    const { rows } = this.progress;
    const seconds = this.#beganAt === null ? 0 : (nowMs - this.#beganAt) / 1000;
    const rate = seconds > 0 ? (rows - this.#rowsBefore) / seconds : 0;
    const estimated = this.#estimatedRows;
    const left = estimated === null ? null : Math.max(0, estimated - rows);
    return {
      table: formatTableName(this.name),
      rows,
      estimatedRows: estimated === null ? null : Math.max(estimated, rows),
      rowsPerSecond: Math.round(rate),
      secondsLeft: left === null || rate === 0 ? null : Math.round(left / rate),
    };
  }

  /** It is played from now on. */
  begin(nowMs: number): void {
    this.#beganAt = nowMs;
  }

  /** The next of the keys that it was given; they are the caller's from here on. */
  nextKeys(most: number): string[] {
    return this.#keys.splice(0, most);
  }

  /** Keys that are still to be read. */
  putBack(keys: readonly string[]): void {
    this.#keys.unshift(...keys);
  }

  /** What the reader is asked for. */
  wanted(oid: number): Wanted {
    const { where } = this.#options;
    const wanted = { oid, name: this.name, after: this.progress.after };
    return where === undefined ? wanted : { ...wanted, where };
  }

  /** How many rows the server thinks that there are. */
  estimate(rows: number | null): void {
    this.#estimatedRows = rows;
  }

  /** What was handed out is void. */
  restart(): void {
    const begun = this.progress.void || this.progress.rows > 0;
    Object.assign(this.progress, { after: null, rows: 0, lsn: null, void: begun && this.initial });
    this.#rowsBefore = 0;
  }

  /** Nothing more of it is wanted. */
  cancel(reason: unknown): void {
    this.#abort.abort(reason);
  }

  /** It is over. @param error undefined where all is handed out */
  end(error?: unknown): void {
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    if (error === undefined) this.#outcome.resolve();
    else this.#outcome.reject(error);
  }
}

/** How far the backfill of a table is. */
export interface BackfillStatus {
  /** `schema.table` */
  table: string;
  /** Rows that were handed out, in processes before this one too. */
  rows: number;
  /** What the server's statistics say that there are; null where they say nothing. */
  estimatedRows: number | null;
  /** Since this process began with the table. */
  rowsPerSecond: number;
  /** Null where nobody can tell. */
  secondsLeft: number | null;
}
