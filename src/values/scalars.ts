/**
 * Single values: the text that Postgres prints for them → what they are in JavaScript.
 *
 * The text is that of connections with fixed settings: hexadecimal bytea, dates in ISO order, floats
 * with all their digits. All of these throw a `RangeError` for any other text, and never repeat it.
 */
import { shortestFloat32 } from "./vector.ts";

const ZERO = 0x30;
const NINE = 0x39;
const PLUS = 0x2b;
const MINUS = 0x2d;
const POINT = 0x2e;
const LETTER_E = 0x65;

/** @param text `t` or `f` */
export function parseBool(text: string): boolean {
  if (text === "t") return true;
  if (text === "f") return false;
  throw new RangeError("neither t nor f");
}

/** As many digits are a number that a double holds, whatever they are. */
const SAFE_DIGITS = 15;

/** Reads int2 and int4. */
export function parseInteger(text: string): number {
  const value = text.length <= SAFE_DIGITS ? shortInteger(text) : longInteger(text);
  if (!Number.isSafeInteger(value)) throw new RangeError("no integer");
  return value;
}

/** Reads int8: a bigint, whatever its size. */
export function parseInt8(text: string): bigint {
  // Digits become a number, and that a bigint, in half the time that a text takes to become one.
  if (text.length <= SAFE_DIGITS) return BigInt(parseInteger(text));
  if (!/^-?\d{1,19}$/.test(text)) throw new RangeError("no integer");
  return BigInt(text);
}

/** NaN for what is none. */
function shortInteger(text: string): number {
  const negative = text.charCodeAt(0) === MINUS;
  const from = negative ? 1 : 0;
  if (text.length === from) return NaN;
  let value = 0;
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (!isDigit(code)) return NaN;
    value = value * 10 + (code - ZERO);
  }
  return negative ? -value : value;
}

function longInteger(text: string): number {
  return /^-?\d+$/.test(text) ? Number(text) : NaN;
}

/** Reads float8, `NaN`, `Infinity`, `-Infinity` and `-0` among them. */
export function parseFloat8(text: string): number {
  const value = Number(text);
  if (Number.isNaN(value) ? text !== "NaN" : !isNumber(text)) throw new RangeError("no number");
  return value;
}

/** Whether what JavaScript takes for a number is one that Postgres prints: no spaces, nothing hexadecimal. */
function isNumber(text: string): boolean {
  const from = text.charCodeAt(0) === MINUS ? 1 : 0;
  if (!isDigit(text.charCodeAt(from))) return text === "Infinity" || text === "-Infinity";
  for (let at = from + 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (!isDigit(code) && code !== POINT && code !== MINUS && code !== PLUS && code !== LETTER_E) {
      return false;
    }
  }
  return true;
}

function isDigit(code: number): boolean {
  return code >= ZERO && code <= NINE;
}

/** Reads float4: the number with the fewest digits, which servers before 12 do not print. */
export function parseFloat4(text: string): number {
  const value = parseFloat8(text);
  return text.length > 8 && Number.isFinite(value) ? shortestFloat32(Math.fround(value)) : value;
}

/** Reads bytea: `\x` and two hexadecimal digits a byte. */
export function parseBytea(text: string): Uint8Array {
  const digits = text.length - 2;
  if (!text.startsWith("\\x") || digits % 2 !== 0) {
    throw new RangeError("no \\x and pairs of digits");
  }
  const bytes = new Uint8Array(digits / 2);
  for (let at = 0; at < bytes.length; at++) {
    bytes[at] = digitOf(text.charCodeAt(2 * at + 2)) << 4 | digitOf(text.charCodeAt(2 * at + 3));
  }
  return bytes;
}

function digitOf(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  if (code >= 0x61 && code <= 0x66) return code - 0x57;
  throw new RangeError("no hexadecimal digit");
}
