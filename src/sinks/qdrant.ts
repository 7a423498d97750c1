/**
 * A sink that writes to Qdrant, through its own client.
 *
 * @example
 * ```ts
 * import { PgStream } from "@pgstream/pgstream";
 * import { QdrantSink } from "@pgstream/pgstream/qdrant";
 *
 * const stream = new PgStream({ dsn: "postgresql://localhost/app" });
 * stream.watch("documents").sink(
 *   new QdrantSink({
 *     url: "http://localhost:6333",
 *     collectionName: "docs",
 *     createCollection: { size: 384, distance: "Cosine" },
 *   }),
 * );
 * ```
 *
 * @module
 */

import type { Finding } from "../finding.ts";
import { formatPayload } from "./payload.ts";
import {
  connectToQdrant,
  type QdrantIndexSchema,
  type QdrantPayload,
  type QdrantRecord,
  type QdrantSinkClient,
} from "./qdrant_client.ts";
import { QdrantCollection, type QdrantCreateCollection, WRITE } from "./qdrant_collection.ts";
import { GUARD_INDEXES, isRow, notLater, ROW_INDEXES, searchFilter } from "./qdrant_filters.ts";
import { qdrantId } from "./qdrant_ids.ts";
import { inParts, maxPointBytes, sendParts, type Sized } from "./qdrant_parts.ts";
import {
  checkReserved,
  QDRANT_ID_PROPERTY,
  QDRANT_ROW_PROPERTY,
  readPoint,
  readRow,
  rowState,
} from "./qdrant_payload.ts";
import { readPoints, readVectors, writeRows } from "./qdrant_rows.ts";
import type {
  RowPage,
  RowState,
  RowVector,
  RowWrite,
  SearchOptions,
  SourcePosition,
} from "./rows.ts";
import {
  checkVector,
  type PointId,
  pointIdText,
  type SearchHit,
  Sink,
  SinkError,
  unreachableStore,
  type VectorPoint,
} from "./sink.ts";

export { QDRANT_ID_PROPERTY, QDRANT_ROW_PROPERTY };
export type { QdrantCreateCollection };
export type {
  QdrantCondition,
  QdrantDistance,
  QdrantFilter,
  QdrantIndexSchema,
  QdrantIndexType,
  QdrantOperation,
  QdrantPayload,
  QdrantPoint,
  QdrantRecord,
  QdrantSinkClient,
  QdrantVectorParams,
  QdrantWrite,
} from "./qdrant_client.ts";

/** Where the vectors are. Exactly one of `url` and `client` is to be given. */
export interface QdrantSinkOptions {
  /**
   * `https://host:port/path`. Without a port: 6333, or that of the scheme where there is a path, since
   * then a proxy stands before the server.
   */
  url?: string;
  /** A client of your own; make it with `checkCompatibility: false` to spare a request. */
  client?: QdrantSinkClient;
  /** Default `"pgstream"`. */
  collectionName?: string;
  /**
   * Which of the collection's named vectors is written and searched. A write replaces the whole point: it has no
   * other vector then. Default: the one vector that has no name.
   */
  vectorName?: string;
  /** Sent with each request to `url`. */
  apiKey?: string;
  /** How long a request may take. Milliseconds, default 30,000. For `url` only. */
  timeoutMs?: number;
  /** Makes the collection at the first use, where it is missing. One that is there must be the same. */
  createCollection?: QdrantCreateCollection;
  /**
   * Indexes of the payload that `prepareRows()` makes beside the sink's own, where they are missing, by path:
   * `{ author_id: "integer", "address.city": "keyword" }`. What searches filter by is fast with them, and in a
   * collection in strict mode possible. Default: none.
   */
  payloadIndexes?: Record<string, QdrantIndexSchema>;
}

const MAX_IDS = 10_000;

/** A point whose vector is put into numbers when it is its turn. */
interface SizedPoint extends Sized {
  id: string | number;
  vector: VectorPoint["vector"];
  payload: QdrantPayload;
}

