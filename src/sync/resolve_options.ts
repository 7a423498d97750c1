/** What `sync` was told of a table, checked, and what its rows are embedded by. */

import { PgStreamError } from "../errors.ts";
import type { Observe } from "../observer.ts";
import type { SinkLike } from "../sinks/sink.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import { type BatchEmbedder, batchEmbedder, isBatchEmbedder } from "./batched_embedder.ts";
import type { Embedder } from "./embedder.ts";
import type { SyncOptions } from "./options.ts";
import { type RowMaker, rowMaker } from "./row_maker.ts";

/** A synced table. */
export interface TableSync {
  /** As `formatTableName` writes it. */
  readonly table: string;
  readonly sink: SinkLike;
  readonly maker: RowMaker;
  readonly embed: BatchEmbedder;
  readonly backfill: "initial" | "never";
  readonly onModelChange: "error" | "rebuild";
}

/** What tables of one stream share. */
export interface SyncDefaults {
  /** The stream's; null: it has none. */
  sink: SinkLike | null;
  /** By what the users passed; those that are not there yet are added. */
  embedders: WeakMap<Embedder, BatchEmbedder>;
  /** Does calls of embedders, where somebody is to be told of them. */
  observe?: Observe | undefined;
  /** True where an embedder is asked by one caller at a time. Default: false. */
  alone?: boolean;
}

/**
 * Checks what a table is synced by.
 *
 * @throws {PgStreamError} `sync-options`, naming the table and the option; `unsupported` where the sink lacks
 * a method.
 */
export function resolveSync(
  name: TableName,
  // Who writes JavaScript may pass anything.
  options: SyncOptions,
  { sink: defaultSink, ...shared }: SyncDefaults,
): TableSync {
  const table = formatTableName(name);
  const wrong = (what: string, hint: string): PgStreamError =>
    new PgStreamError(`Cannot sync ${table}: ${what}`, { kind: "sync-options", hint });
  const check = (ok: boolean, what: string, hint: string): void => {
    if (!ok) throw wrong(what, hint);
  };
  check(
    typeof options === "object" && options !== null,
    "it has no options",
    "Pass text and embed",
  );
  const { text, embed, payload, chunk, backfill = "initial", onModelChange = "error" } = options;
  check(
    typeof text === "function",
    "text is no function",
    "Pass what makes the text of a row: text: (row) => row.body",
  );
  check(
    typeof embed === "function",
    "embed is no function",
    "Pass openAiEmbedder({ model }), or (texts) => Promise of vectors",
  );
  const model = options.model ?? embed.model;
  check(
    typeof model === "string" && model !== "" && !model.includes("\0"),
    model === undefined ? "model is missing" : "model is no name: a text, not empty, without NUL",
    'Name what makes the vectors, and its version: model: "my-model@1"',
  );
  check(
    payload === undefined || typeof payload === "function" ||
      Array.isArray(payload) && payload.every((column) => typeof column === "string"),
    "payload is neither an array of columns nor a function",
    'Pass payload: ["title"], or (row) => ({ title: row.title })',
  );
  check(
    chunk === undefined ||
      typeof chunk === "function" && typeof chunk.name === "string" && chunk.name !== "" &&
        !chunk.name.includes("\0"),
    "chunk is no function with a name",
    "Pass chunkText(), or a function of a name that tells its version, without NUL",
  );
  check(
    backfill === "initial" || backfill === "never",
    'backfill is neither "initial" nor "never"',
    'Leave it out for "initial"',
  );
  check(
    onModelChange === "error" || onModelChange === "rebuild",
    'onModelChange is neither "error" nor "rebuild"',
    'Leave it out for "error"',
  );
  const sink = options.sink ?? defaultSink;
  if (sink === null) throw wrong("it has no sink", "Pass sink, or call stream.sink()");
  check(
    typeof sink.upsert === "function" && typeof sink.delete === "function",
    "sink lacks upsert or delete",
    "Derive a class from Sink, or pass an object with the two",
  );
  if (chunk !== undefined && sink.apply === undefined) {
    throw new PgStreamError(`Cannot sync ${table} in chunks: its sink has no method apply`, {
      kind: "unsupported",
      hint: "Leave chunk out: without it, what is left of a text that shrank cannot be removed",
    });
  }
  return {
    table,
    sink,
    maker: rowMaker({
      ...{ table, model: model!, text },
      ...(payload === undefined ? {} : { payload }),
      ...(chunk === undefined ? {} : { chunk }),
    }),
    embed: batched(options, shared, wrong),
    backfill,
    onModelChange,
  };
}

/** The queue in front of `embed`: one for all tables. */
function batched(
  { embed, batch }: SyncOptions,
  { embedders, observe, alone }: Omit<SyncDefaults, "sink">,
  wrong: (what: string, hint: string) => PgStreamError,
): BatchEmbedder {
  if (isBatchEmbedder(embed)) {
    if (batch === undefined) return embed;
    throw wrong("batch is given twice", "Leave it out, or give embed without batchEmbedder()");
  }
  let shared = embedders.get(embed);
  if (shared === undefined) {
    try {
      const told = observe === undefined ? embed : observed(embed, observe);
      shared = batchEmbedder(told, alone ? { maxDelayMs: 0, ...batch } : batch);
    } catch (error) {
      if (!(error instanceof PgStreamError)) throw error;
      throw wrong(`batch: ${error.summary}`, error.hint!);
    }
    embedders.set(embed, shared);
  }
  return shared;
}

/** The same, of which each call is told; one that was made by `batchEmbedder()` calls what nobody sees. */
function observed(embed: Embedder, observe: Observe): Embedder {
  const told: Embedder = (texts, context) =>
    observe({ kind: "embed", size: texts.length }, async () => await embed(texts, context));
  // What it says of itself.
  return Object.assign(told, embed);
}
