/** A change as a line: for a person, and as JSON. */

import type { ChangeEvent } from "../change.ts";
import { formatTableName } from "../table_name.ts";
import { printable, type Terminal, type Tone } from "./terminal.ts";
import { cut, padded, widthOf } from "./text_width.ts";

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
  /** Only these columns, in this order. Null: all that came. */
  only: readonly string[] | null;
  /** Colours a text. */
  tone: Terminal["tone"];
}

/** Pieces of a line, each with its tone, cut where the line ends. */
class Line {
  readonly #tone: Terminal["tone"];
  #left: number;
  #text = "";

  constructor(columns: number, tone: Terminal["tone"]) {
    this.#left = columns;
    this.#tone = tone;
  }

  /** Adds a piece. */
  add(text: string, tone?: Tone): void {
    if (this.#left <= 0 || text === "") return;
    const fits = cut(text, this.#left);
    this.#left -= widthOf(fits);
    this.#text += tone === undefined ? fits : this.#tone(tone, fits);
  }

  toString(): string {
    return this.#text.trimEnd();
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
  line.add(printable(key), "strong");
  const names = layout.only ?? [...Object.keys(row), ...event.unchanged];
  for (const name of names) {
    const unchanged = event.unchanged.includes(name);
    if (!unchanged && !Object.hasOwn(row, name)) continue;
    line.add(`  ${printable(name)} `, "faint");
    if (unchanged) {
      line.add("(unchanged)", "faint");
      continue;
    }
    const value = (row as Record<string, unknown>)[name];
    const old = operation === "update" && oldRow !== null && Object.hasOwn(oldRow, name)
      ? (oldRow as Record<string, unknown>)[name]
      : value;
    if (old !== value) {
      addValue(line, old, "faint");
      line.add(" → ", "faint");
      addValue(line, value, "strong");
    } else {
      addValue(line, value);
    }
  }
  return `${line}`;
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
