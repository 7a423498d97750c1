/** What `init` is to write, from flags, from answers, or by default. */

import type { TableColumns } from "../replication/table_columns.ts";
import { parseWatchedName } from "../replication/watched_table.ts";
import { formatTableName } from "../table_name.ts";
import type { Asking } from "./asking.ts";
import type { Invocation } from "./command.ts";
import { defaultText, dimensionsOf, type FileAnswers } from "./config_text.ts";
import { type CliError, usageError } from "./errors.ts";
import { nearest } from "./nearest.ts";
import { checkText } from "./table_options.ts";
import { printable, type Terminal } from "./terminal.ts";

const DEFAULT_MODEL = "text-embedding-3-small";
const DEFAULT_DIMENSIONS = 1536;
/** More would fill the screen. */
const MOST_OFFERED = 20;

/** What was typed. */
export interface Flags {
  dsn: string | undefined;
  slotName: string;
  table: string | undefined;
  text: string | undefined;
  sink: "pgvector" | "qdrant" | undefined;
  storeUrl: string | undefined;
  storeName: string | undefined;
  model: string | undefined;
  embedderUrl: string | undefined;
  dimensions: number | undefined;
}

/** What is written, and the table as it stands in the database, where that is known. */
export interface Answers {
  file: FileAnswers;
  found: TableColumns | undefined;
}

/** @throws {CliError} of kind `usage` where one cannot be. */
export function readFlags(values: Invocation["values"]): Flags {
  const text = (name: string) => values[name] as string | undefined;
  const refuse = (fault: string | null, hint: string) => {
    if (fault !== null) throw usageError(fault, hint);
  };
  const sink = text("sink");
  if (sink !== undefined) refuse(sinkFault(sink), "--sink pgvector, or --sink qdrant");
  const dimensions = text("dimensions");
  if (dimensions !== undefined) refuse(dimensionsFault(dimensions), "The model's card tells it");
  for (const name of ["sink-url", "embedder-url"]) {
    const url = text(name);
    if (url !== undefined && holdsPassword(url)) {
      throw usageError(
        `--${name} holds a password, which no file is to hold`,
        `Put it into a variable and name that: --${name} '\${VECTORS_URL}'`,
      );
    }
  }
  return {
    dsn: text("dsn"),
    slotName: text("slot") ?? "pgstream",
    table: text("table"),
    text: text("text"),
    sink: sink as Flags["sink"],
    storeUrl: text("sink-url"),
    storeName: text("sink-name"),
    model: text("model"),
    embedderUrl: text("embedder-url"),
    dimensions: dimensions === undefined ? undefined : Number(dimensions),
  };
}

/**
 * What is written where nobody is asked.
 *
 * @param tables null where the database cannot be asked
 * @throws {CliError} of kind `usage` where a name is none of the database's, or nobody can know which table.
 */
export function byDefault(
  flags: Flags,
  tables: readonly TableColumns[] | null,
): Answers {
  const table = flags.table ?? onlyTable(tables);
  refuseTable(table, tables);
  const found = findTable(table, tables);
  const text = flags.text ?? defaultText(found);
  const fault = textFault(text, found);
  if (fault !== null) throw usageError(fault, "--text names a column, or several in a template");
  return { file: fileOf(flags, table, text), found };
}

