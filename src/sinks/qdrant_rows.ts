/** Rows of tables as operations of Qdrant, each under the guard of its position. */

import type { QdrantOperation, QdrantPayload, QdrantRecord } from "./qdrant_client.ts";
import { type QdrantCollection, WRITE } from "./qdrant_collection.ts";
import { eachNotLater, hasId, isOfRow, isRow, notLater } from "./qdrant_filters.ts";
import { qdrantId } from "./qdrant_ids.ts";
import { groupsInParts, maxPointBytes, sendParts, type Sized } from "./qdrant_parts.ts";
import {
  checkReserved,
  formatRow,
  QDRANT_ID_PROPERTY,
  QDRANT_ROW_PROPERTY,
  readPosition,
  readRow,
  rowName,
} from "./qdrant_payload.ts";
import { formatPayload } from "./payload.ts";
import { compareSourcePositions } from "./positions.ts";
import type { RowPoint, RowVector, RowWrite } from "./rows.ts";
import { checkVector, SinkError, type VectorPoint } from "./sink.ts";

/** Of a filter by a position, its twelve conditions. */
const GUARD_BYTES = 2048;
const ID_BYTES = 40;
const MAX_READ_IDS = 1000;

/** A point of a row, on its way. */
interface PointWrite {
  id: string;
  fingerprint: string;
  vector: VectorPoint["vector"] | null;
  payload: QdrantPayload;
  maxBytes: number;
}

interface Write {
  row: RowWrite;
  points: PointWrite[];
}

/** What is done about a row: in the first step what is not among its points is removed. */
interface Step extends Sized {
  row: RowWrite;
  /** Ids of the points that stay; null: nothing is removed in this step. */
  stays: string[] | null;
  /** null: the row has none. */
  point: PointWrite | null;
}

/**
 * Writes rows: in one request, or above 240 points or 16 MB in several, two at a time. Requests under way together
 * have nothing of the same row.
 *
 * Of a row, what is surplus goes first, then come the points from the first to the last. A process that dies
 * in between leaves a row whose first point is the old one, or one that lacks points: what is seen when the row
 * comes again. The other way around, all points would look right, and the surplus stay.
 *
 * @throws {SinkError}
 */
export async function writeRows(
  collection: QdrantCollection,
  rows: readonly RowWrite[],
): Promise<void> {
  const writes = await Promise.all(rows.map(prepare));
  const steps = (await withoutRefused(collection, writes)).map(stepsOf);
  await sendParts(groupsInParts(steps), async (parts) => {
    for (const part of parts) {
      const operations = operationsOf(part, collection);
      await collection.write((client, name) => client.batchUpdate(name, { ...WRITE, operations }));
    }
  });
}

/** Points by ids as Qdrant has them, in requests of 1,000. @throws {SinkError} */
export async function readPoints(
  collection: QdrantCollection,
  ids: readonly (string | number)[],
  withPayload: true | string[],
  withVector = false,
): Promise<QdrantRecord[]> {
  const records: QdrantRecord[] = [];
  for (let start = 0; start < ids.length; start += MAX_READ_IDS) {
    const part = ids.slice(start, start + MAX_READ_IDS);
    records.push(
      ...await collection.run((client, name) =>
        client.retrieve(name, { ids: part, with_payload: withPayload, with_vector: withVector })
      ),
    );
  }
  return records;
}

/** Vectors of points of rows, by the ids that they were given. @throws {SinkError} */
export async function readVectors(
  collection: QdrantCollection,
  ids: readonly string[],
): Promise<Map<string, RowVector>> {
  const names = new Map(
    await Promise.all(
      [...new Set(ids)].map(async (id) => [String((await qdrantId(id)).id), id] as const),
    ),
  );
  const records = await readPoints(collection, [...names.keys()], [QDRANT_ROW_PROPERTY], true);
  const found = new Map<string, RowVector>();
  for (const { id, payload, vector } of records) {
    const row = readRow(payload ?? {});
    const values = collection.vectorOf(vector);
    if (row === null || values === null) continue;
    found.set(names.get(String(id))!, { fingerprint: row.fingerprint, vector: values });
  }
  return found;
}

async function prepare(row: RowWrite): Promise<Write> {
  return {
    row,
    points: await Promise.all(row.points.map((point, chunk) => preparePoint(row, point, chunk))),
  };
}

