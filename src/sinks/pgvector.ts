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

import { parseTableName, type TableName } from "../table_name.ts";
import type { Finding } from "../finding.ts";
import { formatPayload } from "./payload.ts";
import { PgVectorConnection, type PgVectorSql, type Run } from "./pgvector_connection.ts";
import { optionsError } from "./pgvector_errors.ts";
import { createIndex, type HnswIndex, readIndex } from "./pgvector_index.ts";
import {
  formatId,
  formatIds,
  givenPoints,
  inParts,
  inVectorParts,
  type PointsPart,
  runParts,
  vectorFormat,
} from "./pgvector_points.ts";
import { PgVectorRows } from "./pgvector_rows.ts";
import { searchPoints } from "./pgvector_search.ts";
import {
  hasRowColumns,
  type PgVectorType,
  prepareTable,
  ROW_COLUMNS,
  type TableNames,
  tableNames,
  type TableShape,
  type TableState,
} from "./pgvector_table.ts";
import type {
  RowPage,
  RowSink,
  RowState,
  RowVector,
  RowWrite,
  SearchOptions,
  SourcePosition,
  StoreLocation,
  StreamPosition,
} from "./rows.ts";
import {
  checkVector,
  type PointId,
  type SearchHit,
  Sink,
  unreachableStore,
  type VectorPoint,
} from "./sink.ts";

export type { PgVectorSql } from "./pgvector_connection.ts";
export type { HnswIndex, PgVectorDistance } from "./pgvector_index.ts";
export type { PgVectorType } from "./pgvector_table.ts";

/** What the sink makes. */
export interface CreateTableOptions {
  /** Of the model. */
  dimensions: number;
  /**
   * Of the column: `halfvec` takes half the room, `sparsevec` leaves out what is 0. Default `"vector"` for a new
   * table; one that is there is taken as it is.
   */
  type?: PgVectorType;
  /**
   * The index that `createIndex()` makes, and `sync` after it filled the table for the first time. Default: none,
   * and a search reads the whole table.
   */
  index?: "hnsw" | HnswIndex;
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
  /** A `postgres()` of your own, or the `sql` of a transaction. The sink never closes it. */
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
  createTable?: CreateTableOptions;
  /** False behind a pooler in transaction mode, such as PgBouncer. Default true. */
  prepare?: boolean;
}

/**
 * Writes points to a table with the columns `id`, `vector` and `payload`. Many points are one
 * statement. A missing payload is stored as `{}`.
 *
 * Rows are sent as JSON and read by the server as rows of the table itself, so that a column may have
 * another type than the table of `createTable`: `halfvec`, or an `id` that is `bigint` or `uuid`.
 *
 * `sync` writes with `apply` and keeps what it needs in further columns of the table, null for other points, and in
 * a table `pgstream_positions` in the same schema. `prepareRows` makes both, or says how.
 */
export class PgVectorSink extends Sink implements RowSink {
  readonly #connection: PgVectorConnection;
  readonly #names: TableNames;
  readonly #shape: TableShape | undefined;
  readonly #index: HnswIndex | undefined;
  readonly #rows: PgVectorRows;
  #prepared: { rows: boolean; state: Promise<TableState> } | undefined;

