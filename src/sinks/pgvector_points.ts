/** Points and ids as JSON, which the server reads as rows of the table; vectors as parameters beside it. */

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
import type { TableNames, TableState } from "./pgvector_table.ts";
import { type PointId, pointIdText, SinkError, type VectorPoint } from "./sink.ts";

/** A statement without vectors is kept to about this many characters; more ids go into further statements. */
const MAX_STATEMENT_CHARS = 4 * 1024 * 1024;

/** Points are written in parts, for one to be put into words while the server has the one before it in hand. */
const MAX_PART_CHARS = 512 * 1024;
/** One that the server has in hand, and one that is on its way. */
const PARTS_IN_FLIGHT = 2;
/** Points whose vectors are parameters: a statement can have 65,535, and more than a thousand are no faster. */
const MAX_PLACES = 1024;

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

/** Points that go into one statement. */
export interface GivenPoints {
  /** Rows of the table, each as JSON without its vector. */
  json: readonly string[];
  /** As many. Null: it is to have none, or the one that it has. */
  vectors: readonly (string | null)[];
}

/** Points for one statement. */
export interface PointsPart {
  /** How many vectors the statement takes: those of points, and nulls. 0: they are in the JSON. */
  places: number;
  /** All points as JSON, then the vectors. */
  parameters: (string | null)[];
}

/**
 * Parts, each for a statement. There are only a few numbers of places, so that there are only a few statements for
 * a session to keep.
 *
 * @param maxChars of one, unless what goes together has more
 */
export function* inVectorParts(
  all: Iterable<GivenPoints>,
  maxChars: number = MAX_PART_CHARS,
): Generator<PointsPart> {
  let part: { json: string[]; vectors: (string | null)[] } = { json: [], vectors: [] };
  let chars = 0;
  for (const { json, vectors } of all) {
    const length = charsOf(json) + charsOf(vectors);
    const isFull = chars + length > maxChars || part.json.length + json.length > MAX_PLACES;
    if (part.json.length > 0 && isFull) {
      yield pointsPart(part);
      part = { json: [], vectors: [] };
      chars = 0;
    }
    part.json.push(...json);
    part.vectors.push(...vectors);
    chars += length;
  }
  if (part.json.length > 0) yield pointsPart(part);
}

function charsOf(texts: readonly (string | null)[]): number {
  let chars = 0;
  for (const text of texts) chars += text?.length ?? 0;
  return chars;
}

function pointsPart({ json, vectors }: GivenPoints): PointsPart {
  if (json.length > MAX_PLACES) {
    const whole = json.map((point, at) =>
      `{"vector":${vectors[at] === null ? null : `"${vectors[at]}"`},${point.slice(1)}`
    );
    return { places: 0, parameters: [`[${whole.join(",")}]`] };
  }
  let places = 1;
  while (places < json.length) places *= 2;
  const free = new Array<null>(places - json.length).fill(null);
  return { places, parameters: [`[${json.join(",")}]`, ...vectors, ...free] };
}

/**
 * What a statement reads points from that takes a part's parameters: columns of the table, and `given_vector`. Where
 * all columns are null, a place was free.
 *
 * A vector within the JSON would be read three times: as JSON, as a text and as a vector. As a parameter it is read
 * once. Its type is the column's, whatever that is, and wherever it is: named by the last element, which is no
 * point's.
 */
export function givenPoints({ vectors }: TableNames, places: number): string {
  const points = `pg_catalog.json_populate_recordset(null::${vectors}, $1::text::json)`;
  if (places === 0) return `(select vector as given_vector, * from ${points}) as given`;
  const parameters = Array.from({ length: places }, (_, place) => `$${place + 2}`);
  return `rows from (pg_catalog.unnest(array[${parameters}, (null::${vectors}).vector]), ${points})
    as given (given_vector)`;
}

/** Sends each part, and gives what is answered; parts behind it are made and sent meanwhile. */
export async function* runParts<Part>(
  send: (part: Part) => ReturnType<Run>,
  parts: Iterator<Part>,
): AsyncGenerator<readonly unknown[]> {
  const sent: ReturnType<Run>[] = [];
  for (let part = parts.next(); !part.done;) {
    const answer = send(part.value);
    sent.push(answer);
    // Once it is on its way, the server and we work side by side. And where one before it fails, so that nobody
    // waits for this one, its failure has been listened to.
    await Promise.race([answer, nextTurn()]);
    part = parts.next();
    if (sent.length === PARTS_IN_FLIGHT) yield await sent.shift()!;
  }
  for (const answer of sent) yield await answer;
}
