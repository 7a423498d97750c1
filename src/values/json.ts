/** json and jsonb → JS values. */

/** An integer of fewer digits is one that a number holds. */
const LONG_NUMBER = /\d{16}/;
const INTEGER = /^-?\d+$/;

/**
 * Reads JSON. Integers beyond ±(2^53 − 1) are bigints, all other numbers numbers: of a fraction, or what is
 * written with an exponent, a number keeps the digits that it can. A key called `__proto__` is a key.
 *
 * @throws {RangeError} where the text is no JSON; the message does not repeat it.
 */
export function parseJson(text: string): unknown {
  try {
    return LONG_NUMBER.test(text) ? JSON.parse(text, exactly) : JSON.parse(text);
  } catch (error) {
    // Ours says nothing of the text; that of the runtime quotes it.
    throw error instanceof RangeError ? error : new RangeError("no JSON");
  }
}

/** The third argument is younger than TypeScript's own declaration. */
function exactly(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source;
  if (source === undefined) {
    throw new RangeError("an integer that this runtime cannot read exactly");
  }
  return INTEGER.test(source) ? BigInt(source) : value;
}
