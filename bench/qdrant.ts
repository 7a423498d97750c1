/**
 * How many points a second `QdrantSink` stores in a stand-in for Qdrant, beside what one would write without it, into
 * collections alike in the same run, in turns:
 *
 * - `one_by_one`: Qdrant's client, one `upsert` a point, each when the one before it is done.
 * - `client_batches`: Qdrant's client, one `upsert` for 1,000 points: what the sink does beyond it.
 *
 * Vectors have 384 dimensions and are `Float32Array`s, as models give them; ids are UUIDs for the client, which takes
 * no others, and keys for the sink. The stand-in is a process of its own that answers when a write is done. It is slower
 * than the server, and no network lies between. Requests are checked by hand only, whether or not `QDRANT_OPENAPI` is
 * set: what the document's check takes for each request would count for the sink, which sends few.
 *
 * ```sh
 * deno task bench qdrant [--json] [--points 10000] [--rounds 5]
 * ```
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { QdrantClient } from "@qdrant/js-client-rest";
import { QdrantSink } from "../src/sinks/qdrant.ts";
import { Child } from "../tests/support/child.ts";
import { inTurns, machine, median, print, ratio, rounded } from "./support/report.ts";

const DIMENSIONS = 384;
const BATCH = 1000;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    points: { type: "string", default: "10000" },
    rounds: { type: "string", default: "5" },
  },
});
const count = Math.ceil(Number(values.points) / BATCH) * BATCH;

interface Point {
  key: string;
  uuid: string;
  vector: Float32Array;
  payload: Record<string, unknown>;
}

function pointsFrom(first: number, count: number): Point[] {
  return Array.from({ length: count }, (_, index) => {
    const number = first + index;
    let state = number;
    const vector = Float32Array.from({ length: DIMENSIONS }, () => {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      return state / 2 ** 31;
    });
    return {
      key: `document ${number}`,
      uuid: `00000000-0000-4000-8000-${number.toString(16).padStart(12, "0")}`,
      vector,
      payload: { title: `title ${number}`, category: "news" },
    };
  });
}

/** Stores points, however it does. */
type Write = (points: readonly Point[]) => Promise<unknown>;

// Before the stand-in starts, which has the environment of this process.
delete process.env.QDRANT_OPENAPI;
const child = new Child("print_store.ts", "qdrant");
try {
  await child.printed(1);
  const url = child.lines[0]!;
  const client = new QdrantClient({ url, checkCompatibility: false });
  const toClient = ({ uuid, vector, payload }: Point) => ({
    id: uuid,
    vector: Array.from(vector),
    payload,
  });

  let collections = 0;
  const speedOf = (open: (collection: string) => Promise<Write>) => async (): Promise<number> => {
    const collection = `points_${++collections}`;
    await client.createCollection(collection, {
      vectors: { size: DIMENSIONS, distance: "Cosine" },
    });
    const write = await open(collection);
    // For connections and code to be warm.
    await write(pointsFrom(count, 50));
    let ms = 0;
    for (let first = 0; first < count; first += BATCH) {
      const points = pointsFrom(first, BATCH);
      const began = performance.now();
      await write(points);
      ms += performance.now() - began;
    }
    const found = (await client.count(collection, { exact: true })).count;
    if (found !== count + 50) throw new Error(`${collection} has ${found} points`);
    await client.deleteCollection(collection);
    return count / ms * 1000;
  };
  const contenders = {
    sink: speedOf((collectionName) => {
      const sink = new QdrantSink({ url, collectionName });
      return Promise.resolve((points) =>
        sink.upsertMany(points.map(({ key, vector, payload }) => ({ id: key, vector, payload })))
      );
    }),
    oneByOne: speedOf((collection) =>
      Promise.resolve(async (points) => {
        for (const point of points) {
          await client.upsert(collection, { wait: true, points: [toClient(point)] });
        }
      })
    ),
    clientBatches: speedOf((collection) =>
      Promise.resolve((points) =>
        client.upsert(collection, { wait: true, points: points.map(toClient) })
      )
    ),
  };
  const { sink, oneByOne, clientBatches } = await inTurns(Number(values.rounds), contenders);
  print({
    ...machine(),
    points: count,
    qdrant_vs_one_by_one: rounded(ratio(sink, oneByOne)),
    qdrant_vs_client_batches: rounded(ratio(sink, clientBatches)),
    qdrant_sink_points_per_s: Math.round(median(sink)),
    one_by_one_points_per_s: Math.round(median(oneByOne)),
    client_batches_points_per_s: Math.round(median(clientBatches)),
  }, values.json);
} finally {
  await child.kill();
}
