/** How two tables are synced, by whoever does it. */

import postgres from "postgres";
import { PgStream, type PgStreamOptions } from "../../../mod.ts";
import { PgVectorSink } from "../../../src/sinks/pgvector.ts";
import { QdrantSink } from "../../../src/sinks/qdrant.ts";
import type { Sink } from "../../../src/sinks/sink.ts";
import { openAiEmbedder } from "../../../src/sync/mod.ts";
import { piecesOf } from "./sync_world.ts";

/** Elements of a vector. */
export const DIMENSIONS = 8;

/** Which store, and where it is. */
export interface StorePlace {
  kind: "pgvector" | "qdrant";
  url: string;
}

/** What a consumer is to do. */
export interface SyncPlan {
  options: PgStreamOptions;
  tables: { docs: string; notes: string };
  store: StorePlace;
  embedUrl: string;
  /** Events of a batch, at most. */
  maxEvents: number;
  /** How long it goes on, at most, before it stops and begins anew; null: for good. */
  restartMs: number | null;
  seed: number;
}

/** A stream by the plan, and what is to be ended with it. @param onEvents called for each batch */
export function syncStream(
  { options, tables, store, embedUrl, maxEvents }: SyncPlan,
  onEvents: () => void,
): { stream: PgStream; end: () => Promise<void> } {
  const { sink, end } = openSink(store);
  const stream = new PgStream({ logger: false, ...options }).sink(sink);
  const shared = {
    text: (row: Record<string, unknown>) => row.body as string | null,
    embed: openAiEmbedder({ model: "model", url: embedUrl, dimensions: DIMENSIONS }),
    chunk: Object.defineProperty((text: string) => piecesOf(text), "name", { value: "pieces@1" }),
    batch: { retry: { attempts: 5, minDelayMs: 5, maxDelayMs: 50 } },
  };
  stream.sync(tables.docs, { ...shared, payload: ["title", "views"] });
  stream.sync(tables.notes, { ...shared, payload: ({ lang }) => ({ lang }) });
  stream.onBatch(onEvents, { maxEvents });
  return { stream, end };
}

/** A sink of such a store, of one connection: PGlite has one backend, in which messages of several meet. */
function openSink({ kind, url }: StorePlace): { sink: Sink; end: () => Promise<void> } {
  if (kind === "qdrant") {
    const createCollection = { size: DIMENSIONS, distance: "Dot" } as const;
    const sink = new QdrantSink({ url, collectionName: "docs", createCollection });
    return { sink, end: () => Promise.resolve() };
  }
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  const sink = new PgVectorSink({ sql, createTable: { dimensions: DIMENSIONS } });
  return { sink, end: () => sql.end({ timeout: 1 }) };
}
