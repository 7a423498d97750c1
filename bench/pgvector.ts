/**
 * How many points a second `PgVectorSink` stores in a native PostgreSQL with pgvector, beside what one would write
 * without it, into tables alike in the same run, in turns:
 *
 * - `row_by_row`: postgres.js, one `INSERT … ON CONFLICT` a point, each when the one before it is stored.
 * - `copy_merge`: postgres.js, a batch by `COPY` into a temporary table, which one `INSERT … ON CONFLICT` empties.
 *
 * Vectors have 384 dimensions and are `Float32Array`s of length 1, as models give them; the others write them as
 * pgvector's own client for JavaScript does. Batches have 1,000 points. Each turn begins with an empty table; one
 * more batch goes in before the clock starts, for statements to be prepared. `apply` is what `sync` calls: it stores
 * rows with their fingerprints and the stream's position in one transaction.
 *
 * Left out: a network, a disk that is waited for (`fsync` is off), an index beside the primary key, a model.
 *
 * ```sh
 * deno task bench pgvector [--json] [--points 10000] [--rounds 5]
 * ```
 */
import process from "node:process";
import { parseArgs } from "node:util";
import postgres from "postgres";
import { PgVectorSink } from "../src/sinks/pgvector.ts";
import { rowPointId } from "../src/sinks/rows.ts";
import type { VectorPoint } from "../src/sinks/sink.ts";
import { startNativePgvector } from "../tests/support/servers/native_pgvector.ts";
import type { PostgresServer } from "../tests/support/servers/postgres.ts";
import { inTurns, machine, median, print, ratio, rounded } from "./support/report.ts";

const DIMENSIONS = 384;
const BATCH = 1000;
const SOURCE = "public.documents";
const ON_CONFLICT = "ON CONFLICT (id) DO UPDATE SET vector = excluded.vector, " +
  "payload = excluded.payload";

interface Point extends VectorPoint {
  id: string;
  vector: Float32Array;
  payload: { title: string; category: string };
}

/** @param first of the batch: points of two batches differ. */
function batchFrom(first: number): Point[] {
  return Array.from({ length: BATCH }, (_, index) => {
    const number = first + index;
    const vector = new Float32Array(DIMENSIONS);
    let state = number;
    for (let at = 0; at < DIMENSIONS; at++) {
      let sum = 0;
      // Of some that are evenly spread, the sum is about as elements of models' vectors are.
      for (let term = 0; term < 4; term++) {
        state = Math.imul(state, 1664525) + 1013904223 | 0;
        sum += state / 2 ** 31;
      }
      vector[at] = sum;
    }
    const length = Math.hypot(...vector);
    return {
      id: rowPointId(SOURCE, `${number}`, 0),
      vector: vector.map((element) => element / length),
      payload: { title: `title ${number}`, category: "news" },
    };
  });
}

const toText = (vector: Float32Array) => JSON.stringify(Array.from(vector));
const forCopy = (text: string) =>
  text.replace(/[\\\t\n\r]/g, (char) => `\\${{ "\t": "t", "\n": "n", "\r": "r" }[char] ?? char}`);

/** What stores batches. */
interface Writer {
  write(batch: Point[]): Promise<unknown>;
  end(): Promise<unknown>;
}

type Open = (dsn: string, table: string) => Promise<Writer> | Writer;

function sinkFor(dsn: string, table: string): PgVectorSink {
  return new PgVectorSink({ dsn, table, createTable: { dimensions: DIMENSIONS } });
}

function upsertMany(dsn: string, table: string): Writer {
  const sink = sinkFor(dsn, table);
  return { write: (batch) => sink.upsertMany(batch), end: () => sink.close() };
}

function apply(dsn: string, table: string): Writer {
  const sink = sinkFor(dsn, table);
  let batches = 0;
  return {
    write(batch) {
      const lsn = `0/${(++batches).toString(16).toUpperCase()}`;
      const systemId = "7302345678901234567";
      const rows = batch.map(({ id, vector, payload }, ordinal) => ({
        table: SOURCE,
        key: id,
        model: "model@1",
        position: { systemId, timeline: 1, lsn, ordinal },
        points: [{ id, fingerprint: id, vector, payload }],
        surplus: true,
      }));
      const position = { systemId, timeline: 1, slotName: table, endLsn: lsn };
      return sink.apply(rows, { ...position, commitLsn: null, ordinal: null });
    },
    end: () => sink.close(),
  };
}

