/**
 * Whether a text can stand in parentheses in a statement and stay what it is: a condition that somebody passes.
 * The server's own rules: https://www.postgresql.org/docs/current/sql-syntax-lexical.html, and its `scan.l`.
 */

const NAME = "[A-Za-z_\\u0080-\\uffff]";

/** What hides parentheses from the server, from where it begins; names, since `e$1$` begins no text. */
const TOKEN = new RegExp(
  [
    // A backslash is one only in E'…', for connections set standard_conforming_strings.
    `[eE]'[^'\\\\]*(?:(?:\\\\[^]|'')[^'\\\\]*)*'`,
    `'[^']*(?:''[^']*)*'`,
    `"[^"]*(?:""[^"]*)*"`,
    `\\$(${NAME}[\\w\\u0080-\\uffff]*|)\\$[^]*?\\$\\1\\$`,
    "--[^\\n\\r]*",
    `(?![eE]')${NAME}[\\w$\\u0080-\\uffff]*`,
    "[ \\t\\n\\r\\f\\v]+", // no others: a no-break space is a letter
  ].join("|"),
  "y",
);

/**
 * What in the text does not end, or ends what it did not begin, so that it would swallow the rest of a
 * statement or leave its place there; null where there is nothing like that. Whether it is a condition the server
 * says: this only makes sure that it is asked about this text and no more.
 */
export function whatIsOpen(condition: string): string | null {
  let depth = 0;
  /** True behind an `E'…'`: a text that follows on another line would go on with its backslashes. */
  let escapes = false;
  for (let index = 0; index < condition.length;) {
    const two = condition.slice(index, index + 2);
    if (two === "/*") {
      index = endOfComment(condition, index);
      if (index < 0) return "a comment";
      continue;
    }
    TOKEN.lastIndex = index;
    const token = TOKEN.exec(condition)?.[0];
    const first = condition[index]!;
    if (token !== undefined) {
      index += token.length;
      if (two === "--" || /^[ \t\n\r\f\v]/.test(first)) continue;
      if (escapes && first === "'") return "a text in quotes";
      escapes = /^[eE]'/.test(token);
      continue;
    }
    if (/^[eE]?'|^"/.test(two)) return "a quote";
    if (
      first === "$" &&
      /^\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/.test(condition.slice(index))
    ) {
      return "a dollar quote";
    }
    if (first === "(") depth++;
    if (first === ")" && --depth < 0) return "a parenthesis";
    if (first === ";") return "a semicolon";
    escapes = false;
    index++;
  }
  return depth === 0 ? null : "a parenthesis";
}

/** Comments nest. @returns where it is over; −1 where it never is */
function endOfComment(text: string, start: number): number {
  let depth = 0;
  for (let index = start; index < text.length; index += 2) {
    const two = text.slice(index, index + 2);
    if (two === "/*") depth++;
    else if (two !== "*/") index--;
    else if (--depth === 0) return index + 2;
  }
  return -1;
}
