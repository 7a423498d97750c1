/** Compares a table with what a store has of it, row by row in both directions, and mends what differs. */

import { pause, type RetryLimits } from "../backoff.ts";
import type { SourceTable } from "../backfill/table_reader.ts";
import { PgStreamError } from "../errors.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../lsn.ts";
import type { RowSink } from "../sinks/rows.ts";
import type { LiveStream } from "./live_stream.ts";
import {
  type ComparableSink,
  missingOrStale,
  type PointDifference,
  type Suspects,
} from "./point_differences.ts";
import { mend, type Mending } from "./repair.ts";
import { retried } from "./retried.ts";
import type { RowMaker, WantedRow } from "./row_maker.ts";
import { type Candidates, type Compared, lookAgain } from "./second_look.ts";

/** Points of rows that are compared at once, and points of one page of the store. */
const MOST_POINTS = 500;
/** Keys that are looked at again at once. */
const MOST_KEYS = 200;
/** Differences that a report names. */
const MOST_NAMED = 100;
const BETWEEN_PROGRESS_MS = 250;

/** How to verify. */
export interface VerifyOptions {
  /**
   * True: what is missing or stale is embedded and written anew, and what is orphaned is removed, in order with
   * changes. The stream has to run. Default: false.
   */
  repair?: boolean;
  /** Gives up: rejects with its reason. What is mended by then stays so. */
  signal?: AbortSignal;
  /** Told how far it is, some times a second at most. What it throws, `verify()` rejects with. */
  onProgress?: (progress: VerifyProgress) => void;
}

/** How far it is. */
export interface VerifyProgress {
  /** `"rows"`: each row's points are looked up in the store; `"points"`: each point's row in the table. */
  phase: "rows" | "points";
  /** Rows that were looked up. */
  rows: number;
  /** Points of the store that were looked up. */
  points: number;
}

/** A point that is not as it is to be. */
export interface VerifyDifference {
  /** Of the row, as `event.key`. */
  key: string;
  /** Which of the row's points, from 0; null where the row is unsettled. */
  chunk: number | null;
  /**
   * - `"missing"`: the store has not the point.
   * - `"stale"`: it was made of another text, by another model or chunker, or has another payload or number of chunks.
   * - `"orphaned"`: the row is gone, or has no such point any more.
   * - `"unsettled"`: the row, or what the store has of it, changed whenever it was looked at; or a transaction that
   * writes to the table is open for long, and may be one that has changed it.
   */
  kind: "missing" | "stale" | "orphaned" | "unsettled";
}

/** What `verify()` found. It survives `JSON.stringify`. */
export interface VerifyReport {
  /** `schema.table` */
  table: string;
  /**
   * False where the stream did not run: what it has not handled yet counts as a difference then, and so may what
   * another process handled meanwhile.
   */
  live: boolean;
  /** The source's position when it began: what was committed before it was compared, and some of what came later. */
  lsn: string;
  /** Rows of the table. */
  rows: number;
  /** Points that the store has of the table. */
  points: number;
  /** Points that the store has not. */
  missing: number;
  /** Points that it has otherwise. */
  stale: number;
  /** Points that it has beyond those. With `repair`, but for those that went with what was stale of the same row. */
  orphaned: number;
  /** Rows of which it cannot be said. */
  unsettled: number;
  /** Of the points that are missing, stale or orphaned, those that were mended, and are right now. */
  repaired: number;
  /** The first 100 of all of these. */
  differences: VerifyDifference[];
  /** True where there are more. */
  truncated: boolean;
}

