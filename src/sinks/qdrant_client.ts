/** Qdrant's client, and what the sink uses of it. */

import { QdrantClient, type Schemas } from "@qdrant/js-client-rest";
import { parseQdrantUrl } from "./qdrant_url.ts";

/** What the sink uses of a `QdrantClient`. */
export interface QdrantSinkClient {
  /** Stores points in place of those with their ids. */
  upsert(
    collection: string,
    request: QdrantWrite & { points: QdrantPoint[] },
  ): Promise<{ status: string }>;
  /** Removes points, by id or by a filter. */
  delete(
    collection: string,
    request: QdrantWrite & ({ points: (string | number)[] } | { filter: Schemas["Filter"] }),
  ): Promise<{ status: string }>;
  /** Writes of several kinds, one after the other. */
  batchUpdate(
    collection: string,
    request: QdrantWrite & { operations: QdrantOperation[] },
  ): Promise<{ status: string }[]>;
  /** Finds the nearest points. */
  query(
    collection: string,
    request: {
      query: number[];
      limit: number;
      with_payload: true;
      using?: string;
      filter?: Schemas["Filter"];
    },
  ): Promise<{ points: (QdrantRecord & { score: number })[] }>;
  /** Reads points by their ids. */
  retrieve(
    collection: string,
    request: { ids: (string | number)[]; with_payload: true | string[]; with_vector: false },
  ): Promise<QdrantRecord[]>;
  /** Reads points in the order of their ids. */
  scroll(
    collection: string,
    request: {
      filter: Schemas["Filter"];
      limit: number;
      offset?: string | number;
      with_payload: true | string[];
      with_vector: false;
    },
  ): Promise<{ points: QdrantRecord[]; next_page_offset?: unknown }>;
  /** Tells what a collection is like. */
  getCollection(collection: string): Promise<{
    config: {
      params: { vectors?: unknown };
      strict_mode_config?: {
        enabled?: boolean | null;
        unindexed_filtering_update?: boolean | null;
      } | null;
    };
    payload_schema?: Record<string, { data_type: string } | undefined>;
  }>;
  /** Makes a collection. */
  createCollection(
    collection: string,
    request: {
      vectors: QdrantVectorParams | Record<string, QdrantVectorParams>;
      quantization_config?: Schemas["QuantizationConfig"];
      hnsw_config?: Schemas["HnswConfigDiff"];
    },
  ): Promise<unknown>;
  /** Makes an index of a payload field. */
  createPayloadIndex(
    collection: string,
    request: QdrantWrite & { field_name: string; field_schema: QdrantIndexSchema },
  ): Promise<{ status: string }>;
}

/** How the sink writes: a request returns when its writes are applied, in the order of the leader. */
export interface QdrantWrite {
  /** Answer when the write is applied. */
  wait: true;
  /** Through the permanent leader, so that no write overtakes another. */
  ordering: "strong";
}

/** One of several writes of a request. */
export type QdrantOperation = Schemas["UpdateOperation"];

/** A point as Qdrant takes it. */
export interface QdrantPoint {
  /** An unsigned integer or a UUID. */
  id: string | number;
  /** The vector, under its name where it has one. */
  vector: number[] | { [name: string]: number[] };
  /** What JSON can hold. */
  payload: QdrantPayload;
}

/** A point as Qdrant gives it back, without its vector. */
export interface QdrantRecord {
  /** An unsigned integer or a UUID. */
  id: string | number | bigint;
  /** Null where there is none. */
  payload?: QdrantPayload | null;
}

/** What the vectors of a collection are like. */
export interface QdrantVectorParams {
  /** Dimensions. */
  size: number;
  /** How nearness is measured. */
  distance: QdrantDistance;
  /** True: read from the disk. */
  on_disk?: boolean;
}

/** How a payload field is indexed: Qdrant's `field_schema`, as it is. */
export type QdrantIndexSchema = Schemas["PayloadFieldSchema"];

/** What is stored beside a vector. */
export type QdrantPayload = Record<string, unknown>;

/** How Qdrant measures nearness. */
export type QdrantDistance = "Cosine" | "Dot" | "Euclid" | "Manhattan";

/** A client for `url`; `null` where that cannot be read. Nothing is requested yet. */
export function connectToQdrant(
  url: string,
  timeoutMs: number,
  apiKey: string | undefined,
): QdrantSinkClient | null {
  const address = parseQdrantUrl(url);
  if (address === null) return null;
  return new QdrantClient({
    ...address,
    timeout: timeoutMs,
    checkCompatibility: false,
    ...(apiKey === undefined ? {} : { apiKey }),
  });
}
