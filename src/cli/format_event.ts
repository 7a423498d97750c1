/** A change as a line: for a person, and as JSON. */

import type { ChangeEvent } from "../change.ts";
import { formatTableName } from "../table_name.ts";
import { printable, type Terminal, type Tone } from "./terminal.ts";
import { beginning, cut, padded, widthOf } from "./text_width.ts";

/** A value is cut here, so that those behind it have a place. */
const VALUE_COLUMNS = 40;
/** What the longest of these words takes. */
const OPERATION_COLUMNS = "truncate".length;

const TONES: Readonly<Record<ChangeEvent["operation"], Tone>> = {
  insert: "good",
  update: "warning",
  delete: "bad",
  truncate: "bad",
};

/** How lines are laid out. */
export interface LineLayout {
  /** Cells of a line. */
  columns: number;
  /** Cells of the longest table's name. */
  tableColumns: number;
  /** Cells of the longest key so far, or fewer: longer ones push what is behind them. */
  keyColumns: number;
  /** Only these columns, in this order. Null: all that came, but for those of the key. */
  only: readonly string[] | null;
  /** Columns of the primary key, which stand at the line's beginning. */
  keyNames: readonly string[];
  /** Colours a text. */
  tone: Terminal["tone"];
}

/** Pieces of a line, each with its tone, cut where the line ends. */
class Line {
  readonly #tone: Terminal["tone"];
  readonly #columns: number;
  readonly #pieces: { text: string; tone: Tone | undefined }[] = [];
  #width = 0;

  constructor(columns: number, tone: Terminal["tone"]) {
    this.#columns = columns;
    this.#tone = tone;
  }

  /** Adds a piece; past the end none. */
  add(text: string, tone?: Tone): void {
    if (text === "" || this.#width > this.#columns) return;
    this.#pieces.push({ text, tone });
    this.#width += widthOf(text);
  }

  toString(): string {
    const last = this.#pieces.at(-1)!;
    const trimmed = last.text.trimEnd();
    this.#width -= last.text.length - trimmed.length;
    last.text = trimmed;
    let left = this.#width > this.#columns ? this.#columns - 1 : Infinity;
    let line = "";
    for (const { text, tone } of this.#pieces) {
      const width = widthOf(text);
      const fits = width <= left ? text : beginning(text, left);
      line += tone === undefined || fits === "" ? fits : this.#tone(tone, fits);
      left -= width;
      if (left < 0) return `${line}…`;
    }
    return line;
  }
}

/** Time, operation, table, key, then columns: one line, whatever is in them. */
export function eventLine(event: ChangeEvent, layout: LineLayout): string {
  const { operation, key, oldKey, oldRow, row } = event;
  const line = new Line(layout.columns, layout.tone);
  line.add(`${timeOf(event.commitTime)} `, "faint");
  line.add(`${operation.padEnd(OPERATION_COLUMNS)} `, TONES[operation]);
  line.add(`${padded(printable(formatTableName(event)), layout.tableColumns)} `, "accent");
  if (key === null) return `${line}`;
  if (oldKey !== null) line.add(`${printable(oldKey)} → `, "faint");
  line.add(oldKey === null ? padded(printable(key), layout.keyColumns) : printable(key), "strong");
  for (const name of namesOf(event, layout)) {
    line.add(`  ${printable(name)} `, "faint");
    if (event.unchanged.includes(name)) {
      line.add("(unchanged)", "faint");
      continue;
    }
    const value = (row as Record<string, unknown>)[name];
    if (isChanged(event, name)) {
      addValue(line, (oldRow as Record<string, unknown>)[name], "faint");
      line.add(" → ", "faint");
      addValue(line, value, "strong");
    } else {
      addValue(line, value);
    }
  }
  return `${line}`;
}

/** What is shown of it, in this order: what has changed first, where that is known, for a line has its end. */
function namesOf(event: ChangeEvent, { only, keyNames }: LineLayout): string[] {
  const { operation, row, unchanged } = event;
  if (only !== null) {
    return only.filter((name) => unchanged.includes(name) || Object.hasOwn(row, name));
  }
  // Of a row that is gone the server may tell nothing but its key, which stands there.
  const names = [...Object.keys(row), ...unchanged].filter((name) => !keyNames.includes(name));
  if (operation !== "update") return names;
  const changed = names.filter((name) => isChanged(event, name));
  return [...changed, ...names.filter((name) => !changed.includes(name))];
}

/** True where the row before is known, and had another value. */
function isChanged({ operation, oldRow, row }: ChangeEvent, name: string): boolean {
  return operation === "update" && oldRow !== null && Object.hasOwn(oldRow, name) &&
    Object.hasOwn(row, name) && oldRow[name] !== row[name];
}

function addValue(line: Line, value: unknown, tone?: Tone): void {
  if (value === null) line.add("NULL", "faint");
  // Long texts are cut before anything else is done to them.
  else line.add(cut(printable(String(value).slice(0, 8 * VALUE_COLUMNS)), VALUE_COLUMNS), tone);
}

function timeOf(time: Date): string {
  const two = (value: number, digits = 2) => String(value).padStart(digits, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${
    two(time.getMilliseconds(), 3)
  }`;
}

/** All that an event has, as JSON on one line, values as PostgreSQL prints them. @param only these columns; null: all */
export function eventJson(event: ChangeEvent, only: readonly string[] | null): string {
  if (only === null) return JSON.stringify(event);
  const part = (row: Record<string, unknown>) =>
    Object.fromEntries(
      only.filter((name) => Object.hasOwn(row, name)).map((name) => [
        name,
        row[name],
      ]),
    );
  return JSON.stringify({
    ...event,
    row: part(event.row),
    oldRow: event.oldRow === null ? null : part(event.oldRow),
    unchanged: event.unchanged.filter((name) => only.includes(name)),
  });
}
