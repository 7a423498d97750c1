/** Cuts texts into chunks that an embedding model can take. */

import { optionsError } from "./embedder.ts";

/** How large chunks are. */
export interface ChunkTextOptions {
  /** UTF-16 units of a chunk, at most. From 2. Default: 2000. */
  maxChars?: number;
  /** UTF-16 units at the end of a chunk, at most, that begin the next one again. Default: 200, or a tenth of `maxChars`. */
  overlap?: number;
}

/** What cuts texts into chunks. */
export interface Chunker {
  /** The chunks, in order; none of an empty text. */
  (text: string): string[];
  /** What it is, its version and its options: part of fingerprints. */
  readonly name: string;
}

/** Where a chunk begins, and before what it ends: UTF-16 units from the text's beginning. */
export type ChunkRange = readonly [start: number, end: number];

/**
 * A chunker that ends chunks behind paragraphs where there is one in the second half of what fits, else
 * behind lines and sentences, else behind words, and only where there is none of these within a word:
 * between two characters as people see them (grapheme clusters, by `Intl.Segmenter`).
 *
 * Each chunk is a piece of the text as it is, white space and all; together they are the whole of it, but
 * for overlaps. A text that fits is one chunk.
 *
 * @throws {EmbedError} `embed-options` where `overlap` is not below `maxChars`.
 *
 * @example
 * ```ts
 * const chunk = chunkText({ maxChars: 12, overlap: 0 });
 * chunk("One. Two. Three."); // ["One. Two. ", "Three."]
 * chunk.name; // "chunkText@1(12,0)"
 * ```
 */
export function chunkText({ maxChars = 2000, overlap }: ChunkTextOptions = {}): Chunker {
  if (!(Number.isSafeInteger(maxChars) && maxChars >= 2)) {
    throw optionsError("maxChars is no whole number from 2", "Leave it out for 2000");
  }
  const overlapChars = overlap ?? Math.min(200, Math.floor(maxChars / 10));
  if (!(Number.isSafeInteger(overlapChars) && overlapChars >= 0 && overlapChars < maxChars)) {
    throw optionsError(
      "overlap is no whole number from 0 to below maxChars",
      "A tenth of maxChars is usual",
    );
  }
  const chunk = (text: string): string[] =>
    chunkRanges(text, maxChars, overlapChars).map(([start, end]) => text.slice(start, end));
  return Object.defineProperty(chunk, "name", {
    value: `chunkText@1(${maxChars},${overlapChars})`,
  });
}

/** As `chunkText` cuts. Starts and ends ascend; the time that it takes grows as the text does. */
export function chunkRanges(text: string, maxChars: number, overlap: number): ChunkRange[] {
  const ranges: ChunkRange[] = [];
  let start = 0;
  let end = 0; // of the chunk before
  while (end < text.length) {
    let next = findEnd(text, start, end, start + maxChars);
    // What fits into a chunk, but not beside the overlap.
    if (next === null && start < end) {
      start = end;
      next = findEnd(text, start, end, start + maxChars);
    }
    // One character, as people see it, that is longer than a chunk.
    next ??= isWithinPair(text, start + maxChars) ? start + maxChars - 1 : start + maxChars;
    ranges.push([start, next]);
    start = findStart(text, start, next, overlap);
    end = next;
  }
  return ranges;
}

/** Where a chunk from `start` best ends: behind `after`, and not behind `limit`. Null: nowhere. */
function findEnd(text: string, start: number, after: number, limit: number): number | null {
  if (limit >= text.length) return text.length;
  const half = Math.max(after + 1, start + ((limit - start) >> 1));
  let sentence = 0;
  let word = 0;
  for (let at = limit; at > after; at--) {
    if (at < half && (sentence > 0 || word > 0)) break;
    const kind = boundaryAt(text, at);
    if (kind === PARAGRAPH && at >= half) return at;
    if (kind >= SENTENCE && at >= half && sentence === 0) sentence = at;
    if (kind >= WORD && word === 0) word = at;
  }
  if (sentence > 0 || word > 0) return sentence || word;
  const cut = graphemeStart(text, after, limit);
  return cut > after ? cut : null;
}

