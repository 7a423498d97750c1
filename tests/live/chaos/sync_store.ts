/** Stores that outlive who writes to them, and what is in them, read past the sinks. */

import { equal } from "@std/assert";
import postgres from "postgres";
import { compareSourcePositions } from "../../../src/sinks/positions.ts";
import { parseSourcePosition } from "../../../src/sinks/pgvector_position.ts";
import type { SourcePosition } from "../../../src/sinks/rows.ts";
import { vectorOf } from "../../support/servers/open_ai.ts";
import { startPgvector } from "../../support/servers/pgvector.ts";
import { startQdrant } from "../../support/servers/qdrant.ts";
import { DIMENSIONS, type StorePlace } from "./sync_plan.ts";
import { nameOf, type WantedPoint } from "./sync_world.ts";

/** A point as it lies in a store. */
export interface StoredPoint {
  table: string;
  key: string;
  chunk: number;
  chunks: number;
  vector: number[];
  payload: Record<string, unknown>;
  position: SourcePosition;
}

/** What there is of a row. */
export interface StoredRow {
  /** The latest of its points'. */
  position: SourcePosition;
  /** False where its points are not all there, or of more than one write. */
  whole: boolean;
}

/** A store in this process, which is not the one that is killed. */
export interface ChaosStore {
  place: StorePlace;
  /** All points. */
  points(): Promise<StoredPoint[]>;
  /** All rows, by `nameOf`. */
  rows(): Promise<Map<string, StoredRow>>;
  /** End of what is whole of the stream; null where none is kept. */
  streamLsn(slotName: string): Promise<string | null>;
  stop(): Promise<void>;
}

/** Starts one. */
export function startStore(kind: StorePlace["kind"]): Promise<ChaosStore> {
  return kind === "pgvector" ? pgvectorStore() : qdrantStore();
}

async function pgvectorStore(): Promise<ChaosStore> {
  const server = await startPgvector();
  const sql = postgres(server.dsn, { max: 1, onnotice: () => {} });
  // One message each, while nobody else has one under way.
  const ask = (text: string) => sql.unsafe(text).simple();
  return {
    place: { kind: "pgvector", url: server.dsn },
    async points() {
      const rows = await ask(`SELECT source_table, source_key, chunk, chunks, vector::text, payload,
        source_system, source_position FROM embeddings`);
      return rows.map((row): StoredPoint => ({
        table: row.source_table,
        key: row.source_key,
        chunk: row.chunk,
        chunks: row.chunks,
        // With fewer digits than it has.
        vector: [...Float32Array.from(JSON.parse(row.vector))],
        payload: row.payload,
        position: { systemId: row.source_system, ...parseSourcePosition(row.source_position) },
      }));
    },
    async rows() {
      const rows = await ask(`SELECT source_table, source_key, min(source_system) AS source_system,
        max(source_position) AS source_position, count(*) = max(chunks) AND min(chunks) = max(chunks)
          AND min(source_position) = max(source_position) AND max(chunk) = max(chunks) - 1 AS whole
        FROM embeddings GROUP BY 1, 2`);
      return new Map(rows.map((row): [string, StoredRow] => [
        nameOf(row.source_table, row.source_key),
        {
          position: { systemId: row.source_system, ...parseSourcePosition(row.source_position) },
          whole: row.whole,
        },
      ]));
    },
    async streamLsn(slotName) {
      const [row] = await ask(
        `SELECT end_lsn::text FROM pgstream_positions WHERE slot_name = '${slotName}'`,
      );
      return row?.end_lsn ?? null;
    },
    async stop() {
      await sql.end({ timeout: 1 });
      await server.stop();
    },
  };
}

async function qdrantStore(): Promise<ChaosStore> {
  const server = await startQdrant({ applyDelayMs: 0 });
  const points = async (withVector: boolean): Promise<StoredPoint[]> => {
    const response = await fetch(`${server.url}/collections/docs/points/scroll`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ limit: 10_000_000, with_vector: withVector, with_payload: true }),
    });
    const { result } = await response.json();
    // deno-lint-ignore no-explicit-any -- what a server answers
    return result.points.map(({ vector, payload }: any): StoredPoint => {
      const { pgstream, pgstream_id: _, ...own } = payload;
      const { table, key, chunk, chunks, system, timeline, lsn_high, lsn_low, ordinal } = pgstream;
      const lsn = `${lsn_high.toString(16)}/${lsn_low.toString(16)}`.toUpperCase();
      const position = { systemId: system, timeline, lsn, ordinal };
      return { table, key, chunk, chunks, vector, payload: own, position };
    });
  };
  return {
    place: { kind: "qdrant", url: server.url },
    points: () => points(true),
    async rows() {
      const rows = new Map<string, StoredRow & { found: number; chunks: number }>();
      for (const { table, key, chunks, position } of await points(false)) {
        const name = nameOf(table, key);
        const row = rows.get(name);
        if (row === undefined) rows.set(name, { position, whole: true, found: 1, chunks });
        else {
          row.found++;
          const order = compareSourcePositions(position, row.position)!;
          if (order !== 0 || chunks !== row.chunks) row.whole = false;
          if (order > 0) row.position = position;
        }
      }
      for (const row of rows.values()) if (row.found !== row.chunks) row.whole = false;
      return rows;
    },
    streamLsn: () => Promise.resolve(null),
    stop: () => server.close(),
  };
}

/** What a store lacks, and what is wrong in it, or too much, in words. */
export function compare(
  wanted: readonly WantedPoint[],
  stored: readonly StoredPoint[],
): { missing: string[]; wrong: string[] } {
  const nameOfPoint = ({ table, key, chunk }: WantedPoint | StoredPoint) =>
    `${nameOf(table, key)} ${chunk}`;
  const points = new Map(stored.map((point) => [nameOfPoint(point), point]));
  const missing: string[] = [];
  const wrong: string[] = [];
  if (points.size !== stored.length) wrong.push("a point is there twice");
  for (const point of wanted) {
    const name = nameOfPoint(point);
    const found = points.get(name);
    points.delete(name);
    if (found === undefined) {
      missing.push(name);
      continue;
    }
    const { text, ...rest } = point;
    const { position: _, ...there } = found;
    const right = { ...rest, vector: vectorOf(text, DIMENSIONS) };
    if (!equal(there, right)) wrong.push(`${name}: ${JSON.stringify([there, right])}`);
  }
  for (const name of points.keys()) wrong.push(`too much: ${name}`);
  return { missing, wrong };
}
