/** From a configuration to a stream. */

import process from "node:process";
import type { AnyRow } from "../change.ts";
import { readTableColumns, type TableColumns } from "../replication/table_columns.ts";
import type { SinkLike } from "../sinks/sink.ts";
import type { QdrantIndexSchema } from "../sinks/qdrant.ts";
import { PgStream } from "../stream/pg_stream.ts";
import type { PgStreamOptions } from "../stream/options.ts";
import { chunkText } from "../sync/chunk_text.ts";
import type { Embedder } from "../sync/embedder.ts";
import { openAiEmbedder } from "../sync/open_ai_embedder.ts";
import type { SyncOptions } from "../sync/options.ts";
import type { Config, EmbedderConfig, SinkConfig, TableConfig } from "./config.ts";
import { CliError } from "./errors.ts";
import { nearest } from "./nearest.ts";
import type { Settings } from "./settings.ts";
import { readTemplate } from "./template.ts";

const DEFAULT_QDRANT_URL = "http://localhost:6333";

/**
 * A stream that syncs what the file says. Reads the tables' columns first, to check the file against them.
 *
 * @param options of the stream, beside those of the file
 * @throws {CliError} of kind `config`; what connecting meets.
 */
export async function streamOf(
  settings: Settings,
  options: PgStreamOptions = {},
  signal?: AbortSignal,
): Promise<PgStream> {
  const { config, dsn, logger } = settings;
  const tables = Object.entries(config.tables ?? {});
  if (tables.length === 0) {
    throw new CliError(
      settings.configPath === null
        ? "There is no configuration file"
        : `${settings.configPath} has no tables`,
      { kind: "config", hint: "pgstream init writes one; --config names another" },
    );
  }
  const source = dsn === undefined ? { logger } : { dsn, logger };
  const columns = await readTableColumns({ ...source, tables: tables.map(([n]) => n), signal });
  const stream = new PgStream({ ...source, ...streamOptions(settings), ...options });
  const embedders = new Embedders();
  const shared = new Sinks(settings);
  for (const [index, [name, table]] of tables.entries()) {
    const path = `tables.${name}`;
    const watched = { ...pick(table, "columns"), ...pick(table, "where") };
    if (Object.keys(watched).length > 0) stream.watch(name, watched);
    const sink = table.sink ?? config.sink;
    if (sink === undefined) throw missing(`${path}.sink`, 'sink: { "type": "pgvector", … }');
    const embedder = table.embedder ?? config.embedder;
    if (embedder === undefined) {
      throw missing(`${path}.embedder`, 'embedder: { "model": "text-embedding-3-small" }');
    }
    stream.sync(name, {
      ...rowOptions(table, columns[index]!, path),
      embed: embedders.of(embedder),
      ...batchOf(embedder),
      sink: await shared.of(sink),
      ...pick(table, "backfill"),
      ...pick(table, "onModelChange"),
    });
  }
  return stream;
}

/** Those that the file has at its top. */
export function streamOptions({ config, slotName, publicationName }: Settings): PgStreamOptions {
  return {
    slotName,
    publicationName,
    ...pick(config, "concurrency"),
    ...pick(config, "failover"),
    ...pick(config, "onSlotLost"),
    ...pick(config, "whenSlotInUse"),
  };
}

/** The tables of the file, and what of them is published. */
export function tableParts(config: Config): { table: string }[] {
  return Object.entries(config.tables ?? {}).map(([table, options]) => ({
    table,
    ...pick(options, "columns"),
    ...pick(options, "where"),
  }));
}

