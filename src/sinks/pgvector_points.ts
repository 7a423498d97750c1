/** Points and ids as JSON, which the server reads as rows of the table. */

import {
  formatSparseVector,
  formatVector,
  parseSparseVector,
  parseVector,
  type Vector,
} from "../values/vector.ts";
import type { TableState } from "./pgvector_table.ts";
import { type PointId, pointIdText, SinkError, type VectorPoint } from "./sink.ts";

/** A statement is kept to about this many characters; more points go into further statements. */
const MAX_STATEMENT_CHARS = 4 * 1024 * 1024;

/** What writes vectors as the table's column reads them. */
export function vectorFormat({ columns }: TableState): (vector: VectorPoint["vector"]) => string {
  return columns.vector?.type === "sparsevec" ? formatSparseVector : formatVector;
}

/** A vector of the column's text, whatever its type. */
export function readVector(text: string): Vector {
  if (!text.startsWith("{")) return parseVector(text);
  const { dimensions, indices, values } = parseSparseVector(text);
  const vector = new Float32Array(dimensions);
  for (const [at, index] of indices.entries()) vector[index] = values[at]!;
  return vector;
}

/** @throws {SinkError} `sink-id`. */
export function formatId(id: PointId): string {
  const text = pointIdText(id, "pgvector");
  if (!text.includes("\0")) return text;
  throw new SinkError("A point's id holds U+0000, which Postgres cannot store in a text", {
    kind: "sink-id",
    sink: "pgvector",
    hint: "Leave the zero byte out of the id",
  });
}

/** Rows that have an id and nothing else. @throws {SinkError} `sink-id` */
export function formatIds(ids: readonly PointId[]): Set<string> {
  return new Set(ids.map((id) => `{"id":${JSON.stringify(formatId(id))}}`));
}

/** Arrays of rows, each for a statement. @param maxChars of one, unless a row alone has more */
export function* inParts(
  rows: Iterable<string>,
  maxChars: number = MAX_STATEMENT_CHARS,
): Generator<string> {
  let part: string[] = [];
  let chars = 0;
  for (const row of rows) {
    if (part.length > 0 && chars + row.length > maxChars) {
      yield `[${part.join(",")}]`;
      part = [];
      chars = 0;
    }
    part.push(row);
    chars += row.length;
  }
  if (part.length > 0) yield `[${part.join(",")}]`;
}
