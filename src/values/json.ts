/** json and jsonb → JS values. */

/** An integer of fewer digits is one that a number holds. */
const LONG_NUMBER = /\d{16}/;
const LONG_INTEGER = /^-?[1-9]\d{15,}$/;
const NUMBERS = /-?\d[\d.eE+-]*/g;

/**
 * Reads JSON. Integers beyond ±(2^53 − 1) are bigints, all other numbers numbers: of a fraction, or what is
 * written with an exponent, a number keeps the digits that it can. A key called `__proto__` is a key.
 *
 * @throws {RangeError} where the text is no JSON; the message does not repeat it.
 */
export function parseJson(text: string): unknown {
  try {
    return LONG_NUMBER.test(text) ? parseExactly(text) : JSON.parse(text);
  } catch {
    // The runtime's own error quotes the text.
    throw new RangeError("no JSON");
  }
}

/**
 * By way of strings that no text has. A reviver is told the digits too, but calls itself for each level: a
 * document that Postgres takes would use up the stack of Node.
 */
function parseExactly(text: string): unknown {
  const mark = `${crypto.randomUUID()}:`;
  return unmark(JSON.parse(markIntegers(text, mark)), mark);
}

function markIntegers(text: string, mark: string): string {
  let marked = "";
  for (let at = 0;;) {
    const quote = text.indexOf('"', at);
    marked += text.slice(at, quote === -1 ? undefined : quote).replaceAll(
      NUMBERS,
      (number) =>
        LONG_INTEGER.test(number) && !Number.isSafeInteger(Number(number))
          ? `"${mark}${number}"`
          : number,
    );
    if (quote === -1) return marked;
    at = endOfString(text, quote + 1);
    marked += text.slice(quote, at);
  }
}

/** Behind the closing quote. */
function endOfString(text: string, from: number): number {
  for (let at = from;;) {
    const quote = text.indexOf('"', at);
    if (quote === -1) return text.length;
    let backslashes = 0;
    while (text.charCodeAt(quote - 1 - backslashes) === 0x5c) backslashes++;
    if (backslashes % 2 === 0) return quote + 1;
    at = quote + 1;
  }
}

type Json = Record<string, unknown>;

function unmark(json: unknown, mark: string): unknown {
  const root: Json = { json };
  const open: Json[] = [root];
  for (let holder = open.pop(); holder !== undefined; holder = open.pop()) {
    for (const key of Object.keys(holder)) {
      const value = holder[key];
      if (typeof value === "object" && value !== null) open.push(value as Json);
      else if (typeof value === "string" && value.startsWith(mark)) {
        holder[key] = BigInt(value.slice(mark.length));
      }
    }
  }
  return root.json;
}
