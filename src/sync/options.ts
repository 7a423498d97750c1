/** What `sync` is told of a table. */

import type { AnyRow } from "../change.ts";
import type { SinkLike } from "../sinks/sink.ts";
import type { BatchEmbedderOptions } from "./batched_embedder.ts";
import type { Chunker } from "./chunk_text.ts";
import type { Embedder } from "./embedder.ts";

/** A chunk of a row's text; without a chunker, all of it. */
export interface SyncedChunk {
  /** What is embedded. */
  text: string;
  /** Its place among the row's, from 0. */
  chunk: number;
  /** How many the row has. */
  chunks: number;
}

/**
 * How the rows of a table become vectors.
 *
 * @typeParam R a row, as `values: "js"` has it.
 *
 * @example
 * ```ts
 * import type { SyncOptions } from "@pgstream/pgstream";
 * import { chunkText, openAiEmbedder } from "@pgstream/pgstream/sync";
 *
 * const articles: SyncOptions<{ id: bigint; body: string; published: boolean; tags: string[] }> = {
 *   text: (row) => row.published ? row.body : null,
 *   embed: openAiEmbedder({ model: "text-embedding-3-small" }),
 *   payload: ["id", "tags"],
 *   chunk: chunkText({ maxChars: 2000, overlap: 200 }),
 *   batch: { parallel: 8 },
 * };
 * ```
 */
export interface SyncOptions<R = AnyRow> {
  /**
   * What is embedded of a row, which is whole, its values as `values: "js"` has them. Null, undefined, and
   * nothing but white space: this row has no vector. It must give the same for the same row: what was
   * embedded is known by it.
   */
  text: (row: R) => string | null | undefined;
  /**
   * What makes vectors of texts: `openAiEmbedder()`, or a function of yours. It is called for many rows at
   * once; tables that share one share its limits, too. One that `batchEmbedder()` made is taken as it is.
   */
  embed: Embedder;
  /**
   * What makes the vectors, and its version: another name means that all of them are to be made anew. Default:
   * `embed.model`; a function of yours has none, unless you give it one.
   */
  model?: string;
  /**
   * What is stored beside each vector: columns, or what a function makes of the row and, where it has several, of
   * the chunk: `(row, { text }) => ({ id: row.id, text })`. It must give the same for the same row. A bigint is a number where that is exact, else text; a `Date` is ISO text. Default: nothing.
   */
  payload?:
    | readonly (keyof R & string)[]
    | ((row: R, chunk: SyncedChunk) => Record<string, unknown>);
  /** Cuts a text into chunks, each of which has a vector: `chunkText()`. Needs `apply` of the sink. Default: a row has one. */
  chunk?: Chunker;
  /** Where the vectors go. Default: the stream's sink. Closed as that one is. */
  sink?: SinkLike;
  /**
   * `"initial"`: the rows that are there already, too, once; again where the store has nothing of the table, or changes
   * were missed. Default: `"initial"`.
   */
  backfill?: "initial" | "never";
  /**
   * What is done where the store has vectors of another model, or another chunker: `"error"`: `setup()` and
   * `start()` reject; `"rebuild"`: all rows are embedded anew, and each old point stays until its new one is
   * there. Default: `"error"`.
   */
  onModelChange?: "error" | "rebuild";
  /**
   * How texts are gathered into calls of `embed`, and what happens where one fails. Of tables that share an `embed` the
   * first one's count. A stream that syncs into one store and handles one batch at a time has nothing to wait for:
   * there `maxDelayMs` is 0 by default.
   */
  batch?: BatchEmbedderOptions;
}
