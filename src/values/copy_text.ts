/**
 * Rows of COPY … TO STDOUT in text format.
 * https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
 */
import { decodeText } from "../bytes.ts";

const NEWLINE = 0x0a;
const MISCOUNTED = "A row of COPY has not a value for each column";
const encoder = new TextEncoder();

/** What the letters after a backslash stand for; any other character stands for itself. */
const ESCAPES: Readonly<Record<string, string>> = {
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/**
 * Reads one row, with the default delimiter (a tab) and null string (`\N`), into an object: each
 * column's text under the column's name; SQL NULL is null.
 *
 * @param columns their names, or their places where `row` is an array
 * @param bytes hold the payload of one CopyData, with its newline; borrowed until the call returns.
 * @param start where it begins
 * @param end where it ends
 * @throws {RangeError} where the payload is no such row, has not a value for each column, or is not
 * UTF-8. The message has no value.
 */
export function readCopyRow<Column extends string | number>(
  row: Record<Column, string | null>,
  columns: readonly Column[],
  bytes: Uint8Array,
  start: number,
  end: number,
): void {
  const line = lineOf(bytes, start, end);
  const escaped = line.includes("\\");
  if (escaped) refuseEnd(line);
  // A row of no columns is an empty line, as is one of one empty text.
  if (columns.length === 0 && line !== "") throw new RangeError(MISCOUNTED);
  let from = 0;
  for (let column = 0; column < columns.length; column++) {
    const tab = line.indexOf("\t", from);
    const last = column === columns.length - 1;
    if (last !== (tab === -1)) throw new RangeError(MISCOUNTED);
    const value = last ? line.slice(from) : line.slice(from, tab);
    row[columns[column]!] = escaped ? valueOf(value, column) : value;
    from = tab + 1;
  }
}

/**
 * Splits one row into its values.
 *
 * @param bytes hold the payload of one CopyData, with its newline; borrowed until the call returns.
 * @param start where it begins
 * @param end where it ends
 * @returns each column's text; SQL NULL is null. A row always has a value: one of a table without
 * columns reads as one empty text.
 * @throws {RangeError} where the payload is no such row, or not UTF-8. The message has no value.
 */
export function splitCopyRow(
  bytes: Uint8Array,
  start = 0,
  end: number = bytes.length,
): (string | null)[] {
  const line = lineOf(bytes, start, end);
  const values = line.split("\t");
  if (!line.includes("\\")) return values;
  refuseEnd(line);
  return values.map(valueOf);
}

function lineOf(bytes: Uint8Array, start: number, end: number): string {
  if (end <= start || bytes[end - 1] !== NEWLINE) {
    throw new RangeError("A row of COPY does not end in a newline");
  }
  const line = decodeText(bytes, start, end - 1);
  if (line.includes("\n") || line.includes("\r") || line.includes("\0")) {
    throw new RangeError("A row of COPY holds a bare newline, carriage return or zero byte");
  }
  return line;
}

function refuseEnd(line: string): void {
  if (line === "\\.") throw new RangeError("An end-of-data marker is no row of COPY");
}

function valueOf(value: string, column: number): string | null {
  if (!value.includes("\\")) return value;
  return value === "\\N" ? null : unescape(value, column);
}

/**
 * Undoes the escapes of one value. Beside those that a server writes (`\b \f \n \r \t \v \\`) it
 * reads what COPY FROM does: up to three octal digits or `\x` and up to two hexadecimal ones as a
 * byte, and any other character as itself.
 */
function unescape(value: string, column: number): string {
  let text = "";
  let from = 0;
  for (let at = value.indexOf("\\"); at !== -1; at = value.indexOf("\\", from)) {
    text += value.slice(from, at);
    const code = value.charCodeAt(at + 1);
    // Octal, or `\x` and a hexadecimal digit: bytes, which only together are UTF-8.
    if ((code >= 0x30 && code <= 0x37) || code === 0x78) {
      return unescapeBytes(value, column);
    }
    const character = String.fromCodePoint(characterAt(value, at + 1, column));
    text += ESCAPES[character] ?? character;
    from = at + 1 + character.length;
  }
  return text + value.slice(from);
}

/** The same for a value that writes bytes as numbers, which no server does by itself. */
function unescapeBytes(value: string, column: number): string {
  const bytes: number[] = [];
  const escape = /\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2}))/y;
  const push = (text: string): void => {
    for (const byte of encoder.encode(text)) bytes.push(byte);
  };
  for (let at = 0; at < value.length;) {
    const next = value.indexOf("\\", at);
    if (next !== at) {
      // All of it at once: one by one, a value of megabytes took seconds.
      const run = value.slice(at, next === -1 ? undefined : next);
      push(run);
      at += run.length;
      continue;
    }
    escape.lastIndex = at;
    const number = escape.exec(value);
    if (number !== null) {
      const [written, octal, hexadecimal] = number;
      bytes.push((octal === undefined ? parseInt(hexadecimal!, 16) : parseInt(octal, 8)) & 0xff);
      at += written!.length;
      continue;
    }
    const code = characterAt(value, at + 1, column);
    const character = String.fromCodePoint(code);
    // By an encoder, a value of megabytes of them took a second.
    if (code < 0x80) bytes.push((ESCAPES[character] ?? character).charCodeAt(0));
    else push(character);
    at += 1 + character.length;
  }
  if (bytes.includes(0)) throw new RangeError(`Column ${column} of a row of COPY has a zero byte`);
  return decodeText(Uint8Array.from(bytes));
}

function characterAt(value: string, at: number, column: number): number {
  const code = value.codePointAt(at);
  if (code !== undefined) return code;
  throw new RangeError(`Column ${column} of a row of COPY ends in a lone backslash`);
}