async function preparePoint(row: RowWrite, point: RowPoint, chunk: number): Promise<PointWrite> {
  if (point.vector !== null) checkVector(point.vector, "qdrant");
  checkReserved(point.payload, [QDRANT_ID_PROPERTY, QDRANT_ROW_PROPERTY]);
  const json = formatPayload(point.payload, "qdrant");
  const kept = formatRow(row, chunk);
  const payload: QdrantPayload = JSON.parse(json);
  payload[QDRANT_ID_PROPERTY] = point.id;
  payload[QDRANT_ROW_PROPERTY] = kept;
  const characters = json.length + JSON.stringify(kept).length + 2 * point.id.length;
  return {
    id: String((await qdrantId(point.id)).id),
    fingerprint: point.fingerprint,
    vector: point.vector,
    payload,
    maxBytes: maxPointBytes(point.vector?.length ?? 0, characters) + GUARD_BYTES,
  };
}

/**
 * A point that is there is guarded by the filter of its write. One that is not there is written whatever the
 * filter says, also where its row is from a later position, and a payload whose point is gone is written
 * nowhere: rows for which that could be are looked at before.
 */
async function withoutRefused(collection: QdrantCollection, writes: Write[]): Promise<Write[]> {
  const ids = new Set(writes.flatMap(({ points }) => {
    const known = points.filter(({ vector }) => vector === null);
    const first = known.length > 0 || points.length > 1 ? points.slice(0, 1) : [];
    return [...first, ...known].map(({ id }) => id);
  }));
  if (ids.size === 0) return writes;
  const records = await readPoints(collection, [...ids], [QDRANT_ROW_PROPERTY]);
  const stored = new Map(records.map(({ id, payload }) => [id, readRow(payload ?? {})]));
  const accepted = writes.filter(({ row, points }) =>
    !points.some(({ id }) => {
      const there = stored.get(id);
      return there != null && compareSourcePositions(readPosition(there), row.position)! > 0;
    })
  );
  for (const { row, points } of accepted) {
    const isGone = points.some(({ id, vector, fingerprint }) =>
      vector === null && stored.get(id)?.fingerprint !== fingerprint
    );
    if (isGone) throw vectorGone(row.table);
  }
  return accepted;
}

function vectorGone(table: string): SinkError {
  return new SinkError(`Qdrant has no vector for a point of table "${table}" any more`, {
    kind: "sink-unconfirmed",
    sink: "qdrant",
    retryable: true,
    hint: "Somebody else removed or replaced it meanwhile; it is embedded when this is tried again",
  });
}

function stepsOf({ row, points }: Write): Step[] {
  const stays = row.surplus ? points.map(({ id }) => id) : null;
  const [first = null, ...others] = points;
  if (first === null && stays === null) return [];
  const maxBytes = (first?.maxBytes ?? 0) + GUARD_BYTES + (stays?.length ?? 0) * ID_BYTES +
    2 * 3 * rowName(row.table, row.key).length;
  return [
    { row, stays, point: first, maxBytes },
    ...others.map((point): Step => ({ row, stays: null, point, maxBytes: point.maxBytes })),
  ];
}

function operationsOf(steps: readonly Step[], collection: QdrantCollection): QdrantOperation[] {
  const operations: QdrantOperation[] = [];
  const cleared = steps.filter(({ stays }) => stays !== null);
  if (cleared.length > 0) {
    const stays = cleared.flatMap(({ stays }) => stays!);
    const filter = eachNotLater(
      cleared.map(({ row }) => ({ position: row.position, value: rowName(row.table, row.key) })),
      isOfRow,
    );
    if (stays.length > 0) filter.must_not = [hasId(stays)];
    operations.push({ delete: { filter } });
  }
  const points = steps.flatMap(({ row, point }) => point === null ? [] : [{ row, ...point }]);
  const whole = points.filter(({ vector }) => vector !== null);
  if (whole.length > 0) {
    operations.push({
      upsert: {
        points: whole.map(({ id, vector, payload }) => ({
          id,
          vector: collection.vector(vector!),
          payload,
        })),
        update_filter: eachNotLater(
          whole.map(({ id, row }) => ({ position: row.position, value: id })),
          hasId,
        ),
      },
    });
  }
  for (const { row, id, fingerprint, vector, payload } of points) {
    if (vector !== null) continue;
    const filter = notLater(row.position);
    filter.must = [hasId([id]), isRow("fingerprint", fingerprint)];
    operations.push({ overwrite_payload: { payload, filter } });
  }
  return operations;
}
