/** How wide text is in a terminal, whose cells are one character wide, or two: Chinese, Japanese, Korean, emoji. */

/**
 * A character of two cells at the beginning, or one that is shown as an emoji. Of Katakana and Hangul there are halves,
 * which are narrow. https://www.unicode.org/reports/tr11/
 */
const WIDE =
  /^(?![\uff61-\uffdc])[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\p{Script=Yi}\p{Emoji_Presentation}\u3000-\u303e\u3200-\u33ff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6]|\ufe0f/u;
/** What stands on the cell of another one, and has nothing to stand on. */
const WITHOUT_WIDTH = /^[\p{Mark}\p{Format}]+$/u;
const NARROW = /^[ -~]*$/;

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** Marks of half Katakana belong to the character before them, and have a cell of their own. */
const HALF_MARKS = /[\uff9e\uff9f]/g;

/** Cells of a character as people see one. */
function cellsOf(grapheme: string): number {
  if (WIDE.test(grapheme)) return 2;
  if (WITHOUT_WIDTH.test(grapheme)) return 0;
  return 1 + (grapheme.length === 1 ? 0 : grapheme.match(HALF_MARKS)?.length ?? 0);
}

/** Cells that a text takes. It must be printable. */
export function widthOf(text: string): number {
  if (NARROW.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += cellsOf(segment);
  return width;
}

/** The text, or as much of it as fits before an ellipsis. */
export function cut(text: string, columns: number): string {
  const fits = beginning(text, columns);
  return fits.length === text.length ? text : `${beginning(text, columns - 1)}…`;
}

/** As many whole characters of the text's beginning as fit. */
export function beginning(text: string, columns: number): string {
  let width = 0;
  let end = 0;
  // A text of a megabyte is not looked through to its end.
  for (const { segment } of graphemes.segment(text.slice(0, columns * 8 + 8))) {
    width += cellsOf(segment);
    if (width > columns) break;
    end += segment.length;
  }
  return text.slice(0, end);
}

/** The text with spaces behind it. */
export function padded(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - widthOf(text)));
}
