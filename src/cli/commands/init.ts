/** `pgstream init`: writes a configuration file to begin with. */

import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import process from "node:process";
import { createInterface, type Interface } from "node:readline/promises";
import { readTableColumns, type TableColumns } from "../../replication/table_columns.ts";
import { formatTableName } from "../../table_name.ts";
import type { Command, Invocation } from "../command.ts";
import { defaultText, type FileAnswers, writeConfig } from "../config_text.ts";
import { CliError, usageError } from "../errors.ts";
import { messageOf } from "../message.ts";
import type { Settings } from "../settings.ts";
import type { Terminal } from "../terminal.ts";

/** `pgstream init`. */
export const init: Command = {
  summary: "Writes a configuration file, with comments, after asking",
  operands: "",
  description: "What a flag says is not asked for; with --yes nothing is, and what no flag says " +
    "is as by default. The file holds no password: it names variables of the environment.",
  options: {
    table: { type: "string", value: "NAME", help: "the table; more of them are added by hand" },
    text: {
      type: "string",
      value: "TEXT",
      help: 'what is embedded: a column, or a template, "{{title}} {{body}}"',
    },
    sink: { type: "string", value: "KIND", help: "pgvector or qdrant. Default: pgvector" },
    model: { type: "string", value: "NAME", help: "Default: text-embedding-3-small" },
    "embedder-url": { type: "string", value: "URL", help: "Default: OpenAI's own" },
    dimensions: { type: "string", value: "N", help: "of the model's vectors. Default: 1536" },
    output: { type: "string", short: "o", value: "FILE", help: "Default: pgstream.json" },
    force: { type: "boolean", help: "write over a file that is there" },
    yes: { type: "boolean", short: "y", help: "ask nothing" },
  },
  examples: [
    ["pgstream init", "asks, and writes pgstream.json"],
    [
      "pgstream init --yes --table documents --text body --output pgstream.config.ts",
      "asks nothing, and writes TypeScript",
    ],
    [
      "pgstream init --embedder-url http://localhost:11434/v1 --model nomic-embed-text --dimensions 768",
      "for a model that Ollama serves",
    ],
  ],
  run,
};

async function run({ values, settings, terminal, signal }: Invocation): Promise<void> {
  const text = (name: string) => values[name] as string | undefined;
  const output = text("output") ?? "pgstream.json";
  if (!/\.(json|jsonc|json5|ts|js)$/.test(output)) {
    throw usageError(`${output} is no name for a file of it`, "It ends in .json or .ts");
  }
  if (existsSync(output) && values.force !== true) {
    throw new CliError(`There is a file ${output}`, {
      kind: "config",
      hint: "--force writes over it, --output names another",
    });
  }
  const sink = text("sink") ?? "pgvector";
  if (sink !== "pgvector" && sink !== "qdrant") {
    throw usageError(`There is no store "${sink}"`, "--sink pgvector, or --sink qdrant");
  }
  const dimensions = Number(text("dimensions") ?? 1536);
  if (!(Number.isInteger(dimensions) && dimensions > 0)) {
    throw usageError("--dimensions is no whole number from 1", "The model's card tells it");
  }
  const asks = values.yes !== true;
  if (asks && process.stdin.isTTY !== true) {
    throw usageError("There is nobody to ask", "Say --yes, and what is wanted by flags");
  }
  const tables = await tablesOf(await settings(), terminal, signal);
  const given: FileAnswers = {
    table: text("table") ?? (asks ? undefined : "documents"),
    text: text("text"),
    sink,
    model: text("model") ?? "text-embedding-3-small",
    embedderUrl: text("embedder-url"),
    dimensions,
  };
  const answers = asks ? await ask(given, values, tables, signal) : given;
  const name = answers.table ?? "documents";
  const found = tables.find((table) => formatTableName(table) === qualified(name));
  await writeFile(output, writeConfig({ ...answers, table: name }, found, output.endsWith("s")));
  await terminal.print(`Wrote ${output}`);
  terminal.note("Then: pgstream doctor, pgstream sync");
}

/** What can be watched; nothing where the database cannot be asked. */
async function tablesOf(
  { dsn, logger }: Settings,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<TableColumns[]> {
  try {
    return await readTableColumns({ ...dsn === undefined ? {} : { dsn }, logger, signal });
  } catch (error) {
    signal.throwIfAborted();
    terminal.note(`The database cannot be asked for its tables: ${messageOf(error)}`);
    return [];
  }
}

async function ask(
  given: FileAnswers,
  values: Invocation["values"],
  tables: readonly TableColumns[],
  signal: AbortSignal,
): Promise<FileAnswers> {
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  const answers = { ...given };
  try {
    answers.table ??= await question(
      asking,
      tables.length === 0
        ? "Which table?"
        : `Which table? (${tables.slice(0, 20).map(formatTableName).join(", ")})`,
      tables[0] === undefined ? "documents" : formatTableName(tables[0]),
      signal,
    );
    const table = tables.find((table) => formatTableName(table) === qualified(answers.table!));
    const names = table?.columns.map(({ name }) => name).join(", ");
    answers.text ??= await question(
      asking,
      `What is embedded: a column, or a template such as "{{title}} {{body}}"?${
        names === undefined ? "" : ` (${names})`
      }`,
      defaultText(table),
      signal,
    );
    if (values.sink === undefined) {
      const sink = await question(asking, "Which store: pgvector or qdrant?", "pgvector", signal);
      if (sink !== "pgvector" && sink !== "qdrant") {
        throw usageError(`There is no store "${sink}"`, "pgvector, or qdrant");
      }
      answers.sink = sink;
    }
    if (values.model === undefined) {
      answers.model = await question(asking, "Which model?", given.model, signal);
    }
    if (values.dimensions === undefined) {
      const answer = await question(asking, "Of how many dimensions?", "1536", signal);
      answers.dimensions = Number(answer);
      if (!(Number.isInteger(answers.dimensions) && answers.dimensions > 0)) {
        throw usageError("Dimensions are a whole number from 1", "The model's card tells it");
      }
    }
    return answers;
  } finally {
    asking.close();
  }
}

async function question(
  asking: Interface,
  text: string,
  otherwise: string,
  signal: AbortSignal,
): Promise<string> {
  const answer = await asking.question(`${text} [${otherwise}] `, { signal }).catch((error) => {
    signal.throwIfAborted();
    throw error;
  });
  return answer.trim() === "" ? otherwise : answer.trim();
}

function qualified(name: string): string {
  return name.includes(".") ? name : `public.${name}`;
}
