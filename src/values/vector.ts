/** Vectors, and the text that pgvector reads and prints for them: `[1,2,3]`. */

/** A dense vector: what an embedding model gives. */
export type Vector = readonly number[] | Float32Array;

/**
 * What is wrong with a vector, in words that never hold a value of it; `null` where every element is
 * a finite number that a 32-bit float can hold, and there is at least one.
 */
export function vectorFault(vector: Vector): string | null {
  const isFloat32 = vector instanceof Float32Array;
  // Callers without types: a promise that nobody awaited, a response object of an embedding service.
  if (!isFloat32 && !Array.isArray(vector)) {
    return "it is neither an array of numbers nor a Float32Array";
  }
  if (vector.length === 0) return "it is empty";
  for (let index = 0; index < vector.length; index++) {
    const element = vector[index]!;
    if (
      typeof element !== "number" || !Number.isFinite(isFloat32 ? element : Math.fround(element))
    ) {
      return `element ${index} (of ${vector.length}, from 0) is not a finite 32-bit float`;
    }
  }
  return null;
}

/**
 * Writes a vector as pgvector reads it. An element of a `Float32Array` is written with as few digits
 * as read back to the same float, an element of an array as JavaScript prints it.
 *
 * @throws {RangeError} where `vectorFault` finds one.
 *
 * @example
 * ```ts
 * formatVector([1, 2.5]); // "[1,2.5]"
 * formatVector(Float32Array.of(0.1)); // "[0.1]"
 * ```
 */
export function formatVector(vector: Vector): string {
  const fault = vectorFault(vector);
  if (fault !== null) throw new RangeError(`Not a vector: ${fault}`);
  if (!(vector instanceof Float32Array)) return `[${vector.join(",")}]`;
  let text = "[";
  for (let index = 0; index < vector.length; index++) {
    if (index > 0) text += ",";
    text += shortestFloat32(vector[index]!);
  }
  return text + "]";
}

/**
 * Reads the text of pgvector's `vector` and `halfvec`, `[1,2.5]`.
 *
 * @throws {RangeError} where the text is anything else; the message does not repeat it.
 */
export function parseVector(text: string): Float32Array {
  const elements = /^\s*\[(.+)\]\s*$/s.exec(text)?.[1]?.split(",");
  if (elements === undefined) throw new RangeError("Not the text of a vector: no [ … ]");
  const vector = new Float32Array(elements.length);
  for (let index = 0; index < elements.length; index++) {
    const element = elements[index]!.trim();
    const value = element === "" ? NaN : Number(element);
    if (!Number.isFinite(Math.fround(value))) {
      throw new RangeError(`Not the text of a vector: element ${index} is not a 32-bit float`);
    }
    vector[index] = value;
  }
  return vector;
}

/** Nine significant digits name every 32-bit float; most need eight or seven. */
function shortestFloat32(value: number): number {
  for (let digits = 7; digits < 9; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === value) return rounded;
  }
  return Number(value.toPrecision(9));
}
