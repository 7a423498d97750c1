/** Rows in a real pgvector: what every row sink does, and what only this one has. */

import { after, afterEach, describe, test } from "node:test";
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertFalse,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import postgres from "postgres";
import {
  type CreateTableOptions,
  PgVectorSink,
  type PgVectorSinkOptions,
} from "../../src/sinks/pgvector.ts";
import { rowPointId } from "../../src/sinks/rows.ts";
import { SinkError } from "../../src/sinks/sink.ts";
import { parseSparseVector, parseVector } from "../../src/values/vector.ts";
import { assertRows, at, row, SYSTEM, vectorOf } from "../contract/row_sink/rows.ts";
import { rowSinkContract, type RowSinkUnderTest } from "../contract/row_sink_contract.ts";
import { startPgvector } from "../support/servers/pgvector.ts";

// Here and not in a hook: a database in WebAssembly takes its time to start on a busy machine, and
// Bun gives a hook 5 s.
const server = await startPgvector();
const sql = postgres(server.dsn, { onnotice: () => {} });

after(async () => {
  await sql.end();
  await server.stop();
});

function readStored(text: string): number[] {
  if (text.startsWith("[")) return [...parseVector(text)];
  const { dimensions, indices, values } = parseSparseVector(text);
  const vector = Array.from({ length: dimensions }, () => 0);
  for (const [place, index] of indices.entries()) vector[index] = values[place]!;
  return vector;
}

/** A store in a table of its own. */
async function openStore(
  table: string,
  createTable: CreateTableOptions,
): Promise<RowSinkUnderTest & { sink: PgVectorSink }> {
  const open = () => new PgVectorSink({ dsn: server.dsn, table, createTable });
  const sink = open();
  await sink.prepareRows();
  return {
    sink,
    async read(id) {
      const [row] = await sql.unsafe(
        `select vector::text, payload from "${table}" where id = $1`,
        [id],
      );
      return row === undefined ? null : { vector: readStored(row.vector), payload: row.payload };
    },
    async count() {
      return Number((await sql.unsafe(`select count(*) from "${table}"`))[0]!.count);
    },
    reopen: () => Promise.resolve(open()),
    release: () => sink.close(),
  };
}

for (const type of ["vector", "halfvec", "sparsevec"] as const) {
  rowSinkContract(`PgVectorSink, ${type}`, () => openStore(`of ${type}`, { dimensions: 3, type }), {
    members: [
      "prepareRows",
      "apply",
      "position",
      "fingerprints",
      "vectors",
      "scan",
      "deleteTable",
      "otherModel",
      "filled",
      "location",
      "search",
    ],
    atomic: true,
  });
}