/** The store that a configuration means. Its driver is loaded. @throws {SinkError} of kind `sink-options`. */
export async function sinkOf(sink: SinkConfig | SinkLike, settings: Settings): Promise<SinkLike> {
  if (!isConfig(sink)) return sink;
  if (sink.type === "pgvector") {
    const { PgVectorSink } = await import("../sinks/pgvector.ts");
    const { dimensions, vectorType, index = "hnsw" } = sink;
    const dsn = sink.dsn ?? settings.dsn ?? process.env.DATABASE_URL;
    if (dsn === undefined) throw missing("sink.dsn", "dsn: where the vectors go");
    return new PgVectorSink({
      dsn,
      ...pick(sink, "table"),
      ...pick(sink, "prepare"),
      ...dimensions === undefined ? {} : {
        createTable: {
          dimensions,
          ...vectorType === undefined ? {} : { type: vectorType },
          ...index === "none" ? {} : { index },
        },
      },
    });
  }
  const { QdrantSink } = await import("../sinks/qdrant.ts");
  const { url = DEFAULT_QDRANT_URL, dimensions, distance = "Cosine", payloadIndexes } = sink;
  const apiKey = sink.apiKey ?? process.env.QDRANT_API_KEY;
  return new QdrantSink({
    url,
    ...pick(sink, "collectionName"),
    ...pick(sink, "vectorName"),
    ...apiKey === undefined ? {} : { apiKey },
    ...dimensions === undefined ? {} : { createCollection: { size: dimensions, distance } },
    ...payloadIndexes === undefined
      ? {}
      : { payloadIndexes: payloadIndexes as Record<string, QdrantIndexSchema> },
  });
}

/** Tables that say the same have the same store: what it keeps of the stream is kept once. */
class Sinks {
  readonly #settings: Settings;
  readonly #made = new Map<string | SinkLike, SinkLike>();

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  async of(sink: SinkConfig | SinkLike): Promise<SinkLike> {
    const key = isConfig(sink) ? JSON.stringify(sink) : sink;
    const made = this.#made.get(key) ?? await sinkOf(sink, this.#settings);
    this.#made.set(key, made);
    return made;
  }
}

/** Tables that say the same share an embedder, and its limits. */
class Embedders {
  readonly #made = new Map<string, Embedder>();

  of(embedder: EmbedderConfig | Embedder): Embedder {
    if (typeof embedder === "function") return embedder;
    const { batch: _, ...options } = embedder;
    const key = JSON.stringify(options);
    const made = this.#made.get(key) ?? openAiEmbedder(options);
    this.#made.set(key, made);
    return made;
  }
}

function batchOf(embedder: EmbedderConfig | Embedder): Pick<SyncOptions, "batch"> {
  return typeof embedder === "function" ? {} : pick(embedder, "batch");
}

function isConfig(sink: SinkConfig | SinkLike): sink is SinkConfig {
  return Object.getPrototypeOf(sink) === Object.prototype &&
    typeof (sink as SinkConfig).type === "string";
}

function rowOptions(
  { text, payload, chunk, columns: published }: TableConfig,
  { columns, primaryKey }: TableColumns,
  path: string,
): Pick<SyncOptions, "text" | "payload" | "chunk"> {
  const names = published ?? columns.map(({ name }) => name);
  const check = (wanted: readonly string[], place: string) => {
    for (const name of wanted) {
      if (names.includes(name)) continue;
      const meant = nearest(name, names);
      throw new CliError(`${path}.${place} names the column "${name}", which is not there`, {
        kind: "config",
        hint: meant === null
          ? `There are ${names.join(", ")}`
          : `Did you mean "${meant}"? Names are literal`,
      });
    }
  };
  if (published !== undefined) {
    const all = columns.map(({ name }) => name);
    const unknown = published.find((name) => !all.includes(name));
    if (unknown !== undefined) {
      throw new CliError(`${path}.columns names "${unknown}", which is not there`, {
        kind: "config",
        hint: `There are ${all.join(", ")}`,
      });
    }
  }
  const stored = payload ?? primaryKey;
  if (typeof stored !== "function") check(stored, "payload");
  const made = typeof text === "function" ? null : readTemplate(text, `${path}.text`);
  if (made !== null) check(made.columns, "text");
  return {
    text: made === null
      ? text as (row: AnyRow) => string | null | undefined
      : (row: AnyRow) => made.textOf(row),
    payload: stored,
    ...chunk === undefined ? {} : { chunk: chunkText(chunk) },
  };
}

function missing(path: string, example: string): CliError {
  return new CliError(`${path} is missing`, {
    kind: "config",
    hint: `Add it there or at the top of the file: ${example}`,
  });
}

/** An object with one of its members, where it has it: for options that may be left out, but not be undefined. */
function pick<T extends object, K extends keyof T>(from: T, key: K): Pick<T, K> | object {
  return from[key] === undefined ? {} : { [key]: from[key] };
}
