/**
 * How pgvector.ts, qdrant.ts and workers/worker.ts make vectors of a table, in a file of its own, so that it can
 * be tested with no server: tests/unit/examples/documents_test.ts does.
 */
import type { SyncOptions } from "@pgstream/pgstream";
import { chunkText, type Embedder } from "@pgstream/pgstream/sync";

/** The tables of the examples, as `values: "js"` has their rows. */
export interface Tables {
  documents: { id: bigint; content: string | null };
}

/** What `sync` is told of `documents`. @param embed texts to their vectors */
export function documents(embed: Embedder): SyncOptions<Tables["documents"]> {
  return {
    text: (row) => row.content, // NULL or empty: no vector
    embed,
    payload: ["id", "content"],
    chunk: chunkText({ maxChars: 1000, overlap: 100 }),
  };
}