  /** Nothing is connected to yet. @throws {SinkError} `sink-options`. */
  constructor(options: PgVectorSinkOptions) {
    super();
    this.#names = tableNames(readTableName(options.table ?? "embeddings"));
    if (options.createTable !== undefined) {
      const { dimensions, type, index } = options.createTable;
      if (!(Number.isInteger(dimensions) && dimensions > 0)) {
        throw optionsError(
          "createTable.dimensions is no positive integer",
          "Pass the model's size",
        );
      }
      if (type !== undefined && !["vector", "halfvec", "sparsevec"].includes(type)) {
        throw optionsError(
          "createTable.type is none of pgvector's",
          'Pass "vector", "halfvec" or "sparsevec"',
        );
      }
      this.#shape = { dimensions, type };
      if (index !== undefined) this.#index = readIndex(index, type ?? "vector", dimensions);
    }
    this.#connection = new PgVectorConnection(options, this.#names.text);
    this.#rows = new PgVectorRows(this.#connection, this.#names);
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
   * Stores many points, all or none, the more of them in one call the faster. Of two points with one id the last
   * wins. A point that was a row's is one no more.
   *
   * @throws {SinkError} before anything is sent, where a point cannot be stored.
   */
  override async upsertMany(points: readonly VectorPoint[]): Promise<void> {
    // Postgres refuses a statement that would write one row twice (21000).
    const checked = new Map<string, { vector: VectorPoint["vector"]; payload: string }>();
    for (const point of points) {
      checkVector(point.vector, "pgvector");
      const id = formatId(point.id);
      checked.delete(id);
      checked.set(id, {
        vector: point.vector.slice(),
        payload: formatPayload(point.payload, "pgvector"),
      });
    }
    await this.#perform(false, async (state) => {
      const { vectors } = this.#names;
      const format = vectorFormat(state);
      // Nor may a fingerprint be left that is not of this vector.
      const cleared = hasRowColumns(state)
        ? Object.keys(ROW_COLUMNS).map((name) => `, ${name} = null`).join("")
        : "";
      const statement = (places: number) =>
        `insert into ${vectors} (id, vector, payload)
         select id, given_vector, payload from ${
          givenPoints(this.#names, places)
        } where id is not null
         on conflict (id) do update set vector = excluded.vector, payload = excluded.payload${cleared}`;
      const rows = function* () {
        for (const [id, { vector, payload }] of checked) {
          yield {
            json: [`{"id":${JSON.stringify(id)},"payload":${payload}}`],
            vectors: [format(vector)],
          };
        }
      };
      await this.#writeAll(statement, inVectorParts(rows()));
    });
  }

  /** Removes many points in one statement. @throws {SinkError} */
  override async deleteMany(ids: readonly PointId[]): Promise<void> {
    const rows = formatIds(ids);
    await this.#perform(false, () =>
      this.#write(
        `delete from ${this.#names.vectors} where id in
         (select id from json_populate_recordset(null::${this.#names.vectors}, $1::text::json))`,
        rows,
      ));
  }

  /**
   * The nearest points by the distance of `createTable.index`, by default cosine, the nearest first. The score is
   * greater for nearer: the cosine similarity; the distance times −1 for `l2`; the inner product for `ip`.
   * pgvector's operators must be on the connection's `search_path`.
   *
   * @throws {SinkError}
   */
  async search(
    vector: VectorPoint["vector"],
    options: SearchOptions = {},
  ): Promise<SearchHit[]> {
    checkVector(vector, "pgvector");
    const distance = this.#index?.distance ?? "cosine";
    return await this.#perform(
      options.table !== undefined,
      (state) => searchPoints(this.#connection, this.#names, state, distance, vector, options),
    );
  }

  /**
   * Makes the index of `createTable.index`, by default HNSW for cosine, where the table has none of its kind; one
   * that was not finished is made anew. Best when the table has been filled, and before it is searched. Writes go
   * on meanwhile, but not where `sql` is a transaction's.
   *
   * @throws {SinkError}
   */
  async createIndex(): Promise<void> {
    const index = this.#index ?? { type: "hnsw" };
    await this.#perform(false, () => createIndex(this.#connection, this.#names, index));
    // A search goes by what indexes there are.
    this.#prepared = undefined;
  }

  /**
   * Looks whether the store can take what is written to it, and changes nothing: extension, table, rights, index.
   *
   * @returns what was found; that the store cannot be asked is a finding, too
   */
  async inspect(): Promise<Finding[]> {
    const { inspectTable } = await import("./pgvector_inspect.ts");
    try {
      return await this.#connection.perform(() =>
        inspectTable(this.#connection, this.#names, this.#shape, this.#index)
      );
    } catch (error) {
      return [unreachableStore("pgvector", this.#names.text, error)];
    }
  }

  /**
   * Makes columns, indexes and the table of positions where they are missing, with `createTable`; checks them
   * without. Where they are there it needs no right to create.
   *
   * @throws {SinkError} `sink-table-shape` or another that says what is missing, with the statements to run.
   */
  async prepareRows(): Promise<void> {
    await this.#perform(true, () => Promise.resolve());
  }

  /**
   * Writes rows and the position in one transaction; a row of which there is something from a later position is
   * left as it is. Where a later position is stored already, nothing is done, and that is no error.
   *
   * @throws {SinkError} `sink-unconfirmed` where a vector that was said to be there is not: retryable.
   */
  async apply(rows: readonly RowWrite[], position: StreamPosition | null): Promise<void> {
    if (rows.length === 0 && position === null) return;
    await this.#perform(true, (state) => this.#rows.apply(state, rows, position));
  }

  /** The position that `apply` stored last. @throws {SinkError} */
  async position(source: { systemId: string; slotName: string }): Promise<StreamPosition | null> {
    return await this.#perform(true, () => this.#rows.position(source));
  }

  /** What there is under these ids of rows; plain points are left out. @throws {SinkError} */
  async fingerprints(ids: readonly string[]): Promise<Map<string, RowState>> {
    return await this.#perform(true, () => this.#rows.fingerprints(ids));
  }

  /** The vectors of these points of rows, as the table has them. @throws {SinkError} */
  async vectors(ids: readonly string[]): Promise<Map<string, RowVector>> {
    return await this.#perform(true, () => this.#rows.vectors(ids));
  }

  /** Points of a table, by key and chunk, keys as bytes sort. @throws {SinkError} */
  async scan(
    table: string,
    options: { after: string | null; limit: number },
  ): Promise<RowPage> {
    return await this.#perform(true, () => this.#rows.scan(table, options));
  }

  /** Removes all points of a table but those from a later position of the same system. @throws {SinkError} */
  async deleteTable(table: string, position: SourcePosition): Promise<void> {
    await this.#perform(true, () => this.#rows.deleteTable(table, position));
  }

  /** The model of any point of the table that was made by another one. @throws {SinkError} */
  async otherModel(table: string, model: string): Promise<string | null> {
    return await this.#perform(true, () => this.#rows.otherModel(table, model));
  }

  /** Makes the index of `createTable.index`, if it was given. @throws {SinkError} */
  async filled(_table: string): Promise<void> {
    if (this.#index !== undefined) await this.createIndex();
  }

  /** The database, and the tables that the sink writes to. @throws {SinkError} */
  async location(): Promise<StoreLocation> {
    const tables = [this.#names.text, this.#names.positionsText];
    return await this.#perform(false, async () => {
      const [row] = await this.#connection.run(
        `select current_database()::text, pg_catalog.has_function_privilege(
           'pg_catalog.pg_control_system()', 'execute')::text`,
      ) as [string, string][];
      const [database, mayAsk] = row!;
      const systemId = mayAsk === "true" ? await this.#systemId() : null;
      return { systemId, database, tables };
    });
  }

  /** Ends the connection that the sink made, after the writes under way; never a given `sql`. */
  override close(): Promise<void> {
    return this.#connection.close();
  }

  async #systemId(): Promise<string | null> {
    try {
      const [row] = await this.#connection.run(
        "select system_identifier::text from pg_catalog.pg_control_system()",
      ) as [string][];
      return row![0];
    } catch {
      // Some that only speak as Postgres does have no such thing.
      return null;
    }
  }

  /** Sends rows of JSON as the one parameter of `statement`, in parts where they are long. */
  async #write(statement: string, rows: Iterable<string>): Promise<void> {
    for (const part of inParts(rows)) await this.#connection.run(statement, [part]);
  }

  /** Writes parts of rows, each when it is needed; all of them are written, or none. */
  async #writeAll(
    statement: (places: number) => string,
    parts: Iterator<PointsPart>,
  ): Promise<void> {
    const write = (run: Run) => ({ places, parameters }: PointsPart) =>
      run(statement(places), parameters);
    const [first, second] = [parts.next(), parts.next()];
    if (first.done) return;
    if (second.done) return void await write(this.#connection.run)(first.value);
    const all = function* () {
      yield first.value;
      yield second.value;
      for (let part = parts.next(); !part.done; part = parts.next()) yield part.value;
    };
    await this.#connection.transaction(async (run) => {
      for await (const _ of runParts(write(run), all())) { /* It answers nothing. */ }
    });
  }

  /** Does `work` when the table is there, with `rows` also what rows need. */
  #perform<T>(rows: boolean, work: (state: TableState) => Promise<T>): Promise<T> {
    return this.#connection.perform(async () => await work(await this.#ready(rows)));
  }

  #ready(rows: boolean): Promise<TableState> {
    if (this.#prepared === undefined || (rows && !this.#prepared.rows)) {
      const state = prepareTable(this.#connection, this.#names, this.#shape, rows);
      const prepared = this.#prepared = { rows, state };
      const forget = () => {
        if (this.#prepared === prepared) this.#prepared = undefined;
      };
      state.then(({ exists }) => exists || forget(), forget);
    }
    return this.#prepared.state;
  }
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
