/** Texts of rows by a template: `"{{title}}\n\n{{body}}"`. */

import { CliError } from "./errors.ts";

const COLUMN = /\{\{\s*([^{}]*?)\s*\}\}/g;

/** What is between two blank lines belongs together for who cuts texts into chunks. */
const BETWEEN_COLUMNS = "\n\n";

/** What makes a text of a row. */
export interface TextMaker {
  /** Columns that it needs. */
  columns: readonly string[];
  /** The text; null where none of them has anything. @throws {CliError} where the row has not all of them. */
  textOf(row: Record<string, unknown>): string | null;
}

/**
 * Reads a template; a text without braces is a column's name, and an array several of them.
 *
 * @param place in the file, for errors
 * @throws {CliError} of kind `config`.
 */
export function readTemplate(template: string | readonly string[], place: string): TextMaker {
  if (typeof template === "string" && /\{\{|\}\}/.test(template)) return ofPieces(template, place);
  const columns = typeof template === "string" ? [template] : template;
  if (columns.length === 0) {
    throw new CliError(`${place} names no column`, { kind: "config", hint: "Name at least one" });
  }
  return {
    columns,
    textOf(row) {
      const texts = columns.map((column) => valueOf(row, column, place));
      const some = texts.filter((text) => text.trim() !== "");
      return some.length === 0 ? null : some.join(BETWEEN_COLUMNS);
    },
  };
}

function ofPieces(template: string, place: string): TextMaker {
  // Every second piece is a column.
  const pieces = template.split(COLUMN);
  const columns = pieces.filter((_, index) => index % 2 === 1);
  const between = pieces.filter((_, index) => index % 2 === 0);
  // Three of them mean something in other templates, and nothing here.
  const odd = /\{\{\{|\}\}\}/.test(template) || /\{\{|\}\}/.test(between.join(" "));
  if (odd || columns.length === 0 || columns.includes("")) {
    throw new CliError(`${place} has braces that name no column`, {
      kind: "config",
      hint:
        'A column stands between two and two of them: "{{title}}"; one that has braces in its ' +
        'name, in an array: ["{odd}"]',
    });
  }
  return {
    columns: [...new Set(columns)],
    textOf(row) {
      const texts = pieces.map((piece, index) =>
        index % 2 === 0 ? piece : valueOf(row, piece, place)
      );
      const has = texts.some((text, index) => index % 2 === 1 && text.trim() !== "");
      return has ? texts.join("") : null;
    },
  };
}

function valueOf(row: Record<string, unknown>, column: string, place: string): string {
  if (Object.hasOwn(row, column)) return textOfValue(row[column]);
  throw new CliError(`${place} names the column "${column}", which the publication has not`, {
    kind: "config",
    hint: "Generated columns are published by PostgreSQL 18 and later alone, and only with " +
      '"publishGeneratedColumns": true',
  });
}

/** As JSON has it, where it is not a text. */
function textOfValue(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  if (value instanceof Date) return value.toISOString();
  if (typeof value !== "object") return String(value);
  return JSON.stringify(value, (_key, value) => typeof value === "bigint" ? String(value) : value);
}
