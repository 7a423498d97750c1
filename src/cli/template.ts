/** Texts of rows by a template: `"{{title}}\n\n{{body}}"`. */

import { CliError } from "./errors.ts";

const COLUMN = /\{\{\s*([^{}]+?)\s*\}\}/g;

/** What is between two blank lines belongs together for who cuts texts into chunks. */
const BETWEEN_COLUMNS = "\n\n";

/** What makes a text of a row. */
export interface TextMaker {
  /** Columns that it needs. */
  columns: readonly string[];
  /** The text; null where none of them has anything. */
  textOf(row: Record<string, unknown>): string | null;
}

/**
 * Reads a template; a text without `{{…}}` is a column's name, and an array several of them.
 *
 * @param path in the file, for errors
 * @throws {CliError} of kind `config`.
 */
export function readTemplate(template: string | readonly string[], path: string): TextMaker {
  if (typeof template === "string" && template.includes("{{")) return ofPieces(template, path);
  const columns = typeof template === "string" ? [template] : template;
  if (columns.length === 0) {
    throw new CliError(`${path} names no column`, { kind: "config", hint: "Name at least one" });
  }
  return {
    columns,
    textOf(row) {
      const texts = columns.map((column) => textOfValue(row[column])).filter((text) => text !== "");
      return texts.length === 0 ? null : texts.join(BETWEEN_COLUMNS);
    },
  };
}

function ofPieces(template: string, path: string): TextMaker {
  // Every second piece is a column.
  const pieces = template.split(COLUMN);
  const columns = pieces.filter((_, index) => index % 2 === 1);
  if (
    columns.length === 0 ||
    pieces.some((piece, index) => index % 2 === 0 && /\{\{|\}\}/.test(piece))
  ) {
    throw new CliError(`${path} has braces that name no column`, {
      kind: "config",
      hint: 'A column stands between two and two of them: "{{title}}"',
    });
  }
  return {
    columns,
    textOf(row) {
      if (columns.every((column) => textOfValue(row[column]) === "")) return null;
      return pieces.map((piece, index) => index % 2 === 0 ? piece : textOfValue(row[piece]))
        .join("");
    },
  };
}

function textOfValue(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  if (value instanceof Date) return value.toISOString();
  if (typeof value !== "object") return String(value);
  return JSON.stringify(value, (_key, value) => typeof value === "bigint" ? String(value) : value);
}