/** Asks for what no flag says. @throws as `byDefault()`, and as `asking` does */
export async function askFor(
  flags: Flags,
  tables: readonly TableColumns[] | null,
  asking: Asking,
  terminal: Terminal,
): Promise<Answers> {
  if (flags.table !== undefined) refuseTable(flags.table, tables);
  else if (tables !== null && tables.length > 0) {
    terminal.note("Tables of the database:");
    for (const table of tables.slice(0, MOST_OFFERED)) terminal.note(tableLine(table));
    if (tables.length > MOST_OFFERED) terminal.note(`  and ${tables.length - MOST_OFFERED} more`);
  }
  const first = tables?.find(({ primaryKey }) => primaryKey.length > 0) ?? tables?.[0];
  const table = flags.table ??
    await asking.ask(
      "Which table?",
      first === undefined ? "documents" : formatTableName(first),
      (answer) => tableFault(answer, tables),
    );
  const found = findTable(table, tables);
  const text = flags.text ?? unescaped(
    await asking.ask(
      'What is embedded of a row: a column, or a template such as "{{title}} {{body}}"?',
      escaped(defaultText(found)),
      (answer) => textFault(unescaped(answer), found),
    ),
  );
  const sink = flags.sink ??
    await asking.ask("Which store: pgvector or qdrant?", "pgvector", sinkFault) as Flags["sink"];
  const model = flags.model ?? await asking.ask("Which embedding model?", DEFAULT_MODEL);
  const dimensions = flags.dimensions ??
    Number(
      await asking.ask(
        "Of how many dimensions?",
        `${dimensionsOf(model) ?? DEFAULT_DIMENSIONS}`,
        dimensionsFault,
      ),
    );
  return { file: fileOf({ ...flags, sink, model, dimensions }, table, text), found };
}

function fileOf(flags: Flags, table: string, text: string): FileAnswers {
  const { slotName, sink = "pgvector", model = DEFAULT_MODEL, storeUrl, embedderUrl } = flags;
  const ownName = sink === "pgvector" ? "embeddings" : table.replaceAll(/\W/g, "_");
  return {
    slotName,
    table,
    text,
    sink,
    storeUrl,
    storeName: flags.storeName ?? ownName,
    model,
    embedderUrl,
    dimensions: flags.dimensions ?? dimensionsOf(model) ?? DEFAULT_DIMENSIONS,
  };
}

function onlyTable(tables: readonly TableColumns[] | null): string {
  if (tables === null) return "documents";
  const [only, ...others] = tables;
  if (only !== undefined && others.length === 0) {
    return only.schema === "public" ? only.table : formatTableName(only);
  }
  const names = tables.slice(0, MOST_OFFERED).map(formatTableName).join(", ");
  throw usageError(
    "Nobody says which table",
    only === undefined ? "The database has none: make it first" : `--table with one of ${names}`,
  );
}

function refuseTable(name: string, tables: readonly TableColumns[] | null): void {
  const fault = tableFault(name, tables);
  if (fault !== null) throw usageError(fault, "--table names one that is there");
}

function tableFault(name: string, tables: readonly TableColumns[] | null): string | null {
  try {
    parseWatchedName(name);
  } catch (error) {
    return (error as CliError).message;
  }
  if (tables === null || findTable(name, tables) !== undefined) return null;
  const meant = nearest(name, tables.flatMap((one) => [one.table, formatTableName(one)]));
  return `The database has no table ${printable(name)} that can be watched` +
    (meant === null ? "" : `: did you mean ${meant}?`);
}

function findTable(
  name: string,
  tables: readonly TableColumns[] | null,
): TableColumns | undefined {
  const full = formatTableName(parseWatchedName(name));
  return tables?.find((table) => formatTableName(table) === full);
}

function textFault(text: string, table: TableColumns | undefined): string | null {
  try {
    checkText(text, table?.columns ?? null, "The text");
    return null;
  } catch (error) {
    return (error as CliError).message;
  }
}

function sinkFault(sink: string): string | null {
  return sink === "pgvector" || sink === "qdrant" ? null : `There is no store "${sink}"`;
}

function dimensionsFault(text: string): string | null {
  const dimensions = Number(text);
  return Number.isInteger(dimensions) && dimensions > 0
    ? null
    : "Dimensions are a whole number from 1";
}

function holdsPassword(url: string): boolean {
  return /:\/\/[^/@]*:[^/@]*@|[?&\s]password=|^password=/i.test(url);
}

/** A line end, which a person cannot type into a line. */
function escaped(text: string): string {
  return text.replaceAll("\n", "\\n");
}

function unescaped(text: string): string {
  return text.replaceAll("\\n", "\n");
}

/** For who has to choose one. */
function tableLine(table: TableColumns): string {
  const columns = table.columns.map(({ name }) => printable(name)).join(", ");
  const key = table.primaryKey.length === 0 ? "; no primary key" : "";
  return `  ${printable(formatTableName(table))} (${columns}${key})`;
}
