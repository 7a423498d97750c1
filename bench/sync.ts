/**
 * How many rows a second come from their commit into a store by `sync`, beside the README's handler, which embeds
 * and writes one row a call: the same rows into the same kind of store in the same run, in alternating rounds.
 * The median counts; of the ratio also the least and the most.
 *
 * Rows are committed ten a transaction. Embedding costs next to nothing, since a model would hide what is
 * measured here. Stores are processes of their own that cost what computing costs and nothing more, the same in
 * both forms: pgvector is PGlite, whose memory is its disk, and the stand-in for Qdrant answers once a write is
 * done. No request waits for a network or for a disk, which one row a call would do for every row.
 *
 * Vectors are of whole numbers, as models give that quantize to int8: pgvector in WebAssembly reads a number
 * with a fraction in a microsecond, 20 times as long as a server does, and would be all that is measured.
 * `--floats` measures that.
 *
 * ```sh
 * deno task bench sync [--json] [--rows 5000] [--rounds 5] [--floats]
 * ```
 */
import { cpus } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import postgres from "postgres";
import { PgStream } from "../mod.ts";
import { PgVectorSink } from "../src/sinks/pgvector.ts";
import { QdrantSink } from "../src/sinks/qdrant.ts";
import type { SyncOptions } from "../src/sync/mod.ts";
import { Child } from "../tests/support/child.ts";
import { startPostgres } from "../tests/support/servers/postgres.ts";
import { started } from "../tests/support/streams.ts";

const DIMENSIONS = 384;
const CHARS = 400;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    floats: { type: "boolean", default: false },
    rows: { type: "string", default: "5000" },
    rounds: { type: "string", default: "5" },
  },
});
const rows = Number(values.rows);

/** Some microseconds a text. */
function embed(texts: readonly string[]): Promise<(number[] | Float32Array)[]> {
  return Promise.resolve(texts.map((text) => {
    let state = 0;
    for (let at = 0; at < text.length; at++) state = Math.imul(state, 31) + text.charCodeAt(at) | 0;
    const vector = values.floats ? new Float32Array(DIMENSIONS) : new Array<number>(DIMENSIONS);
    for (let at = 0; at < DIMENSIONS; at++) {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      vector[at] = values.floats ? state / 2 ** 31 : state >> 24;
    }
    return vector;
  }));
}

function quarters(text: string): string[] {
  return [0, 1, 2, 3].map((at) => text.slice(at * CHARS / 4, (at + 1) * CHARS / 4));
}

/** A kind of store. */
interface Store {
  /** Into an empty one. */
  open(address: string): PgVectorSink | QdrantSink;
  /** How many points it has. */
  count(address: string): Promise<number>;
}

const stores: Record<string, Store> = {
  pgvector: {
    open: (dsn) => new PgVectorSink({ dsn, createTable: { dimensions: DIMENSIONS } }),
    async count(dsn) {
      const sql = postgres(dsn, { max: 1 });
      const [row] = await sql`select count(*)::int from embeddings`;
      await sql.end();
      return row!.count;
    },
  },
  qdrant: {
    open: (url) =>
      new QdrantSink({ url, createCollection: { size: DIMENSIONS, distance: "Cosine" } }),
    async count(url) {
      const response = await fetch(`${url}/collections/pgstream/points/count`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: "{}",
      });
      return (await response.json()).result.count;
    },
  },
};

/** Rows a second, by what was done. */
type Speeds = Record<string, number>;

let tables = 0;

