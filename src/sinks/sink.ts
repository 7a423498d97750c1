/** The contract of a sink: where vectors go. */

import type { Finding } from "../finding.ts";
import { PgStreamError, type PgStreamErrorOptions } from "../errors.ts";
import { vectorFault } from "../values/vector.ts";
import type { RowSink, SearchOptions } from "./rows.ts";

/**
 * The id of a point. Its text is what counts: `"7"`, `7` and `7n` are one id; `"007"` is another.
 * A number must be a safe integer.
 */
export type PointId = string | number | bigint;

/** A vector, the id under which it is stored, and what is stored beside it. */
export interface VectorPoint {
  /** Names the point; storing another under it replaces it. */
  id: PointId;
  /** Finite numbers, at least one. Read during the call; never kept, never changed. */
  vector: readonly number[] | Float32Array;
  /**
   * Stored as JSON; default `{}`. A `bigint` becomes a number where that is exact, else text; a
   * `Date` its ISO text; NaN and the infinities text; bytes `\x…` in hex; `undefined` is left out.
   */
  payload?: Record<string, unknown>;
}

/** A point that a search found. */
export interface SearchHit {
  /** The id's text, as it was given. */
  id: string;
  /** How near it is: cosine similarity, from −1 to 1, unless the store was told to measure otherwise. */
  score: number;
  /** As the store gives it back. */
  payload: Record<string, unknown>;
}

/**
 * What a stream needs of a store: two methods. Each optional one switches something on; those of `RowSink`
 * are what `sync` does more with.
 */
export interface SinkLike extends RowSink {
  /** Stores a point in place of the one with its id, whole: nothing of the old payload is left. */
  upsert(point: VectorPoint): Promise<unknown>;
  /** Removes a point. A missing id is no error. */
  delete(id: PointId): Promise<unknown>;
  /** As `upsert` one after the other: of two points with one id the last wins. */
  upsertMany?(points: readonly VectorPoint[]): Promise<unknown>;
  /** As `delete` one after the other. */
  deleteMany?(ids: readonly PointId[]): Promise<unknown>;
  /** The nearest points, the nearest first. */
  search?(vector: VectorPoint["vector"], options?: SearchOptions): Promise<SearchHit[]>;
  /** Looks whether the store can take what is written to it, and changes nothing. */
  inspect?(): Promise<Finding[]>;
  /** Lets go of what the sink opened itself. May be called twice. */
  close?(): Promise<unknown>;
}

/**
 * The base class for custom sinks: everything but `upsert` and `delete` has a default. A method
 * returns when the write is durable; what it throws goes to the stream, which tries again where the
 * error is a `PgStreamError` with `retryable`.
 *
 * @example
 * ```ts
 * class ConsoleSink extends Sink {
 *   async upsert(point: VectorPoint) {
 *     console.log("upsert", pointIdText(point.id), point.vector.length);
 *   }
 *   async delete(id: PointId) {
 *     console.log("delete", pointIdText(id));
 *   }
 * }
 * ```
 */
export abstract class Sink implements SinkLike, AsyncDisposable {
  /** Stores a point in place of the one with its id, whole: nothing of the old payload is left. */
  abstract upsert(point: VectorPoint): Promise<unknown>;

  /** Removes a point. A missing id is no error. */
  abstract delete(id: PointId): Promise<unknown>;

  /** Stores the points in order. Default: one by one. */
  async upsertMany(points: readonly VectorPoint[]): Promise<unknown> {
    for (const point of points) await this.upsert(point);
    return;
  }

  /** Removes the points in order. Default: one by one. */
  async deleteMany(ids: readonly PointId[]): Promise<unknown> {
    for (const id of ids) await this.delete(id);
    return;
  }

  /** Lets go of what the sink opened itself. May be called twice. Default: nothing. */
  close(): Promise<unknown> {
    return Promise.resolve();
  }

