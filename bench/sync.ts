/**
 * How many rows a second come from their commit into a store by `sync`, beside the README's handler, which embeds
 * and writes one row a call: the same rows into the same kind of store in the same run, in alternating rounds.
 * The median counts; of the ratio also the least and the most.
 *
 * Rows are committed ten a transaction. What counts is what is left to do when the last one is committed: the writer
 * would else be measured beside it, which works on the same processors. Embedding costs next to nothing, since a model would hide what is
 * measured here. Stores are processes of their own that wait for neither a network nor a disk, the same in both
 * forms: `pgvector` is a native PostgreSQL with the extension, left out where it cannot be had; `pglite` is the
 * same extension in WebAssembly, whose memory is its disk; `qdrant` is a stand-in that answers once a write is done.
 *
 * `…_1ms_rtt` are inserts where the store is a millisecond away, there and back, in both forms: behind a proxy in a
 * process of its own that hands on what comes by half of that later, and as much of it at a time as there is. It adds
 * what it needs itself, 0.2 to 0.3 ms. `--rtt-ms` asks other distances. PGlite is asked at none.
 *
 * `…_texts_per_s` are inserts by `sync`, and `…_cpu_us_per_row` is what the process that syncs computes for one.
 *
 * Vectors are floats, but for PGlite whole numbers, as models give that quantize to int8: in WebAssembly to read a
 * number with a fraction takes so long that it would be much of what is measured. `--floats` measures that.
 *
 * ```sh
 * deno task bench sync [--json] [--rows 10000] [--rounds 3] [--floats] [--rtt-ms 0,1] [--stores pgvector,pglite,qdrant]
 * ```
 */
import process from "node:process";
import { parseArgs } from "node:util";
import postgres from "postgres";
import { PgStream } from "../mod.ts";
import { PgVectorSink } from "../src/sinks/pgvector.ts";
import { QdrantSink } from "../src/sinks/qdrant.ts";
import type { SyncOptions } from "../src/sync/mod.ts";
import { Child } from "../tests/support/child.ts";
import { startPostgres } from "../tests/support/servers/postgres.ts";
import { startNativePgvector } from "../tests/support/servers/native_pgvector.ts";
import { started } from "../tests/support/streams.ts";
import { machine, median, print, ratio, type Report, rounded } from "./support/report.ts";

const DIMENSIONS = 384;
const CHARS = 400;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    floats: { type: "boolean", default: false },
    rows: { type: "string", default: "10000" },
    rounds: { type: "string", default: "3" },
    "rtt-ms": { type: "string", default: "0,1" },
    stores: { type: "string", default: "pgvector,pglite,qdrant" },
  },
});
const rows = Number(values.rows);
const distances = values["rtt-ms"].split(",").map(Number);
const stores = values.stores.split(",");

type Embed = (texts: readonly string[]) => Promise<(number[] | Float32Array)[]>;

/** Some microseconds a text. */
const embedderOf = (floats: boolean): Embed => (texts) => {
  return Promise.resolve(texts.map((text) => {
    let state = 0;
    for (let at = 0; at < text.length; at++) state = Math.imul(state, 31) + text.charCodeAt(at) | 0;
    const vector = floats ? new Float32Array(DIMENSIONS) : new Array<number>(DIMENSIONS);
    for (let at = 0; at < DIMENSIONS; at++) {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      vector[at] = floats ? state / 2 ** 31 : state >> 24;
    }
    return vector;
  }));
};

function quarters(text: string): string[] {
  return [0, 1, 2, 3].map((at) => text.slice(at * CHARS / 4, (at + 1) * CHARS / 4));
}

/** A kind of store. */
interface Store {
  floats: boolean;
  /** An empty one. */
  start(): Promise<{ address: string; stop(): Promise<unknown> }>;
  open(address: string): PgVectorSink | QdrantSink;
  /** How many points it has. */
  count(address: string): Promise<number>;
}

/** In a process of its own. */
async function startChild(name: string) {
  const child = new Child("print_store.ts", name);
  await child.printed(1);
  return { address: child.lines[0]!, stop: () => child.kill() };
}

