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

import { formatPayload } from "./payload.ts";
import {
  connectToQdrant,
  type QdrantDistance,
  type QdrantPayload,
  type QdrantPoint,
  type QdrantSinkClient,
  type QdrantWrite,
} from "./qdrant_client.ts";
import { qdrantError, saysAlreadyExists, saysMissing } from "./qdrant_errors.ts";
import { qdrantId } from "./qdrant_ids.ts";
import {
  checkVector,
  type PointId,
  pointIdText,
  type SearchHit,
  Sink,
  SinkError,
  type VectorPoint,
} from "./sink.ts";

export type { QdrantDistance, QdrantPayload, QdrantPoint, QdrantSinkClient, QdrantWrite };

/** Where the vectors are. Exactly one of `url` and `client` is to be given. */
export interface QdrantSinkOptions {
  /**
   * `https://host:port/path`. Without a port: 6333, or that of the scheme where there is a path, since
   * then a proxy stands before the server.
   */
  url?: string;
  /** A client of your own; make it with `checkCompatibility: false` to spare a request. */
  client?: QdrantSinkClient;
  /** Default `"pgstream"`. Its vectors have no name. */
  collectionName?: string;
  /** Sent with each request to `url`. */
  apiKey?: string;
  /** How long a request may take. Milliseconds, default 30,000. For `url` only. */
  timeoutMs?: number;
  /** Makes the collection at the first use, where it is missing. One that is there must be the same. */
  createCollection?: { size: number; distance: QdrantDistance };
}

/**
 * The property of a payload that holds an id which Qdrant cannot take as it is. It is there only for
 * such ids; a property of yours with this name gives way to it.
 */
export const QDRANT_ID_PROPERTY = "pgstream_id";

// Qdrant takes 32 MB a request. A number is at most 24 characters and a comma; what else there is of a
// point, its field names and a UUID, is in the half that is left free.
const MAX_REQUEST_BYTES = 16 * 1024 * 1024;
const MAX_NUMBER_BYTES = 25;
const MAX_IDS = 10_000;

/** Only what is durable and visible may be confirmed to Postgres, and in the order of its commits. */
const WRITE = { wait: true, ordering: "strong" } as const;

/** A point and how long it can be as JSON. */
interface SizedPoint {
  point: QdrantPoint;
  maxBytes: number;
}

/**
 * Writes points to a collection of Qdrant. Each write waits until it is applied.
 *
 * Qdrant's ids are unsigned integers and UUIDs. A UUID stays as it is, in lower case, and so does a
 * whole number up to 2^53 − 1 (`"7"`, `7` and `7n` are one id). Any other id becomes a UUIDv5 of its
 * text, and the text is kept in the payload as `pgstream_id`.
 */
export class QdrantSink extends Sink {
  readonly #client: QdrantSinkClient;
  readonly #collection: string;
  readonly #create: { size: number; distance: QdrantDistance } | undefined;
  #created: Promise<void> | undefined;
  #closed = false;

