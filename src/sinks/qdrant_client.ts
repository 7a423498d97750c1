/** Qdrant's client, and what the sink uses of it. */

import { QdrantClient } from "@qdrant/js-client-rest";
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
    request: QdrantWrite & ({ points: (string | number)[] } | { filter: QdrantFilter }),
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
      filter?: QdrantFilter;
    },
  ): Promise<{ points: (QdrantRecord & { score: number })[] }>;
  /** Reads points by their ids. */
  retrieve(
    collection: string,
    request: { ids: (string | number)[]; with_payload: true | string[]; with_vector: boolean },
  ): Promise<QdrantRecord[]>;
  /** Reads points in the order of their ids. */
  scroll(
    collection: string,
    request: {
      filter: QdrantFilter;
      limit: number;
      offset?: string | number;
      with_payload: true | string[];
      with_vector: false;
    },
  ): Promise<{ points: QdrantRecord[]; next_page_offset?: unknown }>;
  /** Tells what a collection is like. */
  getCollection(collection: string): Promise<{
    /** `green`, `yellow`, `grey`, `red`. */
    status?: string;
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
      quantization_config?: Record<string, unknown>;
      hnsw_config?: Record<string, unknown>;
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
export type QdrantOperation =
  | { upsert: { points: QdrantPoint[]; update_filter: QdrantFilter } }
  | { delete: { filter: QdrantFilter } }
  | { overwrite_payload: { payload: QdrantPayload; filter: QdrantFilter } };

/** All of `must`, one of `should`, none of `must_not`. */
export interface QdrantFilter {
  /** Default: none has to be met. */
  must?: QdrantCondition[];
  /** Default: none has to be met. */
  should?: QdrantCondition[];
  /** Default: all may be met. */
  must_not?: QdrantCondition[];
}

/** What a filter asks of a point; a `key` is a path into its payload. */
export type QdrantCondition =
  | QdrantFilter
  | { has_id: (string | number)[] }
  | { key: string; match: { value: string | number | boolean } | { any: string[] } }
  | { key: string; range: { lt?: number; lte?: number; gte?: number } };

/** A point as Qdrant takes it. */
export interface QdrantPoint {
  /** An unsigned integer or a UUID. */
  id: string | number;
  /** The vector, under its name where it has one. */
  vector: number[] | { [name: string]: number[] };
  /** What JSON can hold. */
  payload: QdrantPayload;
}

/** A point as Qdrant gives it back. */
export interface QdrantRecord {
  /** An unsigned integer or a UUID. */
  id: string | number | bigint;
  /** Null where there is none. */
  payload?: QdrantPayload | null;
  /** Where it was asked for. */
  vector?: unknown;
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

/** The kind of an index of a payload field. */
export type QdrantIndexType =
  | "keyword"
  | "integer"
  | "float"
  | "geo"
  | "text"
  | "bool"
  | "datetime"
  | "uuid";

/** How a payload field is indexed: Qdrant's `field_schema`, as it is. */
export type QdrantIndexSchema = QdrantIndexType | {
  type: QdrantIndexType;
  [option: string]: unknown;
};

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
