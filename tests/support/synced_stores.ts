/** Stores for synced tables, each with a way to look into it that goes past the sink. */

import postgres from "postgres";
import { MemorySink, type Sink } from "../../mod.ts";
import { PgVectorSink } from "../../src/sinks/pgvector.ts";
import { QdrantSink } from "../../src/sinks/qdrant.ts";
import { startPgvector } from "./servers/pgvector.ts";
import { startQdrant } from "./servers/qdrant.ts";

/** A point as it lies in the store. */
export interface FoundPoint {
  table: string;
  key: string;
  chunk: number;
  vector: number[];
  payload: Record<string, unknown>;
}

/** A store that outlives the sinks that write to it. Vectors of three dimensions. */
export interface SyncedStore {
  name: string;
  /** A sink of its own for each process, or what is one. */
  open(): Sink;
  /** All points, by table, key and chunk. */
  points(): Promise<FoundPoint[]>;
  stop(): Promise<void>;
}

const byPlace = (a: FoundPoint, b: FoundPoint) =>
  compare(a.table, b.table) || compare(a.key, b.key) || a.chunk - b.chunk;
const compare = (a: string, b: string) => a < b ? -1 : a > b ? 1 : 0;

/** A real pgvector. */
export async function pgvectorStore(dimensions = 3): Promise<SyncedStore> {
  const server = await startPgvector();
  // One connection for all: PGlite has one backend, in which messages of several meet.
  const sql = postgres(server.dsn, { max: 1, onnotice: () => {} });
  return {
    name: "pgvector",
    open: () => new PgVectorSink({ sql, createTable: { dimensions } }),
    async points() {
      const rows = await sql`select source_table, source_key, chunk, vector::text, payload
        from embeddings`;
      return rows.map((row): FoundPoint => ({
        table: row.source_table,
        key: row.source_key,
        chunk: row.chunk,
        vector: JSON.parse(row.vector),
        payload: row.payload,
      })).sort(byPlace);
    },
    async stop() {
      await sql.end();
      await server.stop();
    },
  };
}

/** The stand-in for Qdrant. */
export async function qdrantStore(size = 3): Promise<SyncedStore> {
  const server = await startQdrant({ applyDelayMs: 0 });
  const createCollection = { size, distance: "Dot" } as const;
  return {
    name: "Qdrant",
    open: () => new QdrantSink({ url: server.url, collectionName: "docs", createCollection }),
    async points() {
      const response = await fetch(`${server.url}/collections/docs/points/scroll`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ limit: 1_000_000, with_vector: true, with_payload: true }),
      });
      const { result } = await response.json();
      // deno-lint-ignore no-explicit-any -- what a server answers
      return result.points.map(({ vector, payload }: any): FoundPoint => {
        const { pgstream, pgstream_id: _, ...rest } = payload;
        const { table, key, chunk } = pgstream;
        return { table, key, chunk, vector, payload: rest };
      }).sort(byPlace);
    },
    stop: () => server.close(),
  };
}

/** A `MemorySink`, which is what it has stored. */
export function memoryStore(): SyncedStore {
  const sink = new MemorySink();
  return {
    name: "MemorySink",
    open: () => sink,
    points: () => Promise.resolve(memoryPoints(sink)),
    stop: () => Promise.resolve(),
  };
}

/** What it has stored of rows. */
export function memoryPoints(sink: MemorySink): FoundPoint[] {
  return sink.points().map(({ id, vector, payload }): FoundPoint => {
    const [table, key, chunk] = JSON.parse(id);
    return { table, key, chunk, vector: [...vector], payload };
  }).sort(byPlace);
}
