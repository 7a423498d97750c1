/**
 * Vectors as text that costs neither side much: numbers in hexadecimal, as C's `strtof` reads them, with which
 * pgvector reads each of them. `[ 0x935be8p-29,-0x80p-07]` is [0.018, -1]: a float's own bits. No decimal digits are to
 * be found for it, which takes JavaScript longer than the server takes for all the rest, and none to be rounded.
 *
 * All is written two characters at a time, of tables; a space, which pgvector passes over, makes up the pair where
 * there is no sign.
 */

import type { Vector } from "../values/vector.ts";

/** `-0xffffffp-149,` */
const MAX_ELEMENT_PAIRS = 8;
const ASCII = new TextDecoder();

const BEGIN = pair(" [");
const SIGNS = Uint16Array.of(pair(" 0"), pair("-0"));
/** `x8`, `8p` and `88` of a digit or two. */
const X_DIGIT = table(16, (digit) => `x${digit.toString(16)}`);
const DIGIT_P = table(16, (digit) => `${digit.toString(16)}p`);
const TWO_DIGITS = table(256, (byte) => byte.toString(16).padStart(2, "0"));
/** Of exponents from −99 to 99, which all but a few floats have: `-2` and `9,`. */
const MAX_EXPONENT = 99;
const TENS = table(199, (at) => textOfExponent(at - MAX_EXPONENT).slice(0, 2));
const ONES = table(199, (at) => `${textOfExponent(at - MAX_EXPONENT).slice(2)},`);

let scratch = new Uint16Array(0);

/** @param vector whose elements are finite 32-bit floats; those of an array are rounded to them. */
export function formatHexVector(vector: Vector): string {
  const floats = vector instanceof Float32Array ? vector : Float32Array.from(vector);
  const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  const maxPairs = 1 + MAX_ELEMENT_PAIRS * bits.length;
  if (scratch.length < maxPairs) scratch = new Uint16Array(maxPairs);
  const pairs = scratch;
  let at = 0;
  pairs[at++] = BEGIN;
  for (let index = 0; index < bits.length; index++) {
    const float = bits[index]!;
    const biased = float >>> 23 & 0xff;
    const fraction = float & 0x7fffff | (biased === 0 ? 0 : 0x800000);
    // Of numbers that were rounded to few bits, two digits are all there is.
    const isShort = (fraction & 0xffff) === 0;
    const exponent = biased - (isShort ? 134 : 150);
    if (biased === 0 || exponent < -MAX_EXPONENT || exponent > MAX_EXPONENT) {
      at = writeRare(pairs, at, float);
      continue;
    }
    pairs[at++] = SIGNS[float >>> 31]!;
    pairs[at++] = X_DIGIT[fraction >>> 20]!;
    if (!isShort) {
      pairs[at++] = TWO_DIGITS[fraction >>> 12 & 0xff]!;
      pairs[at++] = TWO_DIGITS[fraction >>> 4 & 0xff]!;
    }
    pairs[at++] = DIGIT_P[isShort ? fraction >>> 16 & 0xf : fraction & 0xf]!;
    pairs[at++] = TENS[exponent + MAX_EXPONENT]!;
    pairs[at++] = ONES[exponent + MAX_EXPONENT]!;
  }
  const bytes = new Uint8Array(pairs.buffer, 0, 2 * at);
  bytes[bytes.length - 1] = 0x5d; // ]
  return ASCII.decode(bytes);
}

/** Zeroes, and what is very large or very small. @returns where the next one goes */
function writeRare(pairs: Uint16Array, at: number, float: number): number {
  const biased = float >>> 23 & 0xff;
  const fraction = float & 0x7fffff | (biased === 0 ? 0 : 0x800000);
  const digits = `0x${fraction.toString(16)}p${Math.max(biased, 1) - 150}`;
  let text = fraction === 0 ? "0," : `${float >>> 31 === 0 ? "" : "-"}${digits},`;
  if (text.length % 2 === 1) text = ` ${text}`;
  for (let place = 0; place < text.length; place += 2) {
    pairs[at++] = pair(text.slice(place, place + 2));
  }
  return at;
}

function textOfExponent(exponent: number): string {
  return `${exponent < 0 ? "-" : "+"}${`${Math.abs(exponent)}`.padStart(2, "0")}`;
}

function table(length: number, textOf: (at: number) => string): Uint16Array {
  return Uint16Array.from({ length }, (_, at) => pair(textOf(at)));
}

/** Two characters as the processor keeps a pair of bytes. */
function pair(text: string): number {
  return new Uint16Array(Uint8Array.of(text.charCodeAt(0), text.charCodeAt(1)).buffer)[0]!;
}