/** Where the chunk behind one from `start` to `end` begins: up to `overlap` before its end. */
function findStart(text: string, start: number, end: number, overlap: number): number {
  if (end === text.length) return end;
  const low = Math.max(end - overlap, start + 1);
  if (low >= end) return end;
  let word = 0;
  const middle = low + ((end - low) >> 1);
  for (let at = low; at < end; at++) {
    if (at > middle && word > 0) break;
    const kind = boundaryAt(text, at);
    if (kind >= SENTENCE && at <= middle) return at;
    if (kind >= WORD && word === 0) word = at;
  }
  if (word > 0) return word;
  // The end of a long word, or white space, is of no use; of a script without spaces anything is.
  if (isSpace(text.charCodeAt(end - 1))) return end;
  const cut = graphemeStart(text, start, low);
  return cut === low ? low : graphemeEnd(text, start, low, end);
}

const NONE = 0;
const WORD = 1;
const SENTENCE = 2;
const PARAGRAPH = 3;

/** What ends right before `at`, with the white space behind it. */
function boundaryAt(text: string, at: number): number {
  const before = text.charCodeAt(at - 1);
  if (isWideStop(before)) return continues(text, at) ? NONE : SENTENCE;
  if (!isSpace(before) || isSpace(text.charCodeAt(at)) || continues(text, at)) return NONE;
  let lines = 0;
  let last = at - 1;
  // White space without end is no paragraph's end.
  const first = Math.max(0, at - 64);
  for (; last >= first && isSpace(text.charCodeAt(last)); last--) {
    const code = text.charCodeAt(last);
    if (code === 0x2029) lines += 2;
    else if (code === 0x0a || code === 0x2028) lines++;
    if (lines > 1) return PARAGRAPH;
  }
  if (lines > 0) return SENTENCE;
  while (last >= first && isClosing(text.charCodeAt(last))) last--;
  return last >= first && isStop(text.charCodeAt(last)) ? SENTENCE : WORD;
}

/** White space at which lines may be broken. */
function isSpace(code: number): boolean {
  return code === 0x20 || code >= 0x09 && code <= 0x0d || code === 0x1680 ||
    code >= 0x2000 && code <= 0x200a && code !== 0x2007 || code === 0x2028 || code === 0x2029 ||
    code === 0x205f || code === 0x3000;
}

/** `.`, `!`, `?`, `…`, and what other scripts have for them. */
function isStop(code: number): boolean {
  return code === 0x2e || code === 0x21 || code === 0x3f || code === 0x2026 || code === 0x061f ||
    code === 0x06d4 || code === 0x0964 || isWideStop(code);
}

/** Stops that no space follows: `。`, `！`, `？`, `｡`. */
function isWideStop(code: number): boolean {
  return code === 0x3002 || code === 0xff01 || code === 0xff1f || code === 0xff61;
}

/** `"`, `'`, `)`, `]`, `”`, `’`, `»`. */
function isClosing(code: number): boolean {
  return code === 0x22 || code === 0x27 || code === 0x29 || code === 0x5d || code === 0x201d ||
    code === 0x2019 || code === 0xbb;
}

/** Marks, joiners and modifiers: what belongs to the character before. */
const EXTENDS = /^[\p{M}\p{Emoji_Modifier}\u200c\u200d\uff9e\uff9f\u{e0020}-\u{e007f}]/u;

function continues(text: string, at: number): boolean {
  return text.charCodeAt(at) >= 0x300 && EXTENDS.test(text.slice(at, at + 2));
}

function isWithinPair(text: string, at: number): boolean {
  return (text.charCodeAt(at) & 0xfc00) === 0xdc00 && (text.charCodeAt(at - 1) & 0xfc00) === 0xd800;
}

const segmenter = typeof Intl === "object" && "Segmenter" in Intl
  ? new Intl.Segmenter("en", { granularity: "grapheme" })
  : null;

/** Where the character that `at` stands in begins: `at` itself where one begins there. @param from where one does */
function graphemeStart(text: string, from: number, at: number): number {
  const before = text.charCodeAt(at - 1);
  const code = text.charCodeAt(at);
  if (before < 0x300 && code < 0x300 && !(before === 0x0d && code === 0x0a)) return at;
  if (segmenter !== null) {
    const found = segmenter.segment(text.slice(from, at + 2)).containing(at - from);
    return found === undefined ? at : from + found.index;
  }
  let start = at;
  while (
    start > from &&
    (isWithinPair(text, start) || continues(text, start) || text.charCodeAt(start - 1) === 0x200d)
  ) start--;
  return start;
}

/** Where the character that `at` stands in ends, before `limit`, where one does. */
function graphemeEnd(text: string, from: number, at: number, limit: number): number {
  if (segmenter !== null) {
    const found = segmenter.segment(text.slice(from, limit)).containing(at - from);
    return found === undefined ? limit : from + found.index + found.segment.length;
  }
  let end = at + 1;
  while (end < limit && graphemeStart(text, from, end) !== end) end++;
  return end;
}