/**
 * Writes points to a collection of Qdrant. Each write waits until it is applied.
 *
 * Qdrant's ids are unsigned integers and UUIDs. A UUID stays as it is, in lower case, and so does a
 * whole number up to 2^53 − 1 (`"7"`, `7` and `7n` are one id). Any other id becomes a UUIDv5 of its
 * text, and the text is kept in the payload as `pgstream_id`; what is known of a row, as `pgstream`.
 *
 * Rows, as `sync` writes them, are guarded: Qdrant itself leaves a point as it is where the write comes from an
 * earlier position of the same system than what is there (`update_filter`, Qdrant 1.16; a server before that
 * passes over it, and what is written last wins). Qdrant has no transactions, and so no position of a stream is
 * kept: what was not confirmed is written again, with the same result. What the guard cannot see:
 *
 * - a row that is not there any more: an older write of it brings it back, until its removal comes again;
 * - two processes that write one row at the same moment: the one that is late may add points to a row that has
 *   fewer by then, or find the point whose payload it changes gone. The next write of the row mends the first.
 */
export class QdrantSink extends Sink {
  readonly #collection: QdrantCollection;
  readonly #name: string;
  readonly #payloadIndexes: Record<string, QdrantIndexSchema>;
  #closed = false;

  /** Nothing is requested yet. @throws {SinkError} `sink-options`. */
  constructor(options: QdrantSinkOptions) {
    super();
    if ((options.url === undefined) === (options.client === undefined)) {
      throw optionsError("QdrantSink needs either url or client", "Pass one of them");
    }
    this.#name = options.collectionName ?? "pgstream";
    this.#collection = new QdrantCollection({
      client: options.client ?? connect(options),
      name: this.#name,
      vectorName: options.vectorName,
      create: options.createCollection,
    });
    this.#payloadIndexes = options.payloadIndexes ?? {};
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
   * Stores many points in one request; above 240 of them or 16 MB in several, two at a time, of which each is done
   * or not. Of two points with one id the last wins. A row's point that is replaced is a plain one from then on.
   *
   * @throws {SinkError} before anything is sent, where a point cannot be stored.
   */
  override async upsertMany(points: readonly VectorPoint[]): Promise<void> {
    this.#assertOpen();
    const latest = new Map<string | number, SizedPoint>();
    for (const point of points) {
      checkVector(point.vector, "qdrant");
      const text = pointIdText(point.id, "qdrant");
      const { id, derived } = await qdrantId(text);
      const json = formatPayload(point.payload, "qdrant");
      const payload = JSON.parse(json);
      checkReserved(payload, [QDRANT_ROW_PROPERTY]);
      if (derived) payload[QDRANT_ID_PROPERTY] = text;
      latest.set(id, {
        id,
        vector: point.vector.slice(),
        payload,
        maxBytes: maxPointBytes(point.vector.length, json.length + 2 * text.length),
      });
    }
    await sendParts(inParts(latest.values()), async (part) => {
      const points = part.map(({ id, vector, payload }) => ({
        id,
        vector: this.#collection.vector(vector),
        payload,
      }));
      await this.#collection.write((client, name) => client.upsert(name, { ...WRITE, points }));
    });
  }

  /** Removes many points in one request. @throws {SinkError} */
  override async deleteMany(ids: readonly PointId[]): Promise<void> {
    this.#assertOpen();
    const unique = new Set<string | number>();
    for (const id of ids) unique.add((await qdrantId(pointIdText(id, "qdrant"))).id);
    const all = [...unique];
    for (let start = 0; start < all.length; start += MAX_IDS) {
      const points = all.slice(start, start + MAX_IDS);
      await this.#collection.write((client, name) => client.delete(name, { ...WRITE, points }));
    }
  }

  /**
   * The nearest points, the nearest first. The score is Qdrant's: the greater the nearer for `Cosine`
   * and `Dot`, the smaller the nearer for `Euclid` and `Manhattan`. A filter by a property that is a list
   * finds points that have the value in it.
   *
   * @throws {SinkError}
   */
  async search(
    vector: VectorPoint["vector"],
    options: SearchOptions = {},
  ): Promise<SearchHit[]> {
    this.#assertOpen();
    checkVector(vector, "qdrant");
    const filter = searchFilter(options);
    const { points } = await this.#collection.run((client, name) =>
      client.query(name, {
        query: Array.from(vector),
        ...this.#collection.using(),
        ...(filter === undefined ? {} : { filter }),
        limit: options.limit ?? 10,
        with_payload: true,
      })
    );
    return await Promise.all(points.map(async ({ id, score, payload }) => {
      const point = await readPoint(id, payload ?? {});
      return { id: point.id, score, payload: point.payload };
    }));
  }

  /**
   * Looks whether the store can take what is written to it, and changes nothing: the collection, its vectors.
   *
   * @returns what was found; that the store cannot be asked is a finding, too
   */
  async inspect(): Promise<Finding[]> {
    try {
      return await this.#collection.inspect();
    } catch (error) {
      return [unreachableStore("qdrant", this.#name, error)];
    }
  }

  /**
   * Makes the payload indexes by which rows are found, and those of `payloadIndexes`, where they are missing:
   * also in a collection of your own, since without them each of these filters reads all points.
   *
   * @throws {SinkError} that says what is missing, and what to run, where the sink may not make one.
   */
  async prepareRows(): Promise<void> {
    this.#assertOpen();
    await this.#collection.prepareIndexes(
      { ...this.#payloadIndexes, ...ROW_INDEXES },
      GUARD_INDEXES,
    );
  }

  /**
   * Writes rows in one request; above 240 points or 16 MB in several, two at a time, none of which has a part of
   * another's row. Rows of several points, and payloads whose vectors are there, cost one to read before.
   *
   * @throws {SinkError} before anything is sent, where a point cannot be stored; `sink-unconfirmed` where a
   * vector that was said to be there is not.
   */
  async apply(rows: readonly RowWrite[]): Promise<void> {
    this.#assertOpen();
    await writeRows(this.#collection, rows);
  }

  /** What there is under these ids of rows; plain points are left out. In requests of 1,000. @throws {SinkError} */
  async fingerprints(ids: readonly string[]): Promise<Map<string, RowState>> {
    this.#assertOpen();
    const unique = await Promise.all(
      [...new Set(ids)].map(async (id) => (await qdrantId(id)).id),
    );
    const states = await rowStates(await readPoints(this.#collection, unique, true));
    return new Map(states.map((state) => [state.id, state]));
  }

  /** The vectors of these points of rows, as Qdrant has them: normalised for `Cosine`. @throws {SinkError} */
  async vectors(ids: readonly string[]): Promise<Map<string, RowVector>> {
    this.#assertOpen();
    return await readVectors(this.#collection, ids);
  }

  /** Points of a table, in the order of their ids in Qdrant. @throws {SinkError} */
  async scan(
    table: string,
    { after, limit }: { after: string | null; limit: number },
  ): Promise<RowPage> {
    this.#assertOpen();
    const { points, next_page_offset: next } = await this.#collection.run((client, name) =>
      client.scroll(name, {
        filter: { must: [isRow("table", table)] },
        limit,
        ...(after === null ? {} : { offset: after }),
        with_payload: true,
        with_vector: false,
      })
    );
    // Ids of rows' points are UUIDs.
    return { points: await rowStates(points), next: next == null ? null : String(next) };
  }

  /** Removes all points of a table but those from a later position of the same system. @throws {SinkError} */
  async deleteTable(table: string, position: SourcePosition): Promise<void> {
    this.#assertOpen();
    const filter = { ...notLater(position), must: [isRow("table", table)] };
    await this.#collection.write((client, name) => client.delete(name, { ...WRITE, filter }));
  }

  /** The model of any point of the table that was made by another one. @throws {SinkError} */
  async otherModel(table: string, model: string): Promise<string | null> {
    this.#assertOpen();
    const { points } = await this.#collection.run((client, name) =>
      client.scroll(name, {
        filter: { must: [isRow("table", table)], must_not: [isRow("model", model)] },
        limit: 1,
        with_payload: [QDRANT_ROW_PROPERTY],
        with_vector: false,
      })
    );
    return readRow(points[0]?.payload ?? {})?.model ?? null;
  }

  /** Writes under way go on; nothing is held open: idle connections close by themselves. */
  override close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }

  #assertOpen(): void {
    if (!this.#closed) return;
    throw new SinkError("The sink was closed", {
      kind: "sink-closed",
      sink: "qdrant",
      hint: "Make a new QdrantSink",
    });
  }
}

async function rowStates(records: readonly QdrantRecord[]): Promise<RowState[]> {
  const points = await Promise.all(records.map(({ id, payload }) => readPoint(id, payload ?? {})));
  return points.flatMap((point) => point.row === null ? [] : [rowState(point, point.row)]);
}

function connect({ url = "", apiKey, timeoutMs = 30_000 }: QdrantSinkOptions): QdrantSinkClient {
  const client = connectToQdrant(url, timeoutMs, apiKey);
  if (client !== null) return client;
  // The url is not repeated: it may hold a password.
  throw optionsError(
    "Cannot read the url of Qdrant",
    "Write it as http://host:6333 or https://host/path; credentials go into apiKey",
  );
}

function optionsError(message: string, hint: string): SinkError {
  return new SinkError(message, { kind: "sink-options", sink: "qdrant", hint });
}
