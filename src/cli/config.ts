/** What a configuration file says: the types, and `defineConfig` for one in TypeScript. */

import type { SinkLike } from "../sinks/sink.ts";
import type { AnyRow } from "../change.ts";
import type { BatchEmbedderOptions } from "../sync/batched_embedder.ts";
import type { Embedder } from "../sync/embedder.ts";

/** An embedder that is a server with OpenAI's API. */
export interface EmbedderConfig {
  /** What stands before `/embeddings`. Default: OpenAI's own, `https://api.openai.com/v1`. */
  url?: string;
  /** The model's name. */
  model: string;
  /** Dimensions to ask for, where the model can shorten its vectors. */
  dimensions?: number;
  /** Default: `OPENAI_API_KEY` for OpenAI's own host; none for others. */
  apiKey?: string;
  /** How texts are gathered into calls. */
  batch?: Pick<
    BatchEmbedderOptions,
    "maxTexts" | "maxChars" | "maxDelayMs" | "parallel" | "timeoutMs"
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
  };

/** How the rows of a table become vectors. */
export interface TableConfig {
  /**
   * A column, several (a blank line between), or a template, `"{{title}}\n\n{{body}}"`; in TypeScript a function, too.
   */
  text: string | readonly string[] | ((row: AnyRow) => string | null | undefined);
  /** Columns that are stored beside each vector. Default: those of the primary key. */
  payload?: readonly string[] | ((row: AnyRow) => Record<string, unknown>);
  /** Cuts texts into chunks. Default: a row has one. */
  chunk?: { maxChars: number; overlap?: number };
  /** Only these columns are published. Default: all. */
  columns?: readonly string[];
  /** Only rows for which this SQL condition holds. Default: all. */
  where?: string;
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
 * A configuration file. In JSON, which may have comments, `${NAME}` in a text is the environment's variable of that
 * name, and `${NAME:-this}` what stands there where there is none.
 */
export interface Config {
  /** The database. Flags and environment come first. */
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