/** What a verification works with. */
export interface VerificationOptions {
  /** What rows are to have. */
  maker: RowMaker;
  /** Where the table's points are. */
  sink: RowSink;
  /** Closed at the end. */
  source: SourceTable;
  /** Null where the stream does not run. */
  live: LiveStream | null;
  /** For what fails and may pass. Null: what fails once fails. */
  retry: RetryLimits | null;
  /** Milliseconds of a clock that is never set. Default: the runtime's. */
  now?: () => number;
  /** Resolves after so many milliseconds, or when the signal is aborted. Default: the runtime's timer. */
  pause?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * One comparison of a table with a store.
 *
 * It goes over the rows in the order of their keys, and over the points in the order of the store, and holds a chunk
 * of either at a time. What differs is looked at again before it counts, since most differences are lag.
 */
export class Verification {
  readonly #options: VerificationOptions;
  readonly #compared: Compared;
  /** Null: nothing is mended. */
  readonly #mending: Mending | null;
  readonly #signal: AbortSignal;
  readonly #onProgress: ((progress: VerifyProgress) => void) | undefined;
  readonly #report: VerifyReport;
  #progressAt = -Infinity;

  /**
   * Reads nothing yet.
   *
   * @throws {PgStreamError} `unsupported` where the sink lacks what it takes; `not-running` where nothing can be mended.
   */
  constructor(
    options: VerificationOptions,
    { repair = false, signal = new AbortController().signal, onProgress }: VerifyOptions = {},
  ) {
    const { maker, live, sink, source, retry } = options;
    const again = { retry, pause: options.pause ?? pause, signal };
    this.#options = options;
    this.#signal = signal;
    this.#onProgress = onProgress;
    mustHave(sink, "fingerprints", maker.table);
    mustHave(sink, "scan", maker.table);
    this.#compared = {
      maker,
      live,
      sink: retried(sink, ["fingerprints", "scan", "apply"], again) as ComparableSink,
      source: retried(source, ["next", "byKeys", "at", "close"], again),
      pause: again.pause,
    };
    if (repair && live === null) throw nothingMends(maker.table);
    if (repair) mustHave(sink, "apply", maker.table);
    this.#mending = repair ? this.#compared as Mending : null;
    this.#report = {
      ...{ table: maker.table, live: live !== null, lsn: formatLsn(INVALID_LSN) },
      ...{ rows: 0, points: 0, missing: 0, stale: 0, orphaned: 0, unsettled: 0, repaired: 0 },
      differences: [],
      truncated: false,
    };
  }

  /**
   * To be called once.
   *
   * @throws {PgStreamError} what reading the table, the sink, the functions of `sync` or the stream met; `signal.reason`.
   */
  async run(): Promise<VerifyReport> {
    const { source } = this.#options;
    try {
      this.#signal.throwIfAborted();
      await this.#rows();
      await this.#points();
      this.#signal.throwIfAborted();
    } catch (error) {
      throw this.#signal.aborted ? this.#signal.reason : error;
    } finally {
      await source.close();
    }
    return this.#report;
  }

  /** What the store has not, or not so. */
  async #rows(): Promise<void> {
    const { source, sink, maker } = this.#compared;
    const candidates = new Map<string, null>();
    let wanted = new Map<string, WantedRow>();
    let points = 0;
    const compare = async () => {
      for (const { key } of await missingOrStale(sink, maker, wanted)) {
        candidates.set(key, null);
      }
      [wanted, points] = [new Map(), 0];
      this.#progress("rows");
      if (candidates.size >= MOST_KEYS) await this.#judge(candidates);
    };
    let lsn: Lsn | null = null;
    let after: string | null = null;
    for (let end = false; !end;) {
      const chunk = await source.next(after, this.#signal);
      lsn ??= chunk.lsn;
      end = chunk.end;
      for (const { key, row } of chunk.rows) {
        this.#signal.throwIfAborted();
        const made = await maker.make(key, row);
        this.#report.rows++;
        after = key;
        wanted.set(key, made);
        points += made.points.length;
        if (points >= MOST_POINTS) await compare();
      }
      await compare();
    }
    this.#report.lsn = formatLsn(lsn!);
    await this.#judge(candidates);
    this.#progress("rows", true);
  }

  /** What the store has beyond that. */
  async #points(): Promise<void> {
    const { sink, maker: { table } } = this.#compared;
    const candidates = new Map<string, Map<string, number>>();
    let after: string | null = null;
    do {
      this.#signal.throwIfAborted();
      const page = await sink.scan(table, { after, limit: MOST_POINTS });
      after = page.next;
      this.#report.points += page.points.length;
      const seen = new Map<string, Map<string, number>>();
      for (const { key, id, chunk } of page.points) {
        if (!seen.has(key)) seen.set(key, new Map());
        seen.get(key)!.set(id, chunk);
      }
      for (const [key, chunks] of await this.#suspects(seen)) {
        candidates.set(key, new Map([...candidates.get(key) ?? [], ...chunks]));
      }
      this.#progress("points");
      if (candidates.size >= MOST_KEYS || after === null) await this.#judge(candidates);
    } while (after !== null);
    this.#progress("points", true);
  }

  /** Points whose rows do not seem to want them. */
  async #suspects(seen: ReadonlyMap<string, Suspects>): Promise<Map<string, Map<string, number>>> {
    const { source, maker } = this.#compared;
    const suspects = new Map<string, Map<string, number>>();
    for (let left = [...seen.keys()]; left.length > 0;) {
      const { keys, rows } = await source.byKeys(left, this.#signal);
      left = left.slice(keys.length);
      for (const key of keys) {
        const row = rows.get(key);
        const points = row === undefined ? [] : (await maker.make(key, row)).points;
        const own = new Set(points.map(({ id }) => id));
        const others = [...seen.get(key)!].filter(([id]) => !own.has(id));
        if (others.length > 0) suspects.set(key, new Map(others));
      }
    }
    return suspects;
  }

  /** Looks at candidates again, counts those that differ, and mends them. They are done then. */
  async #judge(candidates: Map<string, Suspects | null>): Promise<void> {
    if (candidates.size === 0) return;
    const { different, unsettled } = await lookAgain(this.#compared, candidates, this.#signal);
    const points = [...different.values()].flatMap((one) => one.points);
    for (const point of points) this.#count(point);
    this.#report.unsettled += unsettled.length;
    for (const key of unsettled) this.#name({ key, chunk: null, kind: "unsettled" });
    if (this.#mending !== null && different.size > 0) {
      await mend(this.#mending, different, this.#signal);
      await this.#lookAtMended(points, candidates);
    }
    candidates.clear();
  }

  async #lookAtMended(points: readonly PointDifference[], candidates: Candidates): Promise<void> {
    const keys = new Set(points.map(({ key }) => key));
    const mended = new Map([...candidates].filter(([key]) => keys.has(key)));
    const { different, unsettled } = await lookAgain(this.#compared, mended, this.#signal);
    const left = new Set([...different.values()].flatMap((one) => one.points.map(({ id }) => id)));
    this.#report.repaired +=
      points.filter(({ id, key }) => !left.has(id) && !unsettled.includes(key)).length;
  }

  #count({ key, chunk, kind }: PointDifference): void {
    this.#report[kind]++;
    this.#name({ key, chunk, kind });
  }

  #name(difference: VerifyDifference): void {
    const { differences } = this.#report;
    if (differences.length < MOST_NAMED) differences.push(difference);
    else this.#report.truncated = true;
  }

  #progress(phase: VerifyProgress["phase"], done = false): void {
    if (this.#onProgress === undefined) return;
    const now = (this.#options.now ?? (() => performance.now()))();
    if (!done && now - this.#progressAt < BETWEEN_PROGRESS_MS) return;
    this.#progressAt = now;
    const { rows, points } = this.#report;
    this.#onProgress({ phase, rows, points });
  }
}

function nothingMends(table: string): PgStreamError {
  return new PgStreamError(`Cannot repair the store of ${table} while the stream is not running`, {
    kind: "not-running",
    hint: "Call start() first, and do not wait for it: what is mended goes through the stream.",
  });
}

function mustHave(sink: RowSink, method: keyof RowSink, table: string): void {
  if (typeof sink[method] === "function") return;
  throw new PgStreamError(`The sink of ${table} has no ${method}(): verify() needs it`, {
    kind: "unsupported",
    hint: "Add the method to the sink, as RowSink describes it, or use a sink that has it",
  });
}
