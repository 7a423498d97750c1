/** What the sink keeps in the payload of a point, beside what is the user's. */

import { formatLsn, parseLsn } from "../lsn.ts";
import { qdrantId } from "./qdrant_ids.ts";
import type { RowState, RowWrite, SourcePosition } from "./rows.ts";
import { SinkError } from "./sink.ts";

/**
 * The property of a payload that holds an id which Qdrant cannot take as it is. It is there only for
 * such ids, which those of all rows are. A property of yours with this name gives way to it; a row with one is
 * refused.
 */
export const QDRANT_ID_PROPERTY = "pgstream_id";

/**
 * The property of a payload that holds what the sink knows of the row whose point it is: an object with `table`,
 * `key`, `row` (both, as the text of a JSON array), `chunk`, `chunks`, `fingerprint`, `model`, and the position
 * of its last write, `system`, `timeline`, `lsn_high`, `lsn_low`, `ordinal`. A payload with a property of yours
 * of this name is refused.
 */
export const QDRANT_ROW_PROPERTY = "pgstream";

/** What is under `QDRANT_ROW_PROPERTY`. */
export interface QdrantRow {
  table: string;
  /** `rowName(table, key)`: all points of a row are found by one match. */
  row: string;
  key: string;
  chunk: number;
  chunks: number;
  fingerprint: string;
  model: string;
  system: string;
  timeline: number;
  /** The upper and the lower half of the LSN: Qdrant compares numbers as doubles, which hold 53 bits. */
  lsn_high: number;
  lsn_low: number;
  ordinal: number;
}

/** A point as it was given: its id's text, its payload, and what is known of its row. */
export interface ReadPoint {
  id: string;
  payload: Record<string, unknown>;
  /** null: a plain point. */
  row: QdrantRow | null;
}

/** One text for a table and a key. */
export function rowName(table: string, key: string): string {
  return JSON.stringify([table, key]);
}

/** An LSN in two halves of 32 bits. */
export function splitLsn(text: string): { lsn_high: number; lsn_low: number } {
  const lsn = parseLsn(text);
  return { lsn_high: Number(lsn >> 32n), lsn_low: Number(lsn & 0xffff_ffffn) };
}

/** What is kept of a row with its point number `chunk`. */
export function formatRow(
  { table, key, position, model, points }: RowWrite,
  chunk: number,
): QdrantRow {
  return {
    ...{ table, row: rowName(table, key), key, chunk, chunks: points.length },
    ...{ fingerprint: points[chunk]!.fingerprint, model },
    ...{ system: position.systemId, timeline: position.timeline },
    ...splitLsn(position.lsn),
    ordinal: position.ordinal,
  };
}

/** When a row was written last. */
export function readPosition(
  { system, timeline, lsn_high, lsn_low, ordinal }: QdrantRow,
): SourcePosition {
  const lsn = formatLsn((BigInt(lsn_high) << 32n) | BigInt(lsn_low));
  return { systemId: system, timeline, lsn, ordinal };
}

/** What is known of the row that a point is of; null for a plain point. */
export function readRow(payload: Record<string, unknown>): QdrantRow | null {
  const row = payload[QDRANT_ROW_PROPERTY] as Partial<QdrantRow> | null | undefined;
  return typeof row?.row === "string" && typeof row.fingerprint === "string"
    ? row as QdrantRow
    : null;
}

/** The id as it was given, and the payload without what the sink keeps there. */
export async function readPoint(
  id: string | number | bigint,
  payload: Record<string, unknown>,
): Promise<ReadPoint> {
  const { [QDRANT_ID_PROPERTY]: text, ...rest } = payload;
  if (typeof text !== "string" || (await qdrantId(text)).id !== id) {
    return { id: String(id), payload, row: null };
  }
  const row = readRow(rest);
  if (row === null) return { id: text, payload: rest, row };
  const { [QDRANT_ROW_PROPERTY]: _, ...own } = rest;
  return { id: text, payload: own, row };
}

/** A row's point as `fingerprints` and `scan` give it. */
export function rowState({ id, payload }: ReadPoint, row: QdrantRow): RowState {
  const { table, key, chunk, chunks, fingerprint, model } = row;
  return {
    id,
    table,
    key,
    chunk,
    chunks,
    fingerprint,
    model,
    payload,
    position: readPosition(row),
  };
}

/** @throws {SinkError} `sink-payload` where the user's payload has a property that is the sink's. */
export function checkReserved(
  payload: Record<string, unknown>,
  reserved: readonly string[],
): void {
  const name = reserved.find((name) => Object.hasOwn(payload, name));
  if (name === undefined) return;
  throw new SinkError(`A payload has a property "${name}", under which the sink keeps its own`, {
    kind: "sink-payload",
    sink: "qdrant",
    hint: "Give the property another name in the payload",
  });
}