/** The same store, further away. */
function atDistance(store: Store, rttMs: number): Store {
  if (rttMs === 0) return store;
  return {
    ...store,
    async start() {
      const { address, stop } = await store.start();
      const { port } = new URL(address);
      const program = "../../bench/support/programs/distance.ts";
      const proxy = new Child(program, port, String(rttMs));
      await proxy.printed(1);
      return {
        address: address.replace(`:${port}`, `:${proxy.lines[0]}`),
        async stop() {
          await proxy.kill();
          await stop();
        },
      };
    },
  };
}

const pglite: Store = {
  floats: values.floats,
  start: () => startChild("pgvector"),
  open: (dsn) => new PgVectorSink({ dsn, createTable: { dimensions: DIMENSIONS } }),
  async count(dsn) {
    const sql = postgres(dsn, { max: 1 });
    const [row] = await sql`select count(*)::int from embeddings`;
    await sql.end();
    return row!.count;
  },
};

const qdrant: Store = {
  floats: true,
  start: () => startChild("qdrant"),
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
};

/** What was done: rows a second, and microseconds of CPU a row. */
type Found = Record<string, { speed: number; cpuUs: number }>;

type Declare = (
  stream: PgStream,
  table: string,
  sink: PgVectorSink | QdrantSink,
  embed: Embed,
) => void;

let tables = 0;

/** @param points of each row */
async function measure(
  store: Store,
  points: number,
  declare: Declare,
  steps: readonly ("backfill" | "insert" | "payload" | "untouched")[],
): Promise<Found> {
  const table = `documents_${++tables}`;
  const { address, stop } = await store.start();
  await server.query(
    `CREATE TABLE ${table} (id int PRIMARY KEY, title text, body text, views int);
    INSERT INTO ${table} SELECT n, 'title ' || n, rpad(n || '. ', ${CHARS}, md5(n::text) || '. '), 0
    FROM generate_series(1, ${steps.includes("backfill") ? rows : 0}) n`,
  );
  const sink = store.open(address);
  const stream = new PgStream({ dsn: server.dsn, slotName: table, logger: false }).sink(sink);
  declare(stream, table, sink, embedderOf(store.floats));
  await stream.setup();
  const measured: Found = {};
  const timed = async (step: string, rows: number, work: () => Promise<unknown>) => {
    const [began, before] = [performance.now(), process.cpuUsage()];
    await work();
    const { user, system } = process.cpuUsage(before);
    measured[step] = {
      speed: rows / (performance.now() - began) * 1000,
      cpuUs: (user + system) / rows,
    };
  };
  if (steps.includes("backfill")) await timed("backfill", rows, () => stream.catchUp());
  const running = await started(stream);
  const handled = () => stream.status().events.insert + stream.status().events.update;
  const changed = async (step: string, statement: string) => {
    const wanted = handled() + rows;
    await server.query(
      `DO $$ BEGIN FOR head IN ${rows + 1} .. ${
        rows + rows
      } BY 10 LOOP ${statement}; COMMIT; END LOOP; END $$`,
    );
    await timed(step, wanted - handled(), async () => {
      while (handled() < wanted) await new Promise((resolve) => setTimeout(resolve, 1));
    });
  };
  const statements = {
    insert: `INSERT INTO ${table} SELECT n, 'title ' || n,
      rpad(n || '. ', ${CHARS}, md5(n::text) || '. '), 0 FROM generate_series(head, head + 9) n`,
    payload: `UPDATE ${table} SET title = title || '!' WHERE id BETWEEN head AND head + 9`,
    untouched: `UPDATE ${table} SET views = 1 WHERE id BETWEEN head AND head + 9`,
  };
  for (const step of steps) {
    if (step !== "backfill") await changed(step, statements[step]);
  }
  const found = await store.count(address);
  const wanted = points * rows * (steps.includes("backfill") ? 2 : 1);
  if (found !== wanted) throw new Error(`The store has ${found} points, not ${wanted}`);
  await running.stop();
  await stream.teardown();
  await stop();
  await server.query(`DROP TABLE ${table}`);
  return measured;
}

function bySync(options: Partial<SyncOptions> = {}): Declare {
  return (stream, table, _sink, embed) =>
    void stream.sync(table, {
      text: (row) => row.body as string,
      embed,
      model: "hash@1",
      payload: ["title"],
      ...options,
    });
}

const byRow: Declare = (stream, table, sink, embed) => {
  stream.watch(table).onChange(async (event) => {
    if (event.operation !== "insert") return;
    const { title, body } = event.row as { title: string; body: string };
    const [vector] = await embed([body]);
    await sink.upsert({ id: event.key, vector: vector!, payload: { title } });
  });
};

