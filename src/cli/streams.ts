/** From a configuration to a stream. */

import { readTableColumns } from "../replication/table_columns.ts";
import { parseWatchedName } from "../replication/watched_table.ts";
import type { PgStreamOptions } from "../stream/options.ts";
import { PgStream } from "../stream/pg_stream.ts";
import type { SyncOptions } from "../sync/options.ts";
import { formatTableName } from "../table_name.ts";
import type { Config, TableConfig } from "./config.ts";
import { placeOf } from "./config_check.ts";
import { Embedders } from "./embedders.ts";
import { CliError, usageError } from "./errors.ts";
import { nearest } from "./nearest.ts";
import { pick } from "./pick.ts";
import type { Settings } from "./settings.ts";
import { inPlace, Stores } from "./stores.ts";
import { rowOptions } from "./table_options.ts";

export { sinkOf } from "./stores.ts";

/** How a stream is made, beside what the file says. */
export interface StreamOfOptions {
  /** Of the stream; they come before those of the file. */
  stream?: PgStreamOptions;
  signal?: AbortSignal;
}

/**
 * A stream that syncs what the file says. Reads the tables' columns first, to check the file against them.
 *
 * @throws {CliError} of kind `config`, naming the place in the file; what connecting meets.
 */
export async function streamOf(
  settings: Settings,
  options: StreamOfOptions = {},
): Promise<PgStream> {
  try {
    return await madeOf(settings, options);
  } catch (error) {
    const { configPath } = settings;
    if (!(error instanceof CliError) || configPath === null) throw error;
    throw configError(`${configPath}: ${error.summary}`, error.hint!);
  }
}

async function madeOf(
  settings: Settings,
  { stream: options = {}, signal }: StreamOfOptions,
): Promise<PgStream> {
  const tables = tablesOf(settings);
  const source = { logger: settings.logger, ...pick(settings, "dsn") };
  const stream = new PgStream({ ...source, ...streamOptions(settings), ...options });
  const embedders = new Embedders();
  const stores = new Stores(settings);
  // What can be told without the database is told first.
  const ends = [];
  for (const [name, table] of tables) {
    ends.push(await endsOf(table, placeOf("tables", name), settings.config, embedders, stores));
  }
  const names = tables.map(([name]) => name);
  const columns = await readTableColumns({ ...source, tables: names, signal });
  for (const [index, [name, table]] of tables.entries()) {
    if (table.columns !== undefined || table.where !== undefined) {
      stream.watch(name, { ...pick(table, "columns"), ...pick(table, "where") });
    }
    stream.sync(name, {
      ...rowOptions(table, columns[index]!, placeOf("tables", name)),
      ...ends[index]!,
      ...pick(table, "backfill"),
      ...pick(table, "onModelChange"),
    });
  }
  return stream;
}

/** By what texts of a table become vectors, and where these go. */
async function endsOf(
  table: TableConfig,
  path: string,
  config: Config,
  embedders: Embedders,
  stores: Stores,
): Promise<Pick<SyncOptions, "embed" | "batch" | "sink">> {
  const { sink = config.sink, embedder = config.embedder } = table;
  if (embedder === undefined) {
    throw missing(`${path}.embedder`, '"embedder": { "model": "text-embedding-3-small" }');
  }
  if (sink === undefined) throw missing(`${path}.sink`, '"sink": { "type": "pgvector", … }');
  const place = (key: "embedder" | "sink") => table[key] === undefined ? key : `${path}.${key}`;
  return {
    embed: embedders.of(embedder, place("embedder")),
    ...typeof embedder === "function" ? {} : pick(embedder, "batch"),
    sink: await stores.of(sink, place("sink")),
  };
}

/** Those that the file has at its top. */
export function streamOptions({ config, slotName, publicationName }: Settings): PgStreamOptions {
  return {
    slotName,
    publicationName,
    ...pick(config, "concurrency"),
    ...pick(config, "publishGeneratedColumns"),
    ...pick(config, "backfillChunk"),
    ...pick(config, "maxQueueBytes"),
    ...pick(config, "retry"),
    ...pick(config, "reconnect"),
    ...pick(config, "onFailure"),
    ...pick(config, "failover"),
    ...pick(config, "onSlotLost"),
    ...pick(config, "whenSlotInUse"),
  };
}

/** The tables of the file, and what of them is published. */
export function tableParts(
  config: Config,
): { table: string; columns?: readonly string[]; where?: string }[] {
  return Object.entries(config.tables ?? {}).map(([table, options]) => ({
    table,
    ...pick(options, "columns"),
    ...pick(options, "where"),
  }));
}

/**
 * The file's own names of tables that were typed, with or without their schema; all of them where none was.
 *
 * @throws {CliError} of kind `usage` where the file has no such table; `config` where it has none.
 */
export function namedTables(settings: Settings, typed: readonly string[]): string[] {
  const names = tablesOf(settings).map(([name]) => name);
  if (typed.length === 0) return names;
  const own = new Map(names.map((name) => [formatTableName(parseWatchedName(name)), name]));
  const found = typed.map((name) => {
    const known = own.get(formatTableName(parseWatchedName(name)));
    if (known !== undefined) return known;
    const meant = nearest(name, names);
    throw usageError(
      `${settings.configPath} has no table "${name}"`,
      meant === null ? `It has ${names.join(", ")}` : `Did you mean "${meant}"?`,
    );
  });
  return [...new Set(found)];
}

/** @throws {CliError} where there are none, or one is there twice. */
function tablesOf({ config, configPath }: Settings): [string, TableConfig][] {
  const tables = Object.entries(config.tables ?? {});
  if (tables.length === 0) {
    throw configError(
      configPath === null ? "There is no configuration file" : "it has no tables",
      "pgstream init writes one; --config names another",
    );
  }
  const names = new Map<string, string>();
  for (const [name] of tables) {
    let full: string;
    try {
      full = formatTableName(parseWatchedName(name));
    } catch (error) {
      throw inPlace("tables", error);
    }
    const other = names.get(full);
    if (other !== undefined) {
      throw configError(
        `tables has ${full} twice, as "${other}" and as "${name}"`,
        "Leave one of them out",
      );
    }
    names.set(full, name);
  }
  return tables;
}

function missing(path: string, example: string): CliError {
  return configError(
    `${path} is missing`,
    `Add it there, or at the top of the file: ${example}`,
  );
}

function configError(message: string, hint: string): CliError {
  return new CliError(message, { kind: "config", hint });
}