/** @param points of each row */
async function measure(
  name: string,
  points: number,
  declare: (stream: PgStream, table: string, sink: PgVectorSink | QdrantSink) => void,
  steps: readonly ("backfill" | "insert" | "payload" | "untouched")[],
): Promise<Speeds> {
  const store = stores[name]!;
  const table = `documents_${++tables}`;
  const child = new Child("print_store.ts", name);
  await server.query(
    `CREATE TABLE ${table} (id int PRIMARY KEY, title text, body text, views int);
    INSERT INTO ${table} SELECT n, 'title ' || n, rpad(n || '. ', ${CHARS}, md5(n::text) || '. '), 0
    FROM generate_series(1, ${steps.includes("backfill") ? rows : 0}) n`,
  );
  await child.printed(1);
  const address = child.lines[0]!;
  const sink = store.open(address);
  const stream = new PgStream({ dsn: server.dsn, slotName: table, logger: false }).sink(sink);
  declare(stream, table, sink);
  await stream.setup();
  const speeds: Speeds = {};
  const timed = async (step: string, work: () => Promise<unknown>) => {
    const began = performance.now();
    await work();
    speeds[step] = rows / (performance.now() - began) * 1000;
  };
  if (steps.includes("backfill")) await timed("backfill", () => stream.catchUp());
  const running = await started(stream);
  const changed = async (statement: string) => {
    const handled = () => stream.status().events.insert + stream.status().events.update;
    const wanted = handled() + rows;
    await server.query(
      `DO $$ BEGIN FOR head IN ${rows + 1} .. ${
        rows + rows
      } BY 10 LOOP ${statement}; COMMIT; END LOOP; END $$`,
    );
    while (handled() < wanted) await new Promise((resolve) => setTimeout(resolve, 1));
  };
  const statements = {
    insert: `INSERT INTO ${table} SELECT n, 'title ' || n,
      rpad(n || '. ', ${CHARS}, md5(n::text) || '. '), 0 FROM generate_series(head, head + 9) n`,
    payload: `UPDATE ${table} SET title = title || '!' WHERE id BETWEEN head AND head + 9`,
    untouched: `UPDATE ${table} SET views = 1 WHERE id BETWEEN head AND head + 9`,
  };
  for (const step of steps) {
    if (step !== "backfill") await timed(step, () => changed(statements[step]));
  }
  const found = await store.count(address);
  const wanted = points * rows * (steps.includes("backfill") ? 2 : 1);
  if (found !== wanted) throw new Error(`${name} has ${found} points, not ${wanted}`);
  await running.stop();
  await stream.teardown();
  await child.kill();
  await server.query(`DROP TABLE ${table}`);
  return speeds;
}

function bySync(options: Partial<SyncOptions> = {}) {
  return (stream: PgStream, table: string) =>
    void stream.sync(table, {
      text: (row) => row.body as string,
      embed,
      model: "hash@1",
      payload: ["title"],
      ...options,
    });
}

function byRow(stream: PgStream, table: string, sink: PgVectorSink | QdrantSink): void {
  stream.watch(table).onChange(async (event) => {
    if (event.operation !== "insert") return;
    const { title, body } = event.row as { title: string; body: string };
    const [vector] = await embed([body]);
    await sink.upsert({ id: event.key, vector: vector!, payload: { title } });
  });
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

const runtime = process.versions.deno !== undefined
  ? `Deno ${process.versions.deno}`
  : process.versions.bun !== undefined
  ? `Bun ${process.versions.bun}`
  : `Node ${process.versions.node}`;
const server = await startPostgres({ lifetimeMs: 1_200_000 });
const report: Record<string, string | number> = {
  runtime,
  cpu: cpus()[0]?.model ?? "unknown",
  rows,
};
try {
  for (const name of Object.keys(stores)) {
    const found: Record<string, number[]> = {};
    const add = (step: string, speed: number) => (found[step] ??= []).push(speed);
    for (let round = 0; round < Number(values.rounds); round++) {
      const ours = await measure(name, 1, bySync(), ["backfill", "insert", "payload", "untouched"]);
      const peer = await measure(name, 1, byRow, ["insert"]);
      const inChunks = bySync({ chunk: quarters, backfill: "never" });
      const chunks = await measure(name, 4, inChunks, ["insert"]);
      for (const [step, speed] of Object.entries(ours)) add(`sync_${step}`, speed);
      add("sync_insert_in_4_chunks", chunks.insert!);
      add("row_a_call_insert", peer.insert!);
      add("ratio", ours.insert! / peer.insert!);
    }
    const { ratio, ...speeds } = found;
    for (const [step, all] of Object.entries(speeds)) {
      report[`${name}_${step}_rows_per_s`] = Math.round(median(all));
    }
    report[`${name}_sync_vs_row_a_call`] = +median(ratio!).toFixed(1);
    report[`${name}_sync_vs_row_a_call_least`] = +Math.min(...ratio!).toFixed(1);
    report[`${name}_sync_vs_row_a_call_most`] = +Math.max(...ratio!).toFixed(1);
  }
  if (values.json) console.log(JSON.stringify(report));
  else for (const [key, value] of Object.entries(report)) console.log(key.padEnd(40), value);
} finally {
  await server.stop("immediate");
}