  /** Nothing is requested yet. @throws {SinkError} `sink-options`. */
  constructor(options: QdrantSinkOptions) {
    super();
    if ((options.url === undefined) === (options.client === undefined)) {
      throw optionsError("QdrantSink needs either url or client", "Pass one of them");
    }
    this.#client = options.client ?? connect(options);
    this.#collection = options.collectionName ?? "pgstream";
    this.#create = options.createCollection;
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
   * Stores many points in one request (several, one after the other, above 16 MB). Of two points with
   * one id the last wins.
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
      if (derived) payload[QDRANT_ID_PROPERTY] = text;
      latest.set(id, {
        point: { id, vector: Array.from(point.vector), payload },
        // A UTF-16 unit is at most three bytes of UTF-8; an id, too, may be long.
        maxBytes: point.vector.length * MAX_NUMBER_BYTES + (json.length + 2 * text.length) * 3,
      });
    }
    for (const part of inParts(latest.values())) {
      await this.#write(() => this.#client.upsert(this.#collection, { ...WRITE, points: part }));
    }
  }

  /** Removes many points in one request. @throws {SinkError} */
  override async deleteMany(ids: readonly PointId[]): Promise<void> {
    this.#assertOpen();
    const unique = new Set<string | number>();
    for (const id of ids) unique.add((await qdrantId(pointIdText(id, "qdrant"))).id);
    const points = [...unique];
    for (let start = 0; start < points.length; start += MAX_IDS) {
      const part = points.slice(start, start + MAX_IDS);
      await this.#write(() => this.#client.delete(this.#collection, { ...WRITE, points: part }));
    }
  }

  /**
   * The nearest points, the nearest first. The score is Qdrant's: the greater the nearer for `Cosine`
   * and `Dot`, the smaller the nearer for `Euclid` and `Manhattan`.
   *
   * @throws {SinkError}
   */
  async search(
    vector: VectorPoint["vector"],
    options: { limit?: number } = {},
  ): Promise<SearchHit[]> {
    this.#assertOpen();
    checkVector(vector, "qdrant");
    const { points } = await this.#run(() =>
      this.#client.query(this.#collection, {
        query: Array.from(vector),
        limit: options.limit ?? 10,
        with_payload: true,
      })
    );
    return await Promise.all(points.map(async ({ id, score, payload }) => ({
      score,
      ...await readId(id, payload ?? {}),
    })));
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

  async #write(request: () => Promise<{ status: string }>): Promise<void> {
    const { status } = await this.#run(request);
    if (status === "completed") return;
    throw new SinkError(`Collection "${this.#collection}": Qdrant left a write at "${status}"`, {
      kind: "sink-unconfirmed",
      sink: "qdrant",
      retryable: true,
      hint: "The server is overloaded, or something between it and the sink drops wait=true",
    });
  }

  async #run<T>(request: () => Promise<T>): Promise<T> {
    try {
      if (this.#create !== undefined) {
        this.#created ??= this.#ensureCollection(this.#create);
        await this.#created;
      }
      return await request();
    } catch (error) {
      throw qdrantError(error, this.#collection);
    }
  }

  async #ensureCollection(wanted: { size: number; distance: QdrantDistance }): Promise<void> {
    try {
      const vectors = await this.#vectorsConfig() ?? await this.#createCollection(wanted);
      const { size, distance } = (vectors ?? {}) as { size?: number; distance?: string };
      if (size === wanted.size && distance === wanted.distance) return;
      const found = size === undefined ? "named vectors" : `size ${size}, distance ${distance}`;
      throw new SinkError(
        `Collection "${this.#collection}" has ${found}; ` +
          `createCollection says size ${wanted.size}, distance ${wanted.distance}`,
        {
          kind: "sink-collection-mismatch",
          sink: "qdrant",
          hint: "Take another collectionName, or delete the collection and let it be made again",
        },
      );
    } catch (error) {
      this.#created = undefined;
      throw error;
    }
  }

  /** What the collection's vectors are like; `null` where there is no such collection. */
  async #vectorsConfig(): Promise<unknown> {
    try {
      return (await this.#client.getCollection(this.#collection)).config.params.vectors ?? {};
    } catch (error) {
      if (saysMissing(error)) return null;
      throw error;
    }
  }

  async #createCollection(vectors: { size: number; distance: QdrantDistance }): Promise<unknown> {
    try {
      await this.#client.createCollection(this.#collection, { vectors });
      return vectors;
    } catch (error) {
      // Another process was faster; what it made may differ.
      if (saysAlreadyExists(error)) return await this.#vectorsConfig();
      throw error;
    }
  }
}

function* inParts(points: Iterable<SizedPoint>): Generator<QdrantPoint[]> {
  let part: QdrantPoint[] = [];
  let bytes = 0;
  for (const { point, maxBytes } of points) {
    if (part.length > 0 && bytes + maxBytes > MAX_REQUEST_BYTES) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(point);
    bytes += maxBytes;
  }
  if (part.length > 0) yield part;
}

/** The id as it was given, and the payload without it. */
async function readId(
  id: string | number | bigint,
  payload: Record<string, unknown>,
): Promise<{ id: string; payload: Record<string, unknown> }> {
  const { [QDRANT_ID_PROPERTY]: text, ...rest } = payload;
  const isDerived = typeof text === "string" && (await qdrantId(text)).id === id;
  return isDerived ? { id: text, payload: rest } : { id: String(id), payload };
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