/** What is known of ratios: the median, and how far rounds were apart. */
function ratios(name: string, ours: readonly number[], theirs: readonly number[]): Report {
  const all = ours.map((speed, round) => speed / theirs[round]!);
  return {
    [name]: rounded(ratio(ours, theirs), 1),
    [`${name}_least`]: rounded(Math.min(...all), 1),
    [`${name}_most`]: rounded(Math.max(...all), 1),
  };
}

async function measureAll(name: string, store: Store): Promise<Report> {
  const found: Record<string, number[]> = {};
  const add = (step: string, value: number) => (found[step] ??= []).push(value);
  for (let round = 0; round < Number(values.rounds); round++) {
    const ours = await measure(store, 1, bySync(), ["backfill", "insert", "payload", "untouched"]);
    const peer = await measure(store, 1, byRow, ["insert"]);
    const inChunks = bySync({ chunk: quarters, backfill: "never" });
    const chunks = await measure(store, 4, inChunks, ["insert"]);
    for (const [step, { speed }] of Object.entries(ours)) add(`sync_${step}`, speed);
    add("sync_insert_in_4_chunks", chunks.insert!.speed);
    add("row_a_call_insert", peer.insert!.speed);
    add("cpu", ours.insert!.cpuUs);
  }
  const { cpu, ...speeds } = found;
  const [ours, theirs] = [speeds.sync_insert!, speeds.row_a_call_insert!];
  // Those of pgvector itself are what is aimed at, and have no name before theirs.
  const prefix = name === "pgvector" ? "" : `${name}_`;
  return {
    [`${prefix}sync_texts_per_s`]: Math.round(median(ours)),
    [`${prefix}sync_cpu_us_per_row`]: Math.round(median(cpu!)),
    ...Object.fromEntries(
      Object.entries(speeds).map(([step, all]) => [
        `${name}_${step}_rows_per_s`,
        Math.round(median(all)),
      ]),
    ),
    ...ratios(`${name}_sync_vs_row_a_call`, ours, theirs),
  };
}

/** Inserts only: what else there is goes the same way. */
async function measureFar(name: string, store: Store, rttMs: number): Promise<Report> {
  const far = atDistance(store, rttMs);
  const [ours, theirs]: number[][] = [[], []];
  for (let round = 0; round < Number(values.rounds); round++) {
    const sync = await measure(far, 1, bySync({ backfill: "never" }), ["insert"]);
    ours!.push(sync.insert!.speed);
    theirs!.push((await measure(far, 1, byRow, ["insert"])).insert!.speed);
  }
  const suffix = `${rttMs}ms_rtt`;
  return {
    [`${name}_sync_insert_rows_per_s_${suffix}`]: Math.round(median(ours!)),
    [`${name}_row_a_call_insert_rows_per_s_${suffix}`]: Math.round(median(theirs!)),
    ...ratios(`${name}_sync_vs_row_a_call_${suffix}`, ours!, theirs!),
  };
}

async function measureStore(name: string, store: Store): Promise<void> {
  if (!stores.includes(name)) return;
  for (const rttMs of name === "pglite" ? [0] : distances) {
    const found = rttMs === 0 ? measureAll(name, store) : measureFar(name, store, rttMs);
    Object.assign(report, await found);
  }
}

// Before the stand-in for Qdrant starts: what checking requests against the document takes would be measured.
delete process.env.QDRANT_OPENAPI;
const server = await startPostgres({ lifetimeMs: 600_000 });
const native = await startNativePgvector({ lifetimeMs: 600_000 }).catch((error: Error) => error);
const report: Report = { ...machine(), rows };
try {
  if (native instanceof Error) console.error(native.message);
  else {
    const store: Store = {
      ...pglite,
      floats: true,
      async start() {
        const { name, dsn } = await native.createDatabase();
        const stop = () => native.query(`DROP DATABASE ${name} WITH (FORCE)`);
        return { address: dsn, stop };
      },
    };
    await measureStore("pgvector", store);
  }
  await measureStore("pglite", pglite);
  await measureStore("qdrant", qdrant);
  print(report, values.json);
} finally {
  await server.stop("immediate");
  if (!(native instanceof Error)) await native.stop("immediate");
}
