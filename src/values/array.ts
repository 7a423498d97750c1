/**
 * Arrays as Postgres prints them.
 * https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
 */

/** Postgres has no more, so that a hostile text cannot use up the stack. */
const MAX_DIMENSIONS = 6;

const BOUNDS = /^(?:\[[+-]?\d+:[+-]?\d+\])+=/;

/** An array of elements, of NULLs, or of arrays. */
export type NestedArray<T> = (T | null | NestedArray<T>)[];

/**
 * Reads `{1,NULL,"a b"}`: dimensions are nested arrays, NULL is null, lower bounds (`[0:1]={…}`) are dropped.
 *
 * @param parse reads an element's text
 * @param delimiter what stands between elements: `pg_type.typdelim` of theirs
 * @throws {RangeError} where the text is no array; the message does not repeat it. What `parse` throws.
 */
export function parseArray<T>(
  text: string,
  parse: (text: string) => T,
  delimiter = ",",
): NestedArray<T> {
  const bounds = text.startsWith("[") ? BOUNDS.exec(text) : null;
  const reader = new ArrayReader(text, bounds?.[0].length ?? 0, parse, delimiter);
  return reader.read();
}

class ArrayReader<T> {
  readonly #text: string;
  readonly #parse: (text: string) => T;
  readonly #delimiter: string;
  #at: number;

  constructor(text: string, at: number, parse: (text: string) => T, delimiter: string) {
    this.#text = text;
    this.#at = at;
    this.#parse = parse;
    this.#delimiter = delimiter;
  }

  read(): NestedArray<T> {
    const array = this.#array(1);
    if (this.#at !== this.#text.length) throw malformed();
    return array;
  }

  #array(depth: number): NestedArray<T> {
    if (depth > MAX_DIMENSIONS) throw malformed();
    const text = this.#text;
    const array: NestedArray<T> = [];
    this.#take("{");
    if (text[this.#at] === "}" && depth === 1) {
      this.#at++;
      return array;
    }
    for (;;) {
      const next = text[this.#at];
      if (next === "{") array.push(this.#array(depth + 1));
      else if (next === '"') array.push(this.#parse(this.#quoted()));
      else {
        const element = this.#bareText();
        array.push(element === "NULL" ? null : this.#parse(element));
      }
      if (text[this.#at] !== this.#delimiter) break;
      this.#at++;
    }
    this.#take("}");
    return array;
  }

  #take(character: string): void {
    if (this.#text[this.#at] !== character) throw malformed();
    this.#at++;
  }

  #bareText(): string {
    const text = this.#text;
    const from = this.#at;
    const delimiter = this.#delimiter.charCodeAt(0);
    let at = from;
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at);
      // { } " and \
      if (
        code === delimiter || code === 0x7b || code === 0x7d || code === 0x22 || code === 0x5c
      ) break;
    }
    if (at === from) throw malformed();
    this.#at = at;
    return text.slice(from, at);
  }

  /** A backslash stands before a quote and before another; nothing else is escaped. */
  #quoted(): string {
    const text = this.#text;
    const from = this.#at + 1;
    let escaped = false;
    for (let at = from;; at++) {
      const code = text.charCodeAt(at);
      if (code === 0x5c) {
        escaped = true;
        at++;
      } else if (code === 0x22) {
        this.#at = at + 1;
        const element = text.slice(from, at);
        return escaped ? element.replaceAll(/\\([^])/g, "$1") : element;
      } else if (Number.isNaN(code)) throw malformed();
    }
  }
}

function malformed(): RangeError {
  return new RangeError("no array");
}