describe("rows in pgvector", () => {
  const sinks: PgVectorSink[] = [];
  // After each: the server takes 20 connections.
  afterEach(async () => {
    for (const sink of sinks.splice(0)) await sink.close();
  });

  function makeSink(options: Partial<PgVectorSinkOptions>): PgVectorSink {
    const sink = new PgVectorSink({
      ...(options.sql === undefined ? { dsn: server.dsn } : {}),
      ...options,
    });
    sinks.push(sink);
    return sink;
  }
  const indexesOf = async (table: string) =>
    [...await sql`select indexdef from pg_indexes where tablename = ${table}`]
      .map(({ indexdef }) => indexdef.replace(/^.* USING /, "")).sort();
  const statementsOf = (error: SinkError) => error.hint!.replace(/^.*?run[^:]*: /i, "");
  const createTable = { dimensions: 3 };
  const position = {
    systemId: SYSTEM,
    timeline: 1,
    slotName: "slot",
    endLsn: "0/10",
    commitLsn: null,
    ordinal: null,
  };

  test("a table from before there were rows gets their columns, and keeps its points", async () => {
    const plain = makeSink({ table: "older", createTable });
    await plain.upsert({ id: "plain", vector: [1, 2, 3], payload: { a: 1 } });
    const sink = makeSink({ table: "older", createTable });
    await sink.prepareRows();
    await sink.apply([row("public.t", "1", at("0/1"), ["a"])], null);
    // By a sink that looked at the table before it had them, and by one that looks now.
    await plain.upsert({ id: "plain", vector: [4, 5, 6] });
    await sink.upsert({ id: "new", vector: [1, 2, 3] });
    const stored = await sql`select id, vector::text, source_key, chunk from older order by id`;
    assertEquals(
      [...stored],
      [
        { id: rowPointId("public.t", "1", 0), vector: "[112,97,1]", source_key: "1", chunk: 0 },
        { id: "new", vector: "[1,2,3]", source_key: null, chunk: null },
        { id: "plain", vector: "[4,5,6]", source_key: null, chunk: null },
      ].map((expected) =>
        expected.source_key === null
          ? expected
          : { ...expected, vector: `[${vectorOf("a").join(",")}]` }
      ),
    );
  });

  test("sinks that prepare one table at once make everything once", async () => {
    const prepared = [1, 2, 3, 4].map(() => makeSink({ table: "raced rows", createTable }));
    await Promise.all(prepared.map((sink) => sink.prepareRows()));
    assertEquals(await indexesOf("raced rows"), [
      "btree (id)",
      "btree (source_table, model)",
      "btree (source_table, source_key, chunk)",
    ]);
  });

  test("without createTable the error has the statements that make the table right", async () => {
    for (
      const before of [
        "",
        "create table by_hand (id text primary key, vector vector(3), payload jsonb)",
      ]
    ) {
      await sql.unsafe(`drop table if exists by_hand; ${before}`);
      const error = await assertRejects(
        () => makeSink({ table: "by_hand" }).prepareRows(),
        SinkError,
      );
      assertEquals(error.kind, before === "" ? "sink-table-missing" : "sink-table-shape");
      assertStringIncludes(error.message, "public.by_hand");
      await sql.unsafe(statementsOf(error).replace("vector(384)", "vector(3)"));
      const sink = makeSink({ table: "by_hand" });
      await sink.prepareRows();
      const written = row("public.t", "1", at("0/1"), ["a", "b"]);
      await sink.apply([written], position);
      assertEquals((await sink.fingerprints(written.points.map(({ id }) => id))).size, 2);
    }
  });

  test("each column and index that a table lacks is missed", async () => {
    const sink = makeSink({ table: "lacking", createTable });
    await sink.prepareRows();
    const indexes = await sql`select indexname from pg_indexes where tablename = 'lacking'
      and indexdef like '%source_table%'`;
    for (
      const [statement, missed] of [
        ["alter table lacking drop column source_position", "source_position"],
        ["alter table lacking drop column fingerprint", "fingerprint"],
        ...indexes.map(({ indexname }) => [`drop index "${indexname}"`, "create index on"]),
      ]
    ) {
      await sql.begin(async (session) => {
        await session.unsafe(statement!);
        const checked = new PgVectorSink({ sql: session, table: "lacking" });
        const error = await assertRejects(() => checked.prepareRows(), SinkError);
        assertStringIncludes(statementsOf(error), missed!);
        await session.unsafe(statementsOf(error));
        await new PgVectorSink({ sql: session, table: "lacking" }).prepareRows();
      });
    }
  });

  test("a role that may not create writes to what is there, and is told what is not", async () => {
    await makeSink({ table: "granted_rows", createTable }).prepareRows();
    await makeSink({ table: "refused_rows", createTable }).upsert({ id: "1", vector: [1, 2, 3] });
    await sql.unsafe(`create role row_writer; grant select, insert, update, delete
      on granted_rows, refused_rows, pgstream_positions to row_writer`);
    const asWriter = (work: (session: postgres.TransactionSql) => Promise<void>) =>
      sql.begin(async (session) => {
        await session.unsafe("set local role row_writer");
        await work(session);
      });
    await asWriter(async (session) => {
      const sink = new PgVectorSink({ sql: session, table: "granted_rows", createTable });
      await sink.prepareRows();
      await sink.apply([row("public.t", "1", at("0/1"), ["a"])], position);
      assertEquals((await sink.position({ systemId: SYSTEM, slotName: "slot" }))?.endLsn, "0/10");
    });
    let error: unknown;
    await asWriter(async (session) => {
      const sink = new PgVectorSink({ sql: session, table: "refused_rows", createTable });
      await sink.prepareRows().catch((refusal) => {
        error = refusal;
        throw refusal;
      });
    }).catch(() => {});
    assert(error instanceof SinkError);
    assertEquals([error.kind, error.code], ["sink-unauthorized", "42501"]);
    await sql.unsafe(statementsOf(error));
    await makeSink({ table: "refused_rows" }).prepareRows();
  });

  test("a table of another type or dimension than was asked for is refused", async () => {
    await makeSink({ table: "typed", createTable }).prepareRows();
    const other = makeSink({ table: "typed", createTable: { dimensions: 3, type: "halfvec" } });
    const error = await assertRejects(() => other.prepareRows(), SinkError);
    assertEquals(error.kind, "sink-table-shape");
    const larger = makeSink({ table: "typed", createTable: { dimensions: 4 } });
    const refusal = await assertRejects(() => larger.prepareRows(), SinkError);
    assertEquals([refusal.kind, refusal.expected, refusal.got], ["sink-dimension", 3, 4]);
    await sql.unsafe(statementsOf(error));
    await makeSink({ table: "typed", createTable: { dimensions: 3, type: "halfvec" } })
      .prepareRows();
  });

  test("several sinks in one database keep positions of their own", async () => {
    const [one, two] = ["one", "two"].map((table) => makeSink({ table, createTable }));
    await one!.apply([], { ...position, endLsn: "0/20" });
    await two!.apply([], position);
    const source = { systemId: SYSTEM, slotName: "slot" };
    assertEquals((await one!.position(source))?.endLsn, "0/20");
    assertEquals((await two!.position(source))?.endLsn, "0/10");
  });

  test("what a text of Postgres cannot hold is refused as such, and nothing is written", async () => {
    const store = await openStore("row_texts", createTable);
    const good = row("public.t", "good", at("0/1"), ["a"]);
    const source = { systemId: SYSTEM, slotName: "texts" };
    for (
      const [kind, bad] of [
        ["sink-payload", row("public.t", "1", at("0/1"), ["a"], { payload: { x: "s3cret\0" } })],
        [
          "sink-payload",
          row("public.t", "1", at("0/1"), ["a"], { payload: { x: "s3cret\ud83d" } }),
        ],
        ["sink-id", row("public.t", "s3cret\0", at("0/1"), ["a"])],
        ["sink-id", row("public.s3cret\0", "1", at("0/1"), ["a"])],
        ["sink-id", row("public.t", "1", at("0/1"), [], { model: "s3cret\0" })],
      ] as const
    ) {
      const error = await assertRejects(
        () => store.sink.apply([good, bad], { ...position, ...source }),
        SinkError,
      );
      assertEquals([error.kind, error.retryable], [kind, false]);
      assertFalse(`${error.message}${error.cause}`.includes("s3cret"));
      assertEquals(await store.count(), 0);
      assertEquals(await store.sink.position(source), null);
    }
    await store.release();
  });

  test("a vector that is to be kept, and is gone or another, is missed: nothing is written", async () => {
    const store = await openStore("gone", createTable);
    const first = row("public.t", "1", at("0/1"), ["a", "b"]);
    await store.sink.apply([first], null);
    const known = (texts: string[]) =>
      row("public.t", "1", at("0/2"), texts, { known: texts, payload: { v: 2 } });
    for (const texts of [["a", "other"], ["a", "b", "c"]]) {
      const error = await assertRejects(
        () => store.sink.apply([row("public.t", "2", at("0/2"), ["n"]), known(texts)], null),
        SinkError,
      );
      assertEquals([error.kind, error.retryable], ["sink-unconfirmed", true]);
      await assertRows(store, first, row("public.t", "2", at("0/2"), []));
    }
    await store.release();
  });

  test("rows of more than 4 MB are in several statements and one transaction", async () => {
    const store = await openStore("large rows", createTable);
    const big = (key: string) =>
      row("public.t", key, at("0/1"), ["a", "b"], { payload: { x: "x".repeat(900_000) } });
    const rows = ["1", "2", "3", "4", "5"].map(big);
    await store.sink.apply(rows, null);
    assertEquals(await store.count(), 10);
    const later = rows.map(({ key }) => row("public.t", key, at("0/2"), ["c"]));
    const bad = { ...big("6"), points: [{ ...big("6").points[0]!, vector: [1] }] };
    const rejected = [...["1", "2", "3", "4", "5"].map(big), bad];
    const error = await assertRejects(() => store.sink.apply(rejected, position), SinkError);
    assertEquals(error.kind, "sink-dimension");
    await store.sink.apply(later, null);
    await assertRows(store, ...later);
    assertEquals(await store.count(), 5);
    await store.release();
  });

  test("a row of more points than a statement takes vectors for has them all, and no other one loses any", async () => {
    const store = await openStore("many points", createTable);
    const texts = Array.from({ length: 1030 }, (_, at) => `${at}`);
    const rows = [
      row("public.t", "1", at("0/1"), ["a", "b"]),
      row("public.t", "2", at("0/1"), texts),
      row("public.t", "3", at("0/1"), ["c"]),
    ];
    await store.sink.apply(rows, null);
    await assertRows(store, ...rows);
    const known = row("public.t", "2", at("0/2"), texts, { known: texts, payload: { v: 2 } });
    await store.sink.apply([known], null);
    await assertRows(store, rows[0]!, known, rows[2]!);
    const few = row("public.t", "2", at("0/3"), ["0"]);
    await store.sink.apply([few], null);
    await assertRows(store, rows[0]!, few, rows[2]!);
    await store.release();
  });

  test("rows in a transaction of one's own are undone with it", async () => {
    const store = await openStore("undone rows", createTable);
    await assertRejects(
      () =>
        sql.begin(async (transaction) => {
          const sink = new PgVectorSink({ sql: transaction, table: "undone rows" });
          await sink.apply([row("public.t", "1", at("0/1"), ["a"])], position);
          assertEquals((await sink.scan("public.t", { after: null, limit: 9 })).points.length, 1);
          throw new Error("undo");
        }),
      Error,
      "undo",
    );
    assertEquals(await store.count(), 0);
    await store.release();
  });

  test("points of a sparse table are stored and found by plain methods too", async () => {
    const sink = makeSink({ table: "sparse", createTable: { dimensions: 5, type: "sparsevec" } });
    await sink.upsertMany([
      { id: "a", vector: Float32Array.of(0, 0.1, 0, 0, 2) },
      { id: "b", vector: [0, 0, 1, 1e-60, 0] },
    ]);
    const stored = await sql`select vector::text from sparse order by id`;
    assertEquals(stored.map(({ vector }) => vector), ["{2:0.1,5:2}/5", "{3:1}/5"]);
    assertEquals((await sink.search([0, 0, 1, 0, 0], { limit: 1 }))[0]?.id, "b");
    const error = await assertRejects(() => sink.upsert({ id: "c", vector: [1, 2] }), SinkError);
    assertEquals([error.kind, error.expected, error.got], ["sink-dimension", 5, 2]);
  });

  test("the index is made once, as it was asked for; one that failed is made anew", async () => {
    const index = { type: "hnsw", distance: "l2", m: 8, efConstruction: 32 } as const;
    const sink = makeSink({ table: "indexed", createTable: { dimensions: 3, index } });
    await sink.prepareRows();
    const isHnsw = (index: string) => index.startsWith("hnsw");
    assertEquals((await indexesOf("indexed")).filter(isHnsw), []);
    const made = ["hnsw (vector vector_l2_ops) WITH (m='8', ef_construction='32')"];
    await sink.filled("public.t");
    await sink.filled("public.u");
    assertEquals((await indexesOf("indexed")).filter(isHnsw), made);
    await sql.unsafe(`update pg_index set indisvalid = false where indrelid = 'indexed'::regclass
      and indexrelid::regclass::text like '%vector%'`);
    await sink.createIndex();
    assertEquals((await indexesOf("indexed")).filter(isHnsw), made);
    const invalid = await sql`select 1 from pg_index where not indisvalid`;
    assertEquals(invalid.length, 0);
    await sql.begin(async (transaction) => {
      await new PgVectorSink({ sql: transaction, table: "indexed" }).createIndex();
    });
    assertEquals((await indexesOf("indexed")).filter(isHnsw).length, 2);
  });

  test("filled() makes no index that was not asked for", async () => {
    const sink = makeSink({ table: "bare", createTable });
    await sink.prepareRows();
    await sink.filled("public.t");
    assertFalse((await indexesOf("bare")).some((index) => index.startsWith("hnsw")));
  });

  test("the score is greater for nearer, whatever the distance", async () => {
    const expected = { cosine: [1, 0.6], l2: [0, -Math.sqrt(20)], ip: [25, 15] };
    for (const distance of ["cosine", "l2", "ip"] as const) {
      const sink = makeSink({
        table: `by ${distance}`,
        createTable: { dimensions: 2, index: { type: "hnsw", distance } },
      });
      await sink.upsertMany([{ id: "far", vector: [5, 0] }, { id: "near", vector: [3, 4] }]);
      await sink.createIndex();
      const hits = await sink.search([3, 4]);
      assertEquals(hits.map(({ id }) => id), ["near", "far"]);
      for (const [place, score] of expected[distance].entries()) {
        assertAlmostEquals(hits[place]!.score, score, 1e-6);
      }
    }
  });

  test("with an index, too, a search gives as many points as there are", async () => {
    const sink = makeSink({ table: "many", createTable: { dimensions: 2, index: "hnsw" } });
    await sink.upsertMany(Array.from({ length: 3000 }, (_, index) => ({
      id: index,
      vector: [Math.cos(index / 2000), Math.sin(index / 2000)],
      payload: { last: index >= 2980 },
    })));
    await sink.createIndex();
    await sql.unsafe("analyze many");
    assertEquals((await sink.search([1, 0], { limit: 100 })).length, 100);
    const hits = await sink.search([1, 0], { limit: 20, filter: { last: true } });
    assertEquals(hits.length, 20);
    const rows = Array.from(
      { length: 5 },
      (_, key) => row("public.t", String(key), at("0/1"), ["t"]),
    );
    const points = rows.map(({ points }) => ({ ...points[0]!, vector: [0, 1] }));
    await sink.apply(rows.map((row, key) => ({ ...row, points: [points[key]!] })), null);
    assertEquals((await sink.search([1, 0], { table: "public.t" })).length, 5);
    // By another process, which did not make the index.
    const other = makeSink({ table: "many" });
    assertEquals((await other.search([1, 0], { limit: 100 })).length, 100);
  });

  test("the sink says where it is", async () => {
    const [system] = await sql`select system_identifier::text as id from pg_control_system()`;
    const sink = makeSink({ table: '"We.ird"', createTable });
    assertEquals(await sink.location(), {
      systemId: system!.id,
      database: "postgres",
      tables: ['public."We.ird"', "public.pgstream_positions"],
    });
    await sql.begin(async (session) => {
      await session.unsafe("revoke execute on function pg_control_system() from public");
      await session.unsafe("create role nobody_asks; set local role nobody_asks");
      assertEquals((await new PgVectorSink({ sql: session }).location()).systemId, null);
    });
  });
});