  /** The same as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What a `SinkError` is made of, beside its message. */
export interface SinkErrorOptions extends PgStreamErrorOptions {
  /** The store's kind: `"pgvector"`, `"qdrant"`, `"memory"`. */
  sink: string;
  /** The server's own code: an SQLSTATE, an HTTP status, a system error such as `ECONNREFUSED`. */
  code?: string;
  /** Dimensions that the store takes, where `kind` is `"sink-dimension"`. */
  expected?: number;
  /** Dimensions that it was given. */
  got?: number;
  /** How long the store asked to be left alone. Milliseconds. */
  retryAfterMs?: number;
}

/**
 * A sink could not do what it was asked to. Kinds:
 *
 * | kind | what happened |
 * |---|---|
 * | `sink-options` | options that contradict each other, or that cannot be read |
 * | `sink-closed` | used after `close()` |
 * | `sink-id`, `sink-vector`, `sink-payload` | a point that cannot be stored; nothing was sent |
 * | `sink-dimension` | a vector with another number of dimensions than the store's |
 * | `sink-extension-missing`, `sink-table-missing`, `sink-table-shape` | pgvector: to be created or mended |
 * | `sink-collection-missing`, `sink-collection-mismatch` | Qdrant: to be created or mended |
 * | `sink-unreachable` | no connection, or it was lost: retryable |
 * | `sink-overloaded` | the store asks for patience: retryable |
 * | `sink-unconfirmed` | the store did not say that the write is done: retryable |
 * | `sink-unauthorized` | wrong credentials, or a privilege is missing |
 * | `sink-rejected` | anything else that the store refused |
 *
 * Neither message nor `cause` holds a password, a key or a value of a row.
 */
export class SinkError extends PgStreamError {
  /** `"SinkError"`. */
  override name = "SinkError";
  /** The store's kind: `"pgvector"`, `"qdrant"`, `"memory"`. */
  readonly sink: string;
  /** The server's own code: an SQLSTATE, an HTTP status, a system error such as `ECONNREFUSED`. */
  readonly code?: string;
  /** Dimensions that the store takes, where `kind` is `"sink-dimension"`. */
  readonly expected?: number;
  /** Dimensions that it was given. */
  readonly got?: number;
  /** How long the store asked to be left alone. Milliseconds. */
  readonly retryAfterMs?: number;

  /** The message names the store and the thing; the way out goes into `options.hint`. */
  constructor(message: string, options: SinkErrorOptions) {
    super(message, options);
    this.sink = options.sink;
    if (options.code !== undefined) this.code = options.code;
    if (options.expected !== undefined) this.expected = options.expected;
    if (options.got !== undefined) this.got = options.got;
    if (options.retryAfterMs !== undefined) this.retryAfterMs = options.retryAfterMs;
  }
}

/** The finding for a store that cannot be asked. */
export function unreachableStore(sink: string, subject: string, error: unknown): Finding {
  if (!(error instanceof SinkError)) throw error;
  const { summary, hint = "Look at the store's log" } = error;
  return { check: `${sink}-connection`, level: "problem", subject, message: summary, fix: hint };
}

/**
 * The one text of an id: `"7"` for `"7"`, `7` and `7n`.
 *
 * @throws {SinkError} `sink-id` where a number is not a safe integer, since it is rounded already.
 */
export function pointIdText(id: PointId, sink = "sink"): string {
  if (typeof id === "string" || typeof id === "bigint") return String(id);
  if (Number.isSafeInteger(id)) return String(id);
  throw new SinkError(
    typeof id === "number"
      ? "A point's id is a number, but not a safe integer"
      : `A point's id is of type ${id === null ? "null" : typeof id}`,
    {
      kind: "sink-id",
      sink,
      hint: "Give the id as text, or as a bigint; event.key is always text",
    },
  );
}

/**
 * Refuses a vector that no store can hold.
 *
 * @throws {SinkError} `sink-vector`, naming the element by its place.
 */
export function checkVector(vector: VectorPoint["vector"], sink: string): void {
  const fault = vectorFault(vector);
  if (fault === null) return;
  throw new SinkError(`A vector cannot be stored: ${fault}`, {
    kind: "sink-vector",
    sink,
    hint: "Look at what the embedding model returned, and whether it was awaited",
  });
}

/** The error for a vector whose length is not the store's. */
export function dimensionError(
  sink: string,
  store: string,
  expected: number,
  got: number,
  code?: string,
): SinkError {
  return new SinkError(`${store} takes vectors of ${expected} dimensions, not of ${got}`, {
    kind: "sink-dimension",
    sink,
    expected,
    got,
    hint: "Use the embedding model that the store was made for, or a store of the other size",
    ...(code === undefined ? {} : { code }),
  });
}
