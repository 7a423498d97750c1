/** Floats as numbers of which JSON is short. */

/** How many decimal places a number may have for a power of ten to be exact. */
const MAX_PLACES = 22;

/**
 * Of each exponent of a 32-bit float, 10 to the power of so many decimal places that there are eight or nine digits,
 * which tell each float from all others. NaN where those would be no places, or too many.
 */
const SCALES = Float64Array.from({ length: 256 }, (_, biased) => {
  const places = 9 - Math.ceil(Math.log10(2 ** (biased - 126)));
  return places >= 0 && places <= MAX_PLACES ? 10 ** places : NaN;
});

/**
 * The elements as numbers with nine digits at most, where those tell the float: 0.1 of a `Float32Array` is
 * 0.10000000149011612 for JavaScript, and here 0.100000001. Read back as 32-bit floats, as Qdrant does, they are the
 * same. A request is a third shorter so.
 */
export function shortNumbers(vector: Float32Array): number[] {
  const bits = new Uint32Array(vector.buffer, vector.byteOffset, vector.length);
  // `Array.from` goes by the iterator, which in V8 takes ten times as long.
  const numbers = new Array<number>(vector.length);
  for (let index = 0; index < vector.length; index++) {
    const float = vector[index]!;
    const scale = SCALES[bits[index]! >>> 23 & 0xff]!;
    const short = Math.round(float * scale) / scale;
    numbers[index] = Math.fround(short) === float ? short : float;
  }
  return numbers;
}
