/** Where commands print: results on stdout, everything else on stderr; colours for people only. */

import process from "node:process";

/** What a piece of text is, which colours it. */
export type Tone = "good" | "warning" | "bad" | "strong" | "faint" | "accent";

const CODES: Readonly<Record<Tone, string>> = {
  good: "32",
  warning: "33",
  bad: "31",
  strong: "1",
  faint: "2",
  accent: "36",
};

/** Standard output and standard error of this process. */
export class Terminal {
  /** True where stdout is a person's terminal, not a pipe or a file. */
  readonly isPerson: boolean;
  readonly #colours: boolean;
  readonly #errorColours: boolean;
  #readerLeft: () => void = () => process.exit(0);

  /** Looks at what this process was given. https://no-color.org, https://force-color.org */
  constructor() {
    const { NO_COLOR = "", FORCE_COLOR = "", TERM } = process.env;
    this.isPerson = process.stdout.isTTY === true;
    const may = NO_COLOR === "" && TERM !== "dumb";
    this.#colours = may && (this.isPerson || FORCE_COLOR !== "");
    this.#errorColours = may && (process.stderr.isTTY === true || FORCE_COLOR !== "");
    // Whoever reads may leave, as `head` does: there is nobody to tell.
    process.stdout.on("error", (error: { code?: string }) => {
      if (error.code !== "EPIPE") throw error;
      this.#readerLeft();
    });
  }

  /** Says what is done, in place of ending the process, when whoever reads stdout has left. */
  onReaderLeft(listener: () => void): void {
    this.#readerLeft = listener;
  }

  /** How many characters fit on a line of it; 80 where nobody knows. */
  get columns(): number {
    return process.stdout.columns ?? 80;
  }

  /** A line of the result. @returns what is to be waited for where much is printed: the reader may be slow */
  print(line = ""): Promise<void> | void {
    if (!process.stdout.write(`${line}\n`)) {
      return new Promise((resolve) => process.stdout.once("drain", resolve));
    }
  }

  /** A value as one line of JSON, as a result. */
  printJson(value: unknown): Promise<void> | void {
    return this.print(JSON.stringify(value));
  }

  /** A line for a person, beside the result. */
  note(line = ""): void {
    process.stderr.write(`${line}\n`);
  }

  /** A line on stderr that takes the last one's place, where a person sees it; elsewhere nothing. */
  progress(line: string): void {
    if (process.stderr.isTTY !== true) return;
    const columns = process.stderr.columns ?? 80;
    process.stderr.write(`\r\x1b[2K${line.slice(0, columns - 1)}`);
  }

  /** Ends the line of `progress`. */
  endProgress(): void {
    if (process.stderr.isTTY === true) process.stderr.write("\r\x1b[2K");
  }

  /** Text for stdout, coloured where a person sees it. */
  tone(tone: Tone, text: string): string {
    return this.#colours ? `\x1b[${CODES[tone]}m${text}\x1b[0m` : text;
  }

  /** Text for stderr, coloured where a person sees it. */
  errorTone(tone: Tone, text: string): string {
    return this.#errorColours ? `\x1b[${CODES[tone]}m${text}\x1b[0m` : text;
  }
}

/** Text without what would move a terminal's cursor, colour it, or turn it around: of values, which anybody may have written. */
export function printable(text: string): string {
  // deno-lint-ignore no-control-regex
  const hidden = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
  return text.replaceAll(hidden, (character) => {
    const short: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
    const code = character.charCodeAt(0);
    return short[character] ??
      (code < 256
        ? `\\x${code.toString(16).padStart(2, "0")}`
        : `\\u${code.toString(16).padStart(4, "0")}`);
  });
}
