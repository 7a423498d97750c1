/**
 * A consumer that writes to a store and dies at a moment that it was told:
 * `sink_consumer.ts DSN SLOT TABLE STORE URL HOW FAULT COUNT`. STORE is `pgvector` or `qdrant`, HOW is
 * `event` or `batch`. At the COUNTth call of its handler it kills itself at the FAULT; without one it
 * goes on until it is killed.
 */

import process from "node:process";
import { type ChangeEvent, PgStream, type Sink, type VectorPoint } from "../../mod.ts";
import { PgVectorSink } from "../../src/sinks/pgvector.ts";
import { QdrantSink } from "../../src/sinks/qdrant.ts";
import { vectorOf } from "./store_model.ts";

const [dsn, slotName, table, store, url, how, fault, count] = process.argv.slice(2);

function die(): Promise<never> {
  process.kill(process.pid, "SIGKILL");
  return new Promise(() => {});
}

/** The changes of the events as two writes: of each id, only what it is in the end. */
function plan(events: readonly ChangeEvent[]): { points: VectorPoint[]; gone: string[] } {
  const points = new Map<string, VectorPoint | null>();
  for (const event of events) {
    if (event.oldKey !== null) points.set(event.oldKey, null);
    if (event.operation === "delete") {
      points.set(event.key!, null);
      continue;
    }
    const { v } = event.row as { v: string };
    points.set(event.key!, { id: event.key!, vector: vectorOf(v), payload: { v } });
  }
  return {
    points: [...points.values()].filter((point) => point !== null),
    gone: [...points].filter(([, point]) => point === null).map(([id]) => id),
  };
}

let calls = 0;
let left = Number(count);
async function write(events: readonly ChangeEvent[], sink: Sink): Promise<void> {
  calls++;
  // Status updates go out meanwhile, with whatever is confirmed by then.
  await new Promise((resolve) => setTimeout(resolve, how === "batch" ? 40 : 10));
  const now = fault !== "none" && calls >= left;
  if (now && fault === "before the write") await die();
  const { points, gone } = plan(events);
  if (gone.length > 0) await sink.deleteMany(gone);
  if (now && fault === "between two writes") await die();
  const written = points.length > 0 ? sink.upsertMany(points) : Promise.resolve();
  if (now && fault === "in the middle of the write") {
    // The request is on its way; whether it arrives is the network's.
    written.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 1));
    await die();
  }
  await written;
  if (now && fault === "after the write") await die();
  if (now && fault === "after the handler") {
    left = Infinity;
    // Behind the end of the handler, and before the next status update.
    setTimeout(die, 2);
  }
}

const sink = store === "qdrant"
  ? new QdrantSink({
    url: url!,
    collectionName: table!,
    createCollection: { size: 3, distance: "Dot" },
  })
  : new PgVectorSink({ dsn: url!, table: table!, createTable: { dimensions: 3 } });
const stream = new PgStream({
  dsn: dsn!,
  slotName: slotName!,
  logger: false,
  concurrency: how === "batch" ? 4 : 1,
}).watch(table!).sink(sink);
if (how === "batch") {
  stream.onBatch((events, sink) => write(events as ChangeEvent[], sink), { maxEvents: 8 });
} else {
  stream.onChange((event, sink) => write([event], sink));
}
await stream.start();
