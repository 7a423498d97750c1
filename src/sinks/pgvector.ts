/**
 * A sink that writes to Postgres with pgvector, through postgres.js.
 *
 * ```sql
 * create table embeddings (id text primary key, vector vector(384), payload jsonb);
 * ```
 *
 * @example
 * ```ts
 * import { PgStream } from "@pgstream/pgstream";
 * import { PgVectorSink } from "@pgstream/pgstream/pgvector";
 *
 * const stream = new PgStream({ dsn: "postgresql://localhost/app" });
 * stream.watch("documents").sink(
 *   new PgVectorSink({ dsn: "postgresql://localhost/vectors", createTable: { dimensions: 384 } }),
 * );
 * ```
 *
 * @module
 */

import type postgres from "postgres";
import { formatTableName, parseTableName, quoteTableName, type TableName } from "../table_name.ts";
import { formatVector } from "../values/vector.ts";
import { formatPayload } from "./payload.ts";
import { connectLazily } from "./pgvector_dsn.ts";
import { optionsError, pgVectorError } from "./pgvector_errors.ts";
import {
  checkVector,
  dimensionError,
  type PointId,
  pointIdText,
  type SearchHit,
  Sink,
  SinkError,
  type VectorPoint,
} from "./sink.ts";

/** What the sink uses of a `postgres()` of postgres.js; a transaction's `sql` has it too. */
export interface PgVectorSql {
  /** Runs a statement with its parameters as text. */
  unsafe(
    query: string,
    parameters?: string[],
    options?: { prepare?: boolean },
  ): PromiseLike<unknown> & { values(): PromiseLike<readonly unknown[]> };
}

/** Where the vectors are. Exactly one of `dsn` and `sql` is to be given. */
export interface PgVectorSinkOptions {
  /**
   * `postgresql://user:password@host:port/database`. The connection is made when it is needed.
   *
   * Parameters after `?` are those of postgres.js and settings of the server. What only libpq
   * understands (`gssencmode`, `keepalives`, `sslcert`, …) is left out. So is
   * `channel_binding=require`: postgres.js cannot bind to the channel, so say
   * `sslmode=verify-full`, which verifies the server by its certificate. A file in `sslrootcert` is
   * not read: the certificate is verified by the authorities that the runtime trusts; for one of
   * your own pass `sql: postgres(dsn, { ssl: { ca } })`.
   */
  dsn?: string;
  /** A `postgres()` of your own. The sink never closes it. */
  sql?: PgVectorSql;
  /**
   * Default `"embeddings"`: in the schema `public`, where none is written. Names are literal, never
   * folded; split at the first dot outside double quotes.
   */
  table?: string;
  /**
   * Makes the extension and the table where they are missing, at the first use. Needs the right to
   * create them only then. The schema must exist.
   */
  createTable?: { dimensions: number };
  /** False behind a pooler in transaction mode, such as PgBouncer. Default true. */
  prepare?: boolean;
}

/** A statement is kept to about this many characters; more points go into further statements. */
const MAX_STATEMENT_CHARS = 4 * 1024 * 1024;

/** How long `close()` waits for writes under way. */
const CLOSE_TIMEOUT_MS = 5_000;

/** Any number will do, so long as all processes take the same: only one at a time creates things. */
const CREATE_LOCK = 7_239_441_906_113n;

/**
 * Writes points to a table with the columns `id`, `vector` and `payload`. Many points are one
 * statement. A missing payload is stored as `{}`.
 *
 * Rows are sent as JSON and read by the server as rows of the table itself, so that a column may have
 * another type than the table of `createTable`: `halfvec`, or an `id` that is `bigint` or `uuid`.
 */
