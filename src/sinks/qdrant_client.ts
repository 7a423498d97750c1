/** Qdrant's client, and what the sink uses of it. */

import { QdrantClient } from "@qdrant/js-client-rest";
import { parseQdrantUrl } from "./qdrant_url.ts";

/** What the sink uses of a `QdrantClient`. */
export interface QdrantSinkClient {
  /** Stores points in place of those with their ids. */
  upsert(collection: string, request: QdrantWrite<QdrantPoint>): Promise<{ status: string }>;
  /** Removes points. */
  delete(collection: string, request: QdrantWrite<string | number>): Promise<{ status: string }>;
  /** Finds the nearest points. */
  query(
    collection: string,
    request: { query: number[]; limit: number; with_payload: true },
  ): Promise<
    { points: { id: string | number | bigint; score: number; payload?: QdrantPayload | null }[] }
  >;
  /** Tells what a collection is like. */
  getCollection(collection: string): Promise<{ config: { params: { vectors?: unknown } } }>;
  /** Makes a collection. */
  createCollection(
    collection: string,
    request: { vectors: { size: number; distance: QdrantDistance } },
  ): Promise<unknown>;
}

/** A write of the sink: it returns when the write is applied, in the order of the leader. */
export interface QdrantWrite<T> {
  /** Answer when the write is applied. */
  wait: true;
  /** Through the permanent leader, so that no write overtakes another. */
  ordering: "strong";
  /** Points, or ids. */
  points: T[];
}

/** A point as Qdrant takes it. */
export interface QdrantPoint {
  /** An unsigned integer or a UUID. */
  id: string | number;
  /** The collection's one vector, which has no name. */
  vector: number[];
  /** What JSON can hold. */
  payload: QdrantPayload;
}

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
