/** `pgstream init`: writes a configuration file to begin with. */

import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import process from "node:process";
import { readTableColumns, type TableColumns } from "../../replication/table_columns.ts";
import { Asking } from "../asking.ts";
import type { Command, Invocation } from "../command.ts";
import { isModule } from "../config_file.ts";
import { writeConfig } from "../config_text.ts";
import { CliError, usageError } from "../errors.ts";
import { askFor, byDefault, type Flags, readFlags } from "../init_answers.ts";
import { messageOf } from "../message.ts";
import { pick } from "../pick.ts";
import type { Terminal } from "../terminal.ts";

/** `pgstream init`. */
export const init: Command = {
  summary: "Writes a configuration file, with comments, after asking",
  operands: "",
  description: "What a flag says is not asked for; with --yes nothing is, and what no flag says " +
    "is as by default. Where the database can be reached, its tables and columns are offered, " +
    "and what is named is looked up.\n\n" +
    "The file holds no password: it names variables of the environment.",
  options: {
    table: { type: "string", value: "NAME", help: "the table; more of them are added by hand" },
    text: {
      type: "string",
      value: "TEXT",
      help: 'what is embedded: a column, or a template, "{{title}} {{body}}"',
    },
    sink: { type: "string", value: "KIND", help: "pgvector or qdrant. Default: pgvector" },
    "sink-url": {
      type: "string",
      value: "URL",
      help: "where it is. Default: the source, or http://localhost:6333. With a password, " +
        "name a variable: '${VECTORS_URL}'",
    },
    "sink-name": {
      type: "string",
      value: "NAME",
      help: "its table, or collection. Default: embeddings, or as the table",
    },
    model: { type: "string", value: "NAME", help: "Default: text-embedding-3-small" },
    "embedder-url": { type: "string", value: "URL", help: "Default: OpenAI's own" },
    dimensions: { type: "string", value: "N", help: "of the model's vectors. Default: its own" },
    output: {
      type: "string",
      short: "o",
      value: "FILE",
      help: "Default: pgstream.json; pgstream.config.ts is written in TypeScript",
    },
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
      "pgstream init --embedder-url http://localhost:11434/v1 --model nomic-embed-text",
      "for a model that Ollama serves",
    ],
  ],
  run,
};

async function run({ values, terminal, signal }: Invocation): Promise<void> {
  const output = values.output as string | undefined ?? "pgstream.json";
  const force = values.force === true;
  if (!isModule(output) && !/\.jsonc?$/.test(output)) {
    throw usageError(`A file called ${output} would not be read`, "It ends in .json or .ts");
  }
  if (existsSync(output) && !force) throw isThere(output);
  const flags = readFlags(values);
  const asking = values.yes === true
    ? null
    : new Asking(signal, "what is to be in the file", "Say --yes, and what is wanted by flags");
  try {
    const tables = await tablesOf(flags, terminal, signal);
    const answers = asking === null
      ? byDefault(flags, tables)
      : await askFor(flags, tables, asking, terminal);
    const text = writeConfig(answers.file, answers.found, isModule(output));
    await writeFile(output, text, { flag: force ? "w" : "wx" }).catch((error) => {
      throw (error as { code?: string }).code === "EEXIST" ? isThere(output) : error;
    });
    await terminal.print(`Wrote ${output}`);
    terminal.note(nextSteps(flags, output));
  } finally {
    asking?.close();
  }
}

/** What can be watched; null where the database cannot be asked. */
async function tablesOf(
  flags: Flags,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<TableColumns[] | null> {
  try {
    // Not by the settings: a file that is there may be the one that is to be written anew.
    return await readTableColumns({ ...pick(flags, "dsn"), logger: false, signal });
  } catch (error) {
    signal.throwIfAborted();
    terminal.note(`The database cannot be asked for its tables: ${messageOf(error)}`);
    return null;
  }
}

function nextSteps({ dsn }: Flags, output: string): string {
  const config = /^pgstream\.(json|config\.[jt]s)$/.test(output) ? "" : ` --config ${output}`;
  const steps = [
    ...dsn !== undefined && !process.env.DATABASE_URL ? ["set DATABASE_URL"] : [],
    `pgstream doctor${config}`,
    `pgstream sync${config}`,
  ];
  return `Then: ${steps.join(", ")}`;
}

function isThere(output: string): CliError {
  return new CliError(`There is a file ${output}`, {
    kind: "config",
    hint: "--force writes over it, --output names another",
  });
}
