/**
 * From texts to vectors: an embedder for servers that speak OpenAI's API, one that gathers texts into
 * batches, and one that cuts texts into chunks.
 *
 * @example
 * ```ts
 * import { batchEmbedder, chunkText, openAiEmbedder } from "@pgstream/pgstream/sync";
 *
 * const embed = batchEmbedder(openAiEmbedder({ model: "text-embedding-3-small" }));
 * const chunks = chunkText({ maxChars: 2000, overlap: 200 });
 * const vectors = await embed(chunks("A long text …"));
 * ```
 *
 * @module
 */
export {
  type BatchEmbedder,
  batchEmbedder,
  type BatchEmbedderOptions,
} from "./batched_embedder.ts";
export type { Timers } from "./timers.ts";
export { type Chunker, chunkText, type ChunkTextOptions } from "./chunk_text.ts";
export { type Embedder, EmbedError, type EmbedErrorOptions } from "./embedder.ts";
export type { SyncedChunk, SyncOptions } from "./options.ts";
export { openAiEmbedder, type OpenAiEmbedderOptions } from "./open_ai_embedder.ts";
export type { Vector } from "../values/vector.ts";
export type { BackoffLimits, RetryLimits } from "../backoff.ts";
export { PgStreamError, type PgStreamErrorOptions } from "../errors.ts";
