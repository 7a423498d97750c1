/** Points and ids as JSON, which the server reads as rows of the table. */

import { nextTurn } from "../backoff.ts";
import type { Run } from "./pgvector_connection.ts";
import { formatHexVector } from "./pgvector_hex.ts";
import {
  formatSparseVector,
  formatVector,
  parseSparseVector,
  parseVector,
  type Vector,
} from "../values/vector.ts";
import type { TableState } from "./pgvector_table.ts";
import { type PointId, pointIdText, SinkError, type VectorPoint } from "./sink.ts";

/** A statement without vectors is kept to about this many characters; more ids go into further statements. */
const MAX_STATEMENT_CHARS = 4 * 1024 * 1024;

/** Points are written in parts, for one to be put into words while the server has the one before it in hand. */
export const MAX_PART_CHARS = 512 * 1024;
/** One that the server has in hand, and one that is on its way. */
const PARTS_IN_FLIGHT = 2;

/**
 * What writes vectors as the table's column reads them.
 *
 * @returns what takes vectors that `checkVector` has let through.
 */
export function vectorFormat({ columns }: TableState): (vector: VectorPoint["vector"]) => string {
  switch (columns.vector?.type) {
    case "vector":
    case "halfvec":
      return formatHexVector;
    case "sparsevec":
      return formatSparseVector;
    default:
      // Whatever it is, it reads what people write.
      return formatVector;
  }
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

/** Runs a statement for each part, and gives what it answers; parts behind it are made and sent meanwhile. */
export async function* runParts(
  run: Run,
  statement: string,
  parts: Iterator<string>,
): AsyncGenerator<readonly unknown[]> {
  const sent: Promise<readonly unknown[]>[] = [];
  for (let part = parts.next(); !part.done;) {
    const answer = run(statement, [part.value]);
    sent.push(answer);
    // Once it is on its way, the server and we work side by side. And where one before it fails, so that nobody
    // waits for this one, its failure has been listened to.
    await Promise.race([answer, nextTurn()]);
    part = parts.next();
    if (sent.length === PARTS_IN_FLIGHT) yield await sent.shift()!;
  }
  for (const answer of sent) yield await answer;
}