export class PgVectorSink extends Sink {
  readonly #sql: PgVectorSql;
  readonly #own: postgres.Sql | undefined;
  readonly #name: TableName;
  readonly #table: string;
  readonly #dimensions: number | undefined;
  readonly #prepare: boolean;
  readonly #running = new Set<Promise<unknown>>();
  #created: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  /** Nothing is connected to yet. @throws {SinkError} `sink-options`. */
  constructor(options: PgVectorSinkOptions) {
    super();
    if ((options.dsn === undefined) === (options.sql === undefined)) {
      throw optionsError("PgVectorSink needs either dsn or sql", "Pass one of them");
    }
    const dimensions = options.createTable?.dimensions;
    if (dimensions !== undefined && !(Number.isInteger(dimensions) && dimensions > 0)) {
      throw optionsError("createTable.dimensions is no positive integer", "Pass the model's size");
    }
    this.#name = readTableName(options.table ?? "embeddings");
    this.#table = quoteTableName(this.#name);
    this.#dimensions = dimensions;
    this.#prepare = options.prepare ?? true;
    if (options.dsn !== undefined) this.#own = connectLazily(options.dsn);
    this.#sql = options.sql ?? this.#own!;
  }

  /** Stores one point. @throws {SinkError} */
  override upsert(point: VectorPoint): Promise<void> {
    return this.upsertMany([point]);
  }

  /** Removes one point; a missing id is no error. @throws {SinkError} */
  override delete(id: PointId): Promise<void> {
    return this.deleteMany([id]);
  }