function openSql(dsn: string): postgres.Sql {
  return postgres(dsn, { max: 1, onnotice: () => {} });
}

async function makeTable(sql: postgres.Sql, table: string): Promise<void> {
  await sql.unsafe(`CREATE TABLE ${table} (
    id text PRIMARY KEY, vector vector(${DIMENSIONS}) NOT NULL, payload jsonb NOT NULL)`);
}

async function rowByRow(dsn: string, table: string): Promise<Writer> {
  const sql = openSql(dsn);
  await makeTable(sql, table);
  return {
    async write(batch) {
      for (const { id, vector, payload } of batch) {
        await sql`INSERT INTO ${sql(table)} (id, vector, payload)
          VALUES (${id}, ${toText(vector)}, ${sql.json(payload)}) ${sql.unsafe(ON_CONFLICT)}`;
      }
    },
    end: () => sql.end(),
  };
}

async function copyMerge(dsn: string, table: string): Promise<Writer> {
  const sql = openSql(dsn);
  await makeTable(sql, table);
  await sql.unsafe(`CREATE TEMPORARY TABLE staged (LIKE ${table}) ON COMMIT DELETE ROWS`);
  return {
    write: (batch) =>
      sql.begin(async (sql) => {
        const lines = batch.map(({ id, vector, payload }) =>
          `${forCopy(id)}\t${toText(vector)}\t${forCopy(JSON.stringify(payload))}\n`
        );
        const copy = await sql`COPY staged (id, vector, payload) FROM STDIN`.writable();
        await new Promise<void>((resolve, reject) => {
          copy.on("error", reject).on("finish", resolve);
          copy.end(lines.join(""));
        });
        await sql.unsafe(`INSERT INTO ${table} SELECT * FROM staged ${ON_CONFLICT}`);
      }),
    end: () => sql.end(),
  };
}

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    points: { type: "string", default: "10000" },
    rounds: { type: "string", default: "5" },
  },
});
const batches = Math.ceil(Number(values.points) / BATCH);
const points = batches * BATCH;

let tables = 0;

/** @returns points a second */
async function measure(server: PostgresServer, open: Open): Promise<number> {
  const table = `points_${++tables}`;
  const writer = await open(server.dsn, table);
  await writer.write(batchFrom(0));
  const all = Array.from({ length: batches }, (_, index) => batchFrom((index + 1) * BATCH));
  await server.query("CHECKPOINT");
  const began = performance.now();
  for (const batch of all) await writer.write(batch);
  const tookMs = performance.now() - began;
  await writer.end();
  const [found] = await server.query<{ count: number; dimensions: number }>(
    `SELECT count(*)::int, sum(vector_dims(vector))::int AS dimensions FROM ${table}`,
  );
  if (found?.count !== points + BATCH || found.dimensions !== found.count * DIMENSIONS) {
    throw new Error(`${open.name} has stored ${found?.count} points, not ${points + BATCH}`);
  }
  await server.query(`DROP TABLE ${table}`);
  return points / tookMs * 1000;
}

async function run(server: PostgresServer): Promise<void> {
  await server.query("CREATE EXTENSION vector");
  const by = (open: Open) => () => measure(server, open);
  const found = await inTurns(Number(values.rounds), {
    upsert_many: by(upsertMany),
    apply: by(apply),
    row_by_row: by(rowByRow),
    copy_merge: by(copyMerge),
  });
  print({
    ...machine(),
    points,
    dimensions: DIMENSIONS,
    pgvector_vs_row_by_row: rounded(ratio(found.upsert_many, found.row_by_row)),
    pgvector_vs_copy_merge: rounded(ratio(found.upsert_many, found.copy_merge)),
    apply_vs_row_by_row: rounded(ratio(found.apply, found.row_by_row)),
    apply_vs_copy_merge: rounded(ratio(found.apply, found.copy_merge)),
    ...Object.fromEntries(
      Object.entries(found).map(([name, speeds]) => [
        `${name}_points_per_s`,
        Math.round(median(speeds)),
      ]),
    ),
  }, values.json);
}

const server = await startNativePgvector({ lifetimeMs: 300_000 }).catch((error: Error) => error);
if (server instanceof Error) {
  console.error(server.message);
  process.exitCode = 1;
} else {
  try {
    await run(server);
  } finally {
    await server.stop("immediate");
  }
}
