/** Rows, for a sink that has no more than the two methods. */

import type { RowWrite } from "../sinks/rows.ts";
import { rowPointId } from "../sinks/rows.ts";
import type { SinkLike, VectorPoint } from "../sinks/sink.ts";

/** Writes rows of one point at most, each with its vector: what the sink has is not known. */
export async function writePoints(sink: SinkLike, rows: readonly RowWrite[]): Promise<void> {
  const ids: string[] = [];
  const points: VectorPoint[] = [];
  for (const { table, key, points: [point] } of rows) {
    if (point === undefined) ids.push(rowPointId(table, key, 0));
    else points.push({ id: point.id, vector: point.vector!, payload: point.payload });
  }
  if (ids.length > 0 && sink.deleteMany !== undefined) await sink.deleteMany(ids);
  else for (const id of ids) await sink.delete(id);
  if (points.length > 0 && sink.upsertMany !== undefined) await sink.upsertMany(points);
  else for (const point of points) await sink.upsert(point);
}
