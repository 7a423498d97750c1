/** Texts of values: rows of COPY, and what reads a type's text. */
import { readCopyRow, splitCopyRow } from "../../src/values/copy_text.ts";
import { parseArray } from "../../src/values/array.ts";
import { parseJson } from "../../src/values/json.ts";
import {
  parseBool,
  parseBytea,
  parseFloat4,
  parseFloat8,
  parseInt8,
  parseInteger,
} from "../../src/values/scalars.ts";
import { parseTimestamp, parseTimestamptz } from "../../src/values/timestamp.ts";
import { formatVector, parseSparseVector, parseVector } from "../../src/values/vector.ts";
import { writeCopyRow } from "../support/copy_row.ts";
import { goldenTexts } from "./corpus.ts";
import type { Dice } from "./dice.ts";
import type { Stage } from "./target.ts";
import { Finding, hex, type Tally } from "./tally.ts";

const CASES_OF_BATCH = 1500;
/** An error's message says what is wrong, not what was read. */
const LONGEST_MESSAGE = 300;

/** What reads the text of a type. */
interface Parser {
  parse: (text: string) => unknown;
  /** Right texts, to be made wrong. */
  texts: readonly string[];
  /** Of what was parsed, a text that must parse to the same. Default: nothing is asked. */
  format?: (value: never) => string;
}

/** To be added to: a line for each. */
const PARSERS: Readonly<Record<string, Parser>> = {
  vector: {
    parse: parseVector,
    texts: ["[1,2,3]", "[0.1,-2.5e-8,3e38]", " [ 1 , 2 ] ", `[${"0.123456,".repeat(300)}1]`],
    format: (value: Float32Array) => formatVector(value),
  },
  sparsevec: { parse: parseSparseVector, texts: ["{1:1.5,3:2}/5", "{}/3", "{1:-1e-5}/16000"] },
  bool: { parse: parseBool, texts: ["t", "f"] },
  integer: { parse: parseInteger, texts: ["0", "-1", "2147483647", "-32768"], format: String },
  int8: { parse: parseInt8, texts: ["9223372036854775807", "-1"], format: String },
  float8: {
    parse: parseFloat8,
    texts: ["1.5", "-0", "NaN", "-Infinity", "1e-300", "0.1"],
    format: String,
  },
  float4: { parse: parseFloat4, texts: ["1.5", "0.100000001", "NaN", "3.4028235e+38"] },
  bytea: { parse: parseBytea, texts: ["\\x", "\\x00ff66", `\\x${"ab".repeat(300)}`] },
  json: {
    parse: parseJson,
    texts: [
      '{"a": [1, null, "é"], "b": 12345678901234567890, "__proto__": 1.5e3}',
      '[[[[{"c": "\\\\\\" 1234567890123456789"}]]]]',
      "1234567890123456789",
    ],
  },
  timestamp: {
    parse: parseTimestamp,
    texts: ["2026-01-31 12:00:00.123456", "0044-03-15 00:00:00 BC", "infinity"],
  },
  timestamptz: {
    parse: parseTimestamptz,
    texts: [
      "2026-01-31 12:00:00+00",
      "294276-12-31 23:59:59.999999+00",
      "0001-01-01 00:00:00-05:30",
    ],
  },
  array: {
    parse: (text) => parseArray(text, (element) => element),
    texts: ['{1,NULL,"a b"}', "[0:1]={1,2}", '{{"\\\\\\"",x},{{y}}}', "{}"],
  },
};

const encoder = new TextEncoder();
const decoder = new TextDecoder();

const COLUMNS = ["id", "title", "1", "__proto__", "größe"];
const ROWS = [
  ["1", "a title", null, "", "é世🙂"],
  ["\b\f\n\r\t\v\\", null, null, "\\N", "\\."],
  ["-1", "x".repeat(500), '{"a": 1}', "\ufeff", "a\\tb"],
].map(writeCopyRow);
const OTHER_ROWS = ["1\n", "\n", "\\.\n", "\\N\n", "\\101\\x41\\u\t\\7\n", "\t\t\t\t\n"].map((
  text,
) => encoder.encode(text));
const LINES = [...ROWS, ...OTHER_ROWS];

/** See `Batch`. */
export function batch(stage: Stage): void {
  const names = Object.keys(PARSERS);
  for (let i = 0; i < CASES_OF_BATCH; i++) {
    if (stage.dice.chance(0.2)) playRow(stage);
    else if (stage.dice.chance(0.4)) playLine(stage);
    else playText(stage, stage.dice.pick(names));
  }
}

/** A right row comes out as it went in. */
function playRow({ dice, mutator, tally }: Stage): void {
  const row = Array.from(COLUMNS, () => dice.chance(0.2) ? null : textOf(dice));
  const line = mutator.take(writeCopyRow(row));
  tally.begin(line.length);
  const values = splitCopyRow(line.bytes, line.start, line.end);
  tally.messages++;
  for (let i = 0; i < row.length; i++) {
    if (values[i] !== row[i]) throw new Finding(`Column ${i} is another one: ${hex(line.view)}`);
  }
}

function textOf(dice: Dice): string {
  const codes = Array.from({ length: dice.below(20) }, () => {
    const code = dice.chance(0.7) ? dice.between(1, 0x7f) : dice.size(0x10_ffff);
    return code >= 0xd800 && code <= 0xdfff ? 0x20 : code;
  });
  return String.fromCodePoint(...codes);
}

/** A row that is made wrong reads the same by both ways. */
function playLine({ dice, mutator, tally }: Stage): void {
  const line = mutator.take(dice.pick(LINES)).mutate(dice.pick(LINES));
  tally.begin(2 * line.length);
  let values: (string | null)[] | null = null;
  try {
    values = splitCopyRow(line.bytes, line.start, line.end);
    tally.messages++;
  } catch (error) {
    refuse(error, tally);
  }
  const row: Record<string, string | null> = Object.create(null);
  let read = false;
  try {
    readCopyRow(row, COLUMNS, line.bytes, line.start, line.end);
    read = true;
    tally.messages++;
  } catch (error) {
    refuse(error, tally);
  }
  if (read !== (values?.length === COLUMNS.length)) {
    throw new Finding(`Read in one way only: ${hex(line.view)}`);
  }
  if (read && COLUMNS.some((column, i) => row[column] !== values![i])) {
    throw new Finding(`Read in two ways: ${hex(line.view)}`);
  }
}

function playText({ dice, mutator, tally }: Stage, name: string): void {
  const { parse, texts, format } = PARSERS[name]!;
  const source = dice.chance(0.05) ? dice.pick(goldenTexts) : dice.pick(texts);
  mutator.take(encoder.encode(source));
  if (dice.chance(0.95)) mutator.mutate(encoder.encode(dice.pick(texts)));
  const text = decoder.decode(mutator.view);
  tally.begin(mutator.length);
  let value: unknown;
  try {
    value = parse(text);
    tally.messages++;
  } catch (error) {
    return refuse(error, tally);
  }
  if (format === undefined) return;
  const again = format(value as never);
  if (format(parse(again) as never) !== again) {
    throw new Finding(`${name}: not the same again: ${hex(mutator.view)}`);
  }
}

function refuse(error: unknown, tally: Tally): void {
  if (!(error instanceof RangeError)) {
    // The library's own are as good.
    tally.refuse(error);
  } else {
    tally.count("RangeError");
  }
  if ((error as Error).message.length > LONGEST_MESSAGE) {
    throw new Finding(`An error of ${(error as Error).message.length} characters`);
  }
}
