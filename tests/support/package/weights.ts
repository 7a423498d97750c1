/** What each source costs the file that it is part of: how much smaller the gzipped file is without it. */

import { gzipSync } from "node:zlib";

/** As bundlers make them: https://tc39.es/ecma426/ */
interface Mappings {
  sources: readonly (string | null)[];
  mappings: string;
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** @returns the sources as the map has them, the heaviest first. What belongs to none counts for the one before it. */
export function weightsOf(
  code: string,
  map: Mappings,
): { source: string; gzipBytes: number }[] {
  const pieces = piecesOf(code, map.mappings);
  const without = (source: number) =>
    gzipSync(pieces.filter((piece) => piece.source !== source).map(({ text }) => text).join(""), {
      level: 9,
    }).length;
  const all = without(NaN);
  return map.sources.map((source, index) => ({
    source: source ?? "",
    gzipBytes: all - without(index),
  })).sort((a, b) => b.gzipBytes - a.gzipBytes);
}

/** The code in pieces, in order, each of one source. */
function piecesOf(code: string, mappings: string): { source: number; text: string }[] {
  const pieces: { source: number; text: string }[] = [];
  const lines = code.split("\n");
  let source = 0;
  let owner = 0;
  for (const [index, line] of mappings.split(";").entries()) {
    const text = `${lines[index] ?? ""}\n`;
    let column = 0;
    let taken = 0;
    for (const segment of line === "" ? [] : line.split(",")) {
      const [columns = 0, sources = 0] = decodeNumbers(segment);
      column += columns;
      source += sources;
      pieces.push({ source: owner, text: text.slice(taken, column) });
      taken = column;
      owner = source;
    }
    pieces.push({ source: owner, text: text.slice(taken) });
  }
  return pieces;
}

/** Base64 VLQ: five bits a digit, the lowest first; the lowest bit of all is the sign. */
function decodeNumbers(segment: string): number[] {
  const numbers: number[] = [];
  let value = 0;
  let shift = 0;
  for (const letter of segment) {
    const digit = DIGITS.indexOf(letter);
    value |= (digit & 31) << shift;
    shift += 5;
    if (digit & 32) continue;
    numbers.push(value & 1 ? -(value >> 1) : value >> 1);
    value = 0;
    shift = 0;
  }
  return numbers;
}
