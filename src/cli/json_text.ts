/** Reads JSON as people write it into files: with comments, and with commas behind the last of many. */

/** Deeper than any configuration; a file that is deeper would be read until the stack is full. */
const MOST_LEVELS = 100;

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /[\p{L}\p{N}_$.+-]+/uy;
const SPACE = /[ \t\r\n]*/y;

const WORDS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ["true", true],
  ["false", false],
  ["null", null],
]);
const ESCAPES: ReadonlyMap<string, string> = new Map(
  Object.entries({ b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", '"': '"', "\\": "\\", "/": "/" }),
);

/** What is wrong with a text, and where. Its message repeats nothing of the text but a name. */
export class JsonFault extends Error {
  /** From 1. */
  readonly line: number;
  /** From 1, in UTF-16 units. */
  readonly column: number;

  /** @param at where in the text, from 0 */
  constructor(message: string, text: string, at: number) {
    super(message);
    const before = text.slice(0, at).split(/\r\n|\r|\n/);
    this.line = before.length;
    this.column = before.at(-1)!.length + 1;
  }
}

/**
 * Reads a text of JSON, in which comments may stand (`//` to the end of the line, and between a slash with a star and a star with a slash) and a
 * comma behind the last member. All else is as RFC 8259 has it, but that a key may not come twice.
 *
 * @throws {JsonFault} where it is none.
 */
export function parseJsonText(text: string): unknown {
  return new Reader(text).read();
}

class Reader {
  readonly #text: string;
  /** A mark of the order of bytes, which editors of Windows write, is no part of the text. */
  #at: number;
  #levels = 0;

  constructor(text: string) {
    this.#text = text;
    this.#at = text.startsWith("\uFEFF") ? 1 : 0;
  }

  read(): unknown {
    this.#space();
    const value = this.#value();
    this.#space();
    if (this.#at < this.#text.length) throw this.#fault("more comes after the end");
    return value;
  }

  #value(): unknown {
    switch (this.#text[this.#at]) {
      case "{":
        return this.#nested(() => this.#object());
      case "[":
        return this.#nested(() => this.#array());
      case '"':
        return this.#string();
      case "'":
        throw this.#fault("texts stand in double quotes");
      case undefined:
        throw this.#fault("it ends in the middle");
    }
    const number = this.#match(NUMBER);
    const start = this.#at;
    const rest = this.#match(WORD);
    if (number !== "" && rest === "") return Number(number);
    if (number === "" && WORDS.has(rest)) return WORDS.get(rest);
    this.#at = start - number.length;
    throw this.#fault("here is no value: texts stand in double quotes");
  }

  #nested(read: () => unknown): unknown {
    if (++this.#levels > MOST_LEVELS) throw this.#fault("it is nested too deeply");
    const value = read();
    this.#levels--;
    return value;
  }

  #object(): Record<string, unknown> {
    const members = new Map<string, unknown>();
    this.#list("}", () => {
      const at = this.#at;
      if (this.#text[at] !== '"') throw this.#fault("here is no key: keys stand in double quotes");
      const key = this.#string();
      if (members.has(key)) throw this.#fault(`the key ${JSON.stringify(key)} comes twice`, at);
      this.#space();
      if (this.#text[this.#at] !== ":") throw this.#fault("a colon is missing behind the key");
      this.#at++;
      this.#space();
      members.set(key, this.#value());
    });
    // By assignment, a key called __proto__ would be none.
    return Object.fromEntries(members);
  }

  #array(): unknown[] {
    const items: unknown[] = [];
    this.#list("]", () => items.push(this.#value()));
    return items;
  }

  /** What stands between brackets, with commas between. */
  #list(end: string, readOne: () => void): void {
    const start = this.#at++;
    for (;;) {
      this.#space();
      if (this.#text[this.#at] === end) break;
      if (this.#at >= this.#text.length) throw this.#fault(`the ${end} of this is missing`, start);
      readOne();
      this.#space();
      if (this.#text[this.#at] === ",") this.#at++;
      else if (this.#at < this.#text.length && this.#text[this.#at] !== end) {
        throw this.#fault(`a comma, or ${end}, is missing`);
      }
    }
    this.#at++;
  }

  #string(): string {
    const start = this.#at++;
    let value = "";
    for (;;) {
      const char = this.#text[this.#at];
      if (char === '"') break;
      if (char === undefined || char === "\n" || char === "\r") {
        throw this.#fault("the quote that ends this text is missing", start);
      }
      if (char < " ") throw this.#fault("a control character stands in a text: write \\t, \\u001b");
      this.#at++;
      value += char === "\\" ? this.#escaped() : char;
    }
    this.#at++;
    return value;
  }

  #escaped(): string {
    const char = this.#text[this.#at++] ?? "";
    const simple = ESCAPES.get(char);
    if (simple !== undefined) return simple;
    const code = this.#text.slice(this.#at, this.#at + 4);
    if (char !== "u" || !/^[\da-fA-F]{4}$/.test(code)) {
      throw this.#fault("this is no escape: a backslash itself is \\\\", this.#at - 2);
    }
    this.#at += 4;
    return String.fromCharCode(parseInt(code, 16));
  }

  /** White space and comments. */
  #space(): void {
    for (;;) {
      this.#match(SPACE);
      const start = this.#at;
      const mark = this.#text.slice(start, start + 2);
      if (mark === "//") {
        const length = this.#text.slice(start).search(/[\r\n]/);
        this.#at = length === -1 ? this.#text.length : start + length;
      } else if (mark === "/*") {
        const end = this.#text.indexOf("*/", start + 2);
        if (end === -1) throw this.#fault("the end of this comment is missing", start);
        this.#at = end + 2;
      } else return;
    }
  }

  /** What stands here of that kind. @param pattern sticky */
  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const [found] = pattern.exec(this.#text) ?? [""];
    this.#at += found.length;
    return found;
  }

  #fault(message: string, at = this.#at): JsonFault {
    return new JsonFault(message, this.#text, at);
  }
}
