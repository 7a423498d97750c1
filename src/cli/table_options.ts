/** From what a configuration says of a table to what `sync` is told of its rows. */

import type { AnyRow } from "../change.ts";
import type { TableColumns } from "../replication/table_columns.ts";
import { chunkText } from "../sync/chunk_text.ts";
import type { SyncOptions } from "../sync/options.ts";
import type { TableConfig } from "./config.ts";
import { placeOf } from "./config_check.ts";
import { CliError } from "./errors.ts";
import { nearest } from "./nearest.ts";
import { pick } from "./pick.ts";
import { inPlace } from "./stores.ts";
import { readTemplate, type TextMaker } from "./template.ts";

/**
 * What rows are to have.
 *
 * @param path of the table in the file
 * @throws {CliError} of kind `config` where it names a column that is not there, or a template that is none.
 */
export function rowOptions(
  table: TableConfig,
  { columns, primaryKey }: TableColumns,
  path: string,
): Pick<SyncOptions, "text" | "payload" | "chunk" | "model"> {
  const { text, payload = primaryKey, columns: published } = table;
  const all = columns.map(({ name }) => name);
  if (published !== undefined) mustHave(all, published, placeOf(path, "columns"));
  const names = published ?? all;
  if (typeof payload !== "function") mustHave(names, payload, placeOf(path, "payload"));
  return {
    text: typeof text === "function" ? text : textOf(text, names, columns, placeOf(path, "text")),
    payload,
    ...chunkOf(table, placeOf(path, "chunk")),
    ...pick(table, "model"),
  };
}

function textOf(
  text: string | readonly string[],
  names: readonly string[],
  columns: TableColumns["columns"],
  place: string,
): (row: AnyRow) => string | null {
  const { textOf } = checkText(
    text,
    columns.filter(({ name }) => names.includes(name)),
    place,
  );
  return textOf;
}

/**
 * Reads what is embedded of a row.
 *
 * @param columns that there are; null where nobody knows
 * @throws {CliError} of kind `config` where it names none of them.
 */
export function checkText(
  text: string | readonly string[],
  columns: TableColumns["columns"] | null,
  place: string,
): TextMaker {
  const template = readTemplate(text, place);
  if (columns === null) return template;
  mustHave(columns.map(({ name }) => name), template.columns, place);
  const bytes = columns.find(({ name, type }) =>
    type === "bytea" && template.columns.includes(name)
  );
  if (bytes === undefined) return template;
  throw new CliError(`${place} names the column "${bytes.name}", which is bytea`, {
    kind: "config",
    hint: "Bytes are no text: name another column",
  });
}

function chunkOf({ chunk }: TableConfig, place: string): Pick<SyncOptions, "chunk"> {
  if (chunk === undefined) return {};
  if (typeof chunk === "function") return { chunk };
  try {
    return { chunk: chunkText(chunk) };
  } catch (error) {
    throw inPlace(place, error);
  }
}

function mustHave(names: readonly string[], wanted: readonly string[], place: string): void {
  const unknown = wanted.find((name) => !names.includes(name));
  if (unknown === undefined) return;
  const meant = nearest(unknown, names);
  throw new CliError(`${place} names the column "${unknown}", which is not there`, {
    kind: "config",
    hint: meant === null
      ? `There are ${names.join(", ")}`
      : `Did you mean "${meant}"? Names are literal`,
  });
}
