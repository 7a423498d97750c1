/** A configuration file as `init` writes it, with comments. */

import type { TableColumns } from "../replication/table_columns.ts";

/** What it is to say. */
export interface FileAnswers {
  table: string | undefined;
  text: string | undefined;
  sink: "pgvector" | "qdrant";
  model: string;
  embedderUrl: string | undefined;
  dimensions: number;
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
  const { sink, model, embedderUrl, dimensions } = answers;
  const name = answers.table ?? "documents";
  const text = answers.text ?? defaultText(table);
  const variable = (name: string) => module ? `process.env.${name}` : JSON.stringify(`\${${name}}`);
  const key = (name: string) => module && /^\w+$/.test(name) ? name : JSON.stringify(name);
  const lines = [
    "{",
    "  // The database. DATABASE_URL and --dsn come first; without them, this:",
    `  // ${key("dsn")}: "postgresql://user@localhost/app",`,
    "",
    "  // The replication slot, and the publication of the same name: one for each program.",
    `  ${key("slotName")}: "pgstream",`,
    "",
    `  ${key("tables")}: {`,
    `    ${key(name)}: {`,
    "      // What is embedded: a column, several, or a template.",
    `      ${key("text")}: ${JSON.stringify(text)},`,
    "      // What is stored beside each vector, and found with it. Default: the primary key.",
    `      // ${key("payload")}: ${JSON.stringify(payloadOf(table))},`,
    "      // Long texts in pieces, with a vector each.",
    `      // ${key("chunk")}: { ${key("maxChars")}: 2000, ${key("overlap")}: 200 },`,
    "    },",
    "  },",
    "",
    "  // A server with OpenAI's API: OpenAI (OPENAI_API_KEY), Ollama, vLLM, …",
    `  ${key("embedder")}: {`,
    `    ${key("model")}: ${JSON.stringify(model)},`,
    embedderUrl === undefined
      ? `    // ${key("url")}: "http://localhost:11434/v1",`
      : `    ${key("url")}: ${JSON.stringify(embedderUrl)},`,
    "  },",
    "",
    `  ${key("sink")}: {`,
    `    ${key("type")}: ${JSON.stringify(sink)},`,
    ...sink === "pgvector"
      ? [
        "    // Another database than the source's:",
        `    // ${key("dsn")}: ${variable("VECTORS_URL")},`,
        `    ${key("table")}: "embeddings",`,
      ]
      : [
        `    ${key("url")}: "http://localhost:6333", // QDRANT_API_KEY is used`,
        `    ${key("collectionName")}: ${JSON.stringify(name.replaceAll(/\W/g, "_"))},`,
      ],
    "    // Makes it, where it is missing. As many as the model's vectors have:",
    `    ${key("dimensions")}: ${dimensions},`,
    "  },",
    "}",
  ];
  if (!module) return `${lines.join("\n")}\n`;
  return [
    "// pgstream sync --config reads this file.",
    'import { defineConfig } from "@pgstream/pgstream/cli";',
    "",
    `export default defineConfig(${lines.join("\n")});`,
    "",
  ].join("\n");
}

function payloadOf(table: TableColumns | undefined): string[] {
  if (table === undefined) return ["id", "title"];
  const short = table.columns.filter(({ type }) => !/^(text|jsonb?|bytea)/.test(type));
  return [...new Set([...table.primaryKey, ...short.map(({ name }) => name)])].slice(0, 4);
}

/** The first column of text; else one that is called so. */
export function defaultText(table: TableColumns | undefined): string {
  const texts = table?.columns.filter(({ type }) => /^(text|character varying)/.test(type)) ?? [];
  const [first, second] = texts;
  if (first === undefined) return "body";
  return second === undefined ? first.name : `{{${first.name}}}\n\n{{${second.name}}}`;
}
