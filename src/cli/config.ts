/** What a configuration file says: the types, and `defineConfig` for one in TypeScript. */

import type { AnyRow } from "../change.ts";
import type { SinkLike } from "../sinks/sink.ts";
import type { PgStreamOptions } from "../stream/options.ts";
import type { BatchEmbedderOptions } from "../sync/batched_embedder.ts";
import type { Chunker, ChunkTextOptions } from "../sync/chunk_text.ts";
import type { Embedder } from "../sync/embedder.ts";
import type { SyncedChunk } from "../sync/options.ts";

/** An embedder that is a server with OpenAI's API. */
export interface EmbedderConfig {
  /** What stands before `/embeddings`. Default: OpenAI's own, `https://api.openai.com/v1`. */
  url?: string;
  /** The model's name. */
  model: string;
  /** Dimensions to ask for, where the model can shorten its vectors. */
  dimensions?: number;
  /** Default: `OPENAI_API_KEY` for OpenAI's own host; none for others. In TypeScript a function, too. */
  apiKey?: string | (() => string | Promise<string>);
  /** How long a request may take. Default: 30,000. */
  timeoutMs?: number;
  /** More headers, for each request. */
  headers?: Record<string, string>;
  /** How texts are gathered into calls, and what happens where one fails. */
  batch?: Pick<
    BatchEmbedderOptions,
    "maxTexts" | "maxChars" | "maxDelayMs" | "parallel" | "timeoutMs" | "retry"
  >;
}

/** Where vectors go. */
export type SinkConfig =
  | {
    type: "pgvector";
    /** Default: the source's. */
    dsn?: string;
    /** Default: `embeddings`. */
    table?: string;
    /** Makes the table, where it is not there, for vectors of so many dimensions. Default: it is there. */
    dimensions?: number;
    /** Of the vectors in a table that is made. Default: `vector`. */
    vectorType?: "vector" | "halfvec" | "sparsevec";
    /** Of a table that is made: `hnsw`, once it is filled; `none`. Default: `hnsw`. */
    index?: "hnsw" | "none";
    /** False behind a pooler in transaction mode. Default: true. */
    prepare?: boolean;
  }
  | {
    type: "qdrant";
    /** Default: `http://localhost:6333`. */
    url?: string;
    /** Default: `pgstream`. */
    collectionName?: string;
    /** Which of the collection's named vectors. Default: the one that has no name. */
    vectorName?: string;
    /** Default: `QDRANT_API_KEY`. */
    apiKey?: string;
    /** Makes the collection, where it is not there, for vectors of so many dimensions. Default: it is there. */
    dimensions?: number;
    /** Of a collection that is made. Default: `Cosine`. */
    distance?: "Cosine" | "Euclid" | "Dot" | "Manhattan";
    /** Indexes of the payload, by path: `{ "author_id": "integer" }`. Default: none. */
    payloadIndexes?: Readonly<Record<string, string>>;
    /** How long a request may take. Default: 30,000. */
    timeoutMs?: number;
  };

/** How the rows of a table become vectors. */
export interface TableConfig {
  /**
   * What is embedded: a column, several (a blank line between), or a template, `"{{title}}\n\n{{body}}"`; in
   * TypeScript a function, too. NULL is an empty text; a row of which no column has anything has no vector.
   */
  text: string | readonly string[] | ((row: AnyRow) => string | null | undefined);
  /** Columns that are stored beside each vector. Default: those of the primary key. */
  payload?: readonly string[] | ((row: AnyRow, chunk: SyncedChunk) => Record<string, unknown>);
  /** Cuts texts into chunks. Default: a row has one. */
  chunk?: ChunkTextOptions | Chunker;
  /** Only these columns are published. Default: all. */
  columns?: readonly string[];
  /** Only rows for which this SQL condition holds. Default: all. */
  where?: string;
  /** The name of what makes the vectors, and its version. Default: the embedder's. */
  model?: string;
  /** Default: `"initial"`, the rows that are there already, too. */
  backfill?: "initial" | "never";
  /** What is done where the store has vectors of another model. Default: `"error"`. */
  onModelChange?: "error" | "rebuild";
  /** Default: the file's. */
  embedder?: EmbedderConfig | Embedder;
  /** Default: the file's. */
  sink?: SinkConfig | SinkLike;
}

/**
 * A configuration file: `pgstream.json`, or the default export of `pgstream.config.ts`, an object or a function that
 * gives one. In JSON, which may have comments, `${NAME}` in a text is the environment's variable of that name, and
 * `${NAME:-this}` what stands there where there is none. What is not known here is an error.
 */
export interface Config {
  /** For editors: where `config.schema.json` is. */
  $schema?: string;
  /** The database. Flags and environment (`DATABASE_URL`, `PGHOST`, …) come first. */
  dsn?: string;
  /** Default: `pgstream`. */
  slotName?: string;
  /** Default: the slot's name. */
  publicationName?: string;
  /** Tables by name, `table` or `schema.table`. */
  tables?: Readonly<Record<string, TableConfig>>;
  /** What makes vectors. */
  embedder?: EmbedderConfig | Embedder;
  /** Where they go. */
  sink?: SinkConfig | SinkLike;
  /** How many handlers run side by side, by primary key. Default: 1. */
  concurrency?: number;
  /** True: stored generated columns are published (PostgreSQL 18). Default: as the publication is. */
  publishGeneratedColumns?: boolean;
  /** How many rows that are there already are held in memory. Default: 10,000, or 2 MiB. */
  backfillChunk?: { maxRows?: number; maxBytes?: number };
  /** The socket is held back while more than that waits to be handled. Default: 8 MiB. */
  maxQueueBytes?: number;
  /** How a batch that fails is tried again. Default: 5 attempts, 100 ms apart and more. */
  retry?: NonNullable<PgStreamOptions["retry"]>;
  /** How a lost connection is remade; `false`: not at all. Default: without end. */
  reconnect?: NonNullable<PgStreamOptions["reconnect"]>;
  /** What is done about a row that cannot be embedded; in TypeScript a function, which may skip it. Default: `"stop"`. */
  onFailure?: NonNullable<PgStreamOptions["onFailure"]>;
  /** A slot that standbys keep too (PostgreSQL 17). Default: false. */
  failover?: boolean;
  /** What is done where the slot was lost. Default: `"error"`. */
  onSlotLost?: "error" | "recreate";
  /** What is done while another process holds the slot. Default: `"error"`. */
  whenSlotInUse?: "error" | "wait";
  /** Where metrics and probes are served; `--metrics-port` comes first. Default: nowhere. */
  metrics?: {
    /** 0: one that is free. */
    port: number;
    /** Default: `127.0.0.1`. */
    host?: string;
    /** Beyond that it is not ready. Default: 60. */
    maxLagSeconds?: number;
  };
}

/** Gives a configuration in TypeScript its type: `export default defineConfig({ … })`. */
export function defineConfig(config: Config): Config {
  return config;
}
