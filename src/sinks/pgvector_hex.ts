/**
 * Vectors as text that costs neither side much: numbers in hexadecimal, as C's `strtof` reads them, with which
 * pgvector reads each of them. `[0x935be8p-29,-0x8p-3]` is [0.018, -1]: a float's own bits. No decimal digits are to
 * be found for it, which takes JavaScript longer than the server takes for all the rest, and none to be rounded.
 */

import type { Vector } from "../values/vector.ts";

const DIGITS = bytesOf("0123456789abcdef");
/** `-0xffffffp-149,` */
const MAX_ELEMENT_BYTES = 15;
/** Of a float that has no leading one: 2^-149 is the least there is. */
const LEAST_EXPONENT = -149;
const EXPONENTS = Array.from(
  { length: 128 - LEAST_EXPONENT },
  (_, index) => bytesOf(`p${index + LEAST_EXPONENT},`),
);
const ASCII = new TextDecoder();

let scratch = new Uint8Array(0);

/** @param vector whose elements are finite 32-bit floats; those of an array are rounded to them. */
export function formatHexVector(vector: Vector): string {
  const floats = vector instanceof Float32Array ? vector : Float32Array.from(vector);
  const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  const maxBytes = 1 + MAX_ELEMENT_BYTES * bits.length;
  if (scratch.length < maxBytes) scratch = new Uint8Array(maxBytes);
  const bytes = scratch;
  let at = 0;
  bytes[at++] = 0x5b; // [
  for (let index = 0; index < bits.length; index++) {
    const float = bits[index]!;
    const biased = float >>> 23 & 0xff;
    let fraction = float & 0x7fffff;
    if (biased !== 0) fraction |= 0x800000;
    if (fraction === 0) {
      bytes[at++] = 0x30; // 0
      bytes[at++] = 0x2c; // ,
      continue;
    }
    if (float >>> 31 !== 0) bytes[at++] = 0x2d; // -
    bytes[at++] = 0x30; // 0x
    bytes[at++] = 0x78;
    // Six digits are the fraction; those that are 0 at its end are left out.
    let exponent = Math.max(biased, 1) - 1 + 24;
    do {
      bytes[at++] = DIGITS[fraction >>> 20]!;
      fraction = fraction << 4 & 0xffffff;
      exponent -= 4;
    } while (fraction !== 0);
    const text = EXPONENTS[exponent]!;
    for (let place = 0; place < text.length; place++) bytes[at++] = text[place]!;
  }
  bytes[at - 1] = 0x5d; // ]
  return ASCII.decode(bytes.subarray(0, at));
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}
