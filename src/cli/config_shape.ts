/**
 * What a configuration file may say, as data: what is checked, and what the schema for editors is made from
 * (`config.schema.json`). What it means is said in `config.ts`; that both have the same keys, the compiler sees.
 */

import type { BatchEmbedderOptions } from "../sync/batched_embedder.ts";
import type { Config, EmbedderConfig, SinkConfig, TableConfig } from "./config.ts";

/** What a value is to be. */
export type Kind =
  | { kind: "text" | "flag" | "texts" }
  | { kind: "number"; least: number; whole: boolean }
  | { kind: "choice"; of: readonly (string | false)[] }
  | {
    kind: "object";
    keys: Readonly<Record<string, Kind>>;
    /** Keys that must be there, and what to write. */
    needed: Readonly<Record<string, string>>;
  }
  /** Any keys, with values of one kind. */
  | { kind: "map"; of: Kind }
  /** By the member `type`. */
  | { kind: "tagged"; of: Readonly<Record<string, Kind>> }
  /** The first of them that is of the value's type; which is told by `typeof`. */
  | { kind: "either"; of: readonly Kind[] }
  /** A function, or an object of a class, which only TypeScript can give; what else it may be. */
  | { kind: "code"; or: Kind };

const text: Kind = { kind: "text" };
const texts: Kind = { kind: "texts" };
const flag: Kind = { kind: "flag" };
const count: Kind = { kind: "number", least: 1, whole: true };
const orZero: Kind = { kind: "number", least: 0, whole: true };
const amount: Kind = { kind: "number", least: 0, whole: false };

const choice = (...of: readonly string[]): Kind => ({ kind: "choice", of });
const code = (or: Kind): Kind => ({ kind: "code", or });

/** An object of that type, all of whose keys are named. */
function object<T extends object>(
  keys: Readonly<Record<keyof T & string, Kind>>,
  needed?: Readonly<Partial<Record<keyof T & string, string>>>,
): Kind {
  return { kind: "object", keys, needed: (needed ?? {}) as Record<string, string> };
}

type Member<T, K extends keyof T> = NonNullable<T[K]>;
type PgVectorConfig = Extract<SinkConfig, { type: "pgvector" }>;
type QdrantConfig = Extract<SinkConfig, { type: "qdrant" }>;

const LIMITS = object<Member<Config, "retry">>({
  attempts: count,
  minDelayMs: amount,
  maxDelayMs: amount,
});

const EMBEDDER = code(object<EmbedderConfig>(
  {
    url: text,
    model: text,
    dimensions: count,
    apiKey: code(text),
    timeoutMs: count,
    headers: { kind: "map", of: text },
    batch: object<Pick<BatchEmbedderOptions, keyof Member<EmbedderConfig, "batch">>>({
      maxTexts: count,
      maxChars: count,
      maxDelayMs: orZero,
      parallel: count,
      timeoutMs: count,
      retry: LIMITS,
    }),
  },
  { model: 'Name one: "model": "text-embedding-3-small"' },
));

const SINK = code({
  kind: "tagged",
  of: {
    pgvector: object<PgVectorConfig>({
      type: text,
      dsn: text,
      table: text,
      dimensions: count,
      vectorType: choice("vector", "halfvec", "sparsevec"),
      index: choice("hnsw", "none"),
      prepare: flag,
    }),
    qdrant: object<QdrantConfig>({
      type: text,
      url: text,
      collectionName: text,
      vectorName: text,
      apiKey: text,
      dimensions: count,
      distance: choice("Cosine", "Euclid", "Dot", "Manhattan"),
      payloadIndexes: { kind: "map", of: text },
      timeoutMs: count,
    }),
  },
});

const TABLE = object<TableConfig>(
  {
    text: code({ kind: "either", of: [text, texts] }),
    payload: code(texts),
    chunk: code(object<{ maxChars?: number; overlap?: number }>({
      maxChars: count,
      overlap: orZero,
    })),
    columns: texts,
    where: text,
    model: text,
    backfill: choice("initial", "never"),
    onModelChange: choice("error", "rebuild"),
    embedder: EMBEDDER,
    sink: SINK,
  },
  { text: 'Name a column, or write a template: "text": "{{title}}\\n\\n{{body}}"' },
);

/** The whole of it. */
export const CONFIG: Kind = object<Config>({
  $schema: text,
  dsn: text,
  slotName: text,
  publicationName: text,
  tables: { kind: "map", of: TABLE },
  embedder: EMBEDDER,
  sink: SINK,
  concurrency: count,
  publishGeneratedColumns: flag,
  backfillChunk: object<Member<Config, "backfillChunk">>({ maxRows: count, maxBytes: count }),
  maxQueueBytes: count,
  retry: LIMITS,
  reconnect: { kind: "either", of: [{ kind: "choice", of: [false] }, LIMITS] },
  onFailure: code(choice("stop")),
  failover: flag,
  onSlotLost: choice("error", "recreate"),
  whenSlotInUse: choice("error", "wait"),
  metrics: object<Member<Config, "metrics">>(
    { port: orZero, host: text, maxLagSeconds: amount },
    { port: 'Name one, or 0 for one that is free: "port": 9464' },
  ),
});
