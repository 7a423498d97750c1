/** How wide text is in a terminal, whose cells are one character wide, or two: Chinese, Japanese, Korean, emoji. */

const WIDE =
  /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u3000-\u303f\uff01-\uff60\uffe0-\uffe6]|\ufe0f/u;
const NARROW = /^[ -~]*$/;

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** Cells that a text takes. It must be printable. */
export function widthOf(text: string): number {
  if (NARROW.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += WIDE.test(segment) ? 2 : 1;
  return width;
}

/** The text, or as much of it as fits before an ellipsis. */
export function cut(text: string, columns: number): string {
  // A text of a megabyte is not looked through to its end.
  if (text.length <= columns && widthOf(text) <= columns) return text;
  let width = 0;
  let end = 0;
  for (const { segment } of graphemes.segment(text.slice(0, columns * 8))) {
    const next = width + (WIDE.test(segment) ? 2 : 1);
    if (next > columns - 1) break;
    width = next;
    end += segment.length;
  }
  return `${text.slice(0, end)}…`;
}

/** The text with spaces behind it. */
export function padded(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - widthOf(text)));
}
