/** Filters of Qdrant: what may be replaced or removed, and what a search is narrowed to. */

import type { QdrantCondition, QdrantFilter } from "./qdrant_client.ts";
import { QDRANT_ROW_PROPERTY, type QdrantRow, splitLsn } from "./qdrant_payload.ts";
import type { SearchOptions, SourcePosition } from "./rows.ts";
import { SinkError } from "./sink.ts";

/** What is written from one place in the source's history. */
export interface GuardedWrite {
  position: SourcePosition;
  /** What `select` is to choose: ids of points, or names of rows. */
  value: string;
}

/** The path of what is kept of a row. */
export function rowField(name: keyof QdrantRow): string {
  return `${QDRANT_ROW_PROPERTY}.${name}`;
}

/** What rows are found by. */
export const ROW_INDEXES: Record<string, "keyword"> = {
  [rowField("table")]: "keyword",
  [rowField("row")]: "keyword",
  [rowField("model")]: "keyword",
};

/** What else filters of writes look at: of points that are found by their ids or rows, and so without an index. */
export const GUARD_INDEXES: Record<string, "keyword" | "integer"> = {
  [rowField("system")]: "keyword",
  [rowField("timeline")]: "integer",
  [rowField("lsn_high")]: "integer",
  [rowField("lsn_low")]: "integer",
  [rowField("ordinal")]: "integer",
  [rowField("fingerprint")]: "keyword",
};

/** Points of which this is kept. */
export function isRow(name: keyof QdrantRow, value: string | number): QdrantCondition {
  return { key: rowField(name), match: { value } };
}

/** Points with one of these ids. */
export function hasId(ids: string[]): QdrantCondition {
  return { has_id: ids };
}

/** Points of one of these rows, by `rowName`. */
export function isOfRow(names: string[]): QdrantCondition {
  return { key: rowField("row"), match: { any: names } };
}

/** Points that are not from a later position of the same system, plain ones among them. */
export function notLater(position: SourcePosition): QdrantFilter {
  return notLaterBut(position, [atMost("ordinal", position.ordinal)]);
}

/**
 * Points that are chosen by one of the writes and are not from a later position than that write's: exactly, for
 * each of them. Writes of one transaction share what is the same for them, so that a row costs some 100 bytes
 * there, and one of another transaction some 550.
 */
export function eachNotLater(
  writes: readonly GuardedWrite[],
  select: (values: string[]) => QdrantCondition,
): QdrantFilter {
  const chosen = (group: readonly GuardedWrite[]) => select(group.map(({ value }) => value));
  const transactions = Map.groupBy(
    writes,
    ({ position: { systemId, timeline, lsn } }) => `${systemId} ${timeline} ${lsn}`,
  );
  const should = Array.from(transactions.values(), (transaction): QdrantCondition => {
    const ordinals = Map.groupBy(transaction, ({ position }) => position.ordinal);
    const there = Array.from(ordinals, ([ordinal, group]): QdrantCondition => {
      const bound = atMost("ordinal", ordinal);
      return ordinals.size === 1 ? bound : { must: [chosen(group), bound] };
    });
    return { must: [chosen(transaction)], ...notLaterBut(transaction[0]!.position, there) };
  });
  return { should };
}

/** @param there what points of the very same LSN have to meet */
function notLaterBut(
  { systemId, timeline, lsn }: SourcePosition,
  there: QdrantCondition[],
): QdrantFilter {
  const { lsn_high, lsn_low } = splitLsn(lsn);
  const atLow: QdrantFilter = { must: [isRow("lsn_low", lsn_low)], should: there };
  const atHigh: QdrantFilter = {
    must: [isRow("lsn_high", lsn_high)],
    should: [below("lsn_low", lsn_low), atLow],
  };
  return {
    should: [
      { must_not: [isRow("system", systemId)] },
      below("timeline", timeline),
      { must: [isRow("timeline", timeline)], should: [below("lsn_high", lsn_high), atHigh] },
    ],
  };
}

function below(name: keyof QdrantRow, lt: number): QdrantCondition {
  return { key: rowField(name), range: { lt } };
}

function atMost(name: keyof QdrantRow, lte: number): QdrantCondition {
  return { key: rowField(name), range: { lte } };
}

/**
 * The filter of a search; undefined where there is nothing to narrow.
 *
 * @throws {SinkError} `sink-options` where a property's name cannot be said in Qdrant's paths.
 */
export function searchFilter({ filter = {}, table }: SearchOptions): QdrantFilter | undefined {
  const must = Object.entries(filter).map(([name, value]): QdrantCondition => {
    const key = propertyPath(name);
    // An integer and a float are the same number in JSON, and a match knows integers only.
    return typeof value === "number"
      ? { key, range: { gte: value, lte: value } }
      : { key, match: { value } };
  });
  if (table !== undefined) must.push(isRow("table", table));
  return must.length === 0 ? undefined : { must };
}

function propertyPath(name: string): string {
  if (/^[\p{L}\p{N}_-]+$/u.test(name)) return name;
  if (!/["\\]/.test(name)) return `"${name}"`;
  throw new SinkError(`Qdrant cannot filter by the property ${JSON.stringify(name)}`, {
    kind: "sink-options",
    sink: "qdrant",
    hint: "Give the property a name without quotes and backslashes in the payload",
  });
}