  /**
   * Stores many points in one statement (several, one after the other, above 4 MB). Of two points
   * with one id the last wins.
   *
   * @throws {SinkError} before anything is sent, where a point cannot be stored.
   */
  override async upsertMany(points: readonly VectorPoint[]): Promise<void> {
    // Postgres refuses a statement that would write one row twice (21000).
    const rows = new Map<string, string>();
    for (const point of points) {
      checkVector(point.vector, "pgvector");
      const id = idText(point.id);
      const payload = formatPayload(point.payload, "pgvector");
      rows.delete(id);
      rows.set(
        id,
        `{"id":${JSON.stringify(id)},"vector":"${
          formatVector(point.vector)
        }","payload":${payload}}`,
      );
    }
    await this.#write(
      `insert into ${this.#table} (id, vector, payload)
       select id, vector, payload from json_populate_recordset(null::${this.#table}, $1::text::json)
       on conflict (id) do update set vector = excluded.vector, payload = excluded.payload`,
      rows.values(),
    );
  }

  /** Removes many points in one statement. @throws {SinkError} */
  override async deleteMany(ids: readonly PointId[]): Promise<void> {
    const rows = new Set(ids.map((id) => `{"id":${JSON.stringify(idText(id))}}`));
    await this.#write(
      `delete from ${this.#table} where id in
       (select id from json_populate_recordset(null::${this.#table}, $1::text::json))`,
      rows,
    );
  }

  /**
   * The nearest points by cosine distance (`<=>`), the nearest first. The score is the cosine
   * similarity. pgvector's operators must be on the connection's `search_path`.
   *
   * @throws {SinkError}
   */
  async search(
    vector: VectorPoint["vector"],
    options: { limit?: number } = {},
  ): Promise<SearchHit[]> {
    checkVector(vector, "pgvector");
    const rows = await this.#perform(() =>
      this.#execute(
        `select id::text, (1 - (vector <=> $1))::text, payload::text
         from ${this.#table} order by vector <=> $1 limit $2::text::bigint`,
        [formatVector(vector), String(options.limit ?? 10)],
      )
    );
    return rows.map((row) => {
      const [id, score, payload] = row as [string, string, string | null];
      // A vector of zeroes has no direction: NaN.
      return { id, score: Number(score) || 0, payload: JSON.parse(payload ?? "{}") ?? {} };
    });
  }

  /** Ends the connection that the sink made, after the writes under way; never a given `sql`. */
  override close(): Promise<void> {
    return this.#closed ??= this.#end();
  }

  async #end(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const deadline = new Promise((resolve) => timer = setTimeout(resolve, CLOSE_TIMEOUT_MS));
    await Promise.race([Promise.allSettled(this.#running), deadline]);
    clearTimeout(timer);
    // Not by a timeout of postgres.js: it waits all of it where a connection was lost before.
    await this.#own?.end({ timeout: 0 });
  }

  /** Sends rows of JSON as the one parameter of `statement`, in parts where they are long. */
  #write(statement: string, rows: Iterable<string>): Promise<void> {
    return this.#perform(async () => {
      for (const part of inParts(rows)) await this.#execute(statement, [`[${part.join(",")}]`]);
    });
  }

  async #perform<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed !== undefined) {
      throw new SinkError("The sink was closed", {
        kind: "sink-closed",
        sink: "pgvector",
        hint: "Make a new PgVectorSink",
      });
    }
    const running = this.#ready().then(work);
    this.#running.add(running);
    try {
      return await running;
    } catch (error) {
      throw pgVectorError(error, formatTableName(this.#name));
    } finally {
      this.#running.delete(running);
    }
  }

  async #execute(statement: string, parameters: string[]): Promise<readonly unknown[]> {
    return await this.#sql.unsafe(statement, parameters, { prepare: this.#prepare }).values();
  }

  /** Where the sink is to create its table: resolves when that is there. */
  async #ready(): Promise<void> {
    if (this.#dimensions === undefined) return;
    await (this.#created ??= this.#create(this.#dimensions));
  }

  async #create(dimensions: number): Promise<void> {
    try {
      const [found] = await this.#execute(
        `select t.oid::text, a.atttypmod::text, e.oid::text
         from (select pg_catalog.to_regclass($1::text) as oid) t
         left join pg_catalog.pg_attribute a
           on a.attrelid = t.oid and a.attname = 'vector' and not a.attisdropped
         left join pg_catalog.pg_extension e on e.extname = 'vector'`,
        [this.#table],
      ) as [table: string | null, modifier: string | null, extension: string | null][];
      const [table, modifier, extension] = found!;
      if (table === null) {
        // One message, hence one transaction: the lock is let go when all of it is there.
        await this.#sql.unsafe(
          `select pg_catalog.pg_advisory_xact_lock(${CREATE_LOCK});
           ${extension === null ? "create extension if not exists vector;" : ""}
           create table if not exists ${this.#table}
             (id text primary key, vector vector(${dimensions}) not null, payload jsonb not null)`,
        );
        return;
      }
      // The modifier of a vector's type is its dimension, −1 where it was declared without one.
      const declared = Number(modifier ?? -1);
      if (declared !== -1 && declared !== dimensions) {
        throw dimensionError(
          "pgvector",
          `Table ${formatTableName(this.#name)}`,
          declared,
          dimensions,
        );
      }
    } catch (error) {
      this.#created = undefined;
      throw error;
    }
  }
}

function* inParts(rows: Iterable<string>): Generator<string[]> {
  let part: string[] = [];
  let chars = 0;
  for (const row of rows) {
    if (part.length > 0 && chars + row.length > MAX_STATEMENT_CHARS) {
      yield part;
      part = [];
      chars = 0;
    }
    part.push(row);
    chars += row.length;
  }
  if (part.length > 0) yield part;
}

function idText(id: PointId): string {
  const text = pointIdText(id, "pgvector");
  if (!text.includes("\0")) return text;
  throw new SinkError("A point's id holds U+0000, which Postgres cannot store in a text", {
    kind: "sink-id",
    sink: "pgvector",
    hint: "Leave the zero byte out of the id",
  });
}

function readTableName(table: string): TableName {
  try {
    return parseTableName(table);
  } catch (cause) {
    throw optionsError(
      `Cannot read the table's name ${JSON.stringify(table)}`,
      'Write "table" or "schema.table"; put a part that holds a dot or a quote in double quotes',
      cause,
    );
  }
}
