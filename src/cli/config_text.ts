/** A configuration file as `init` writes it, with comments. */

import type { TableColumns } from "../replication/table_columns.ts";

/** What it is to say. */
export interface FileAnswers {
  slotName: string;
  table: string;
  text: string;
  sink: "pgvector" | "qdrant";
  /** Where the store is; undefined: the source's own database, or this machine's Qdrant. */
  storeUrl: string | undefined;
  /** Of the store's table, or collection. */
  storeName: string;
  model: string;
  embedderUrl: string | undefined;
  dimensions: number;
}

/** Dimensions of models that many use. */
const DIMENSIONS: Readonly<Record<string, number>> = {
  "text-embedding-3-small": 1536,
  "text-embedding-3-large": 3072,
  "text-embedding-ada-002": 1536,
  "nomic-embed-text": 768,
  "mxbai-embed-large": 1024,
  "all-minilm": 384,
  "bge-m3": 1024,
};

/** More an index of `vector` cannot have; of `halfvec` twice as many. */
const MOST_INDEXED = 2000;

/** Of a model that is known, whatever its version; else undefined. */
export function dimensionsOf(model: string): number | undefined {
  const name = model.replace(/^.*\//, "").replace(/:.*$/, "");
  return Object.hasOwn(DIMENSIONS, name) ? DIMENSIONS[name] : undefined;
}

/**
 * The file's text.
 *
 * @param table what is known of it
 * @param module true: TypeScript, else JSON with comments
 */
export function writeConfig(
  answers: FileAnswers,
  table: TableColumns | undefined,
  module: boolean,
): string {
  const write = (value: unknown) => module ? asCode(value) : JSON.stringify(value);
  const key = (name: string) => module && /^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name);
  const member = (name: string, value: unknown) => `${key(name)}: ${write(value)},`;
  const { sink, model, embedderUrl } = answers;
  const lines = [
    "{",
    "  // The database. --dsn, and DATABASE_URL or PGHOST in the environment, come first.",
    `  ${member("dsn", "${DATABASE_URL}")}`,
    "",
    "  // The replication slot, and the publication of the same name: one for each program.",
    `  ${member("slotName", answers.slotName)}`,
    "",
    `  ${key("tables")}: {`,
    `    ${key(answers.table)}: {`,
    "      // What is embedded: a column, several, or a template.",
    `      ${member("text", answers.text)}`,
    "      // What is stored beside each vector, and found with it. Default: the primary key.",
    `      // ${key("payload")}: [${payloadOf(table).map((name) => write(name)).join(", ")}],`,
    "      // Long texts in pieces, with a vector each.",
    `      // ${key("chunk")}: { ${key("maxChars")}: 2000, ${key("overlap")}: 200 },`,
    "    },",
    "  },",
    "",
    "  // A server with OpenAI's API: OpenAI (OPENAI_API_KEY), Ollama, vLLM, …",
    `  ${key("embedder")}: {`,
    `    ${member("model", model)}`,
    embedderUrl === undefined
      ? `    // ${member("url", "http://localhost:11434/v1")}`
      : `    ${member("url", embedderUrl)}`,
    `    // ${member("apiKey", "${EMBEDDER_API_KEY}")}`,
    "  },",
    "",
    `  ${key("sink")}: {`,
    `    ${member("type", sink)}`,
    ...(sink === "pgvector" ? pgvectorLines : qdrantLines)(answers, member),
    "    // Makes it, where it is missing. As many as the model's vectors have:",
    `    ${key("dimensions")}: ${answers.dimensions},`,
    "  },",
    "}",
  ];
  if (!module) return `${lines.join("\n")}\n`;
  return [
    "// What pgstream sync reads.",
    'import process from "node:process";',
    'import { defineConfig } from "@pgstream/pgstream/cli";',
    "",
    `export default defineConfig(${lines.join("\n")});`,
    "",
  ].join("\n");
}

type Member = (name: string, value: unknown) => string;

function pgvectorLines(
  { storeUrl, storeName, dimensions }: FileAnswers,
  member: Member,
): string[] {
  return [
    "    // Where its vectors are. Default: in the source's own database.",
    storeUrl === undefined
      ? `    // ${member("dsn", "${VECTORS_URL}")}`
      : `    ${member("dsn", storeUrl)}`,
    `    ${member("table", storeName)}`,
    ...dimensions > MOST_INDEXED
      ? [
        "    // Half as exact: an index cannot have so many dimensions else.",
        `    ${member("vectorType", "halfvec")}`,
      ]
      : [],
  ];
}

function qdrantLines({ storeUrl, storeName }: FileAnswers, member: Member): string[] {
  return [
    `    ${member("url", storeUrl ?? "http://localhost:6333")} // QDRANT_API_KEY is used`,
    `    ${member("collectionName", storeName)}`,
  ];
}

/** A variable of the environment as TypeScript has it. */
function asCode(value: unknown): string {
  const [, name] = /^\$\{(\w+)\}$/.exec(String(value)) ?? [];
  return name === undefined ? JSON.stringify(value) : `process.env.${name}!`;
}

function payloadOf(table: TableColumns | undefined): string[] {
  if (table === undefined) return ["id", "title"];
  const short = table.columns.filter(({ type }) => !/^(text|jsonb?|bytea)/.test(type));
  return [...new Set([...table.primaryKey, ...short.map(({ name }) => name)])].slice(0, 4);
}

/** The first two columns of text; `body` where nothing is known. */
export function defaultText(table: TableColumns | undefined): string {
  const texts = table?.columns.filter(({ type }) => /^(text|character varying)/.test(type)) ?? [];
  const [first, second] = texts;
  if (first === undefined) return "body";
  return second === undefined ? first.name : `{{${first.name}}}\n\n{{${second.name}}}`;
}
