/**
 * Rows in a real pgvector with as many sessions as one likes, which PGlite has not: vectors that several write at
 * the same time, and an index that is built meanwhile.
 */

import { after, afterEach, describe, test } from "node:test";
import { assert, assertEquals, assertRejects } from "@std/assert";
import postgres from "postgres";
import {
  type CreateTableOptions,
  PgVectorSink,
  type PgVectorSinkOptions,
} from "../../src/sinks/pgvector.ts";
import type { RowState, RowWrite, StreamPosition } from "../../src/sinks/rows.ts";
import { SinkError } from "../../src/sinks/sink.ts";
import { parseVector } from "../../src/values/vector.ts";
import { at, row, scanAll, statesOf, SYSTEM, vectorOf } from "../contract/row_sink/rows.ts";
import { rowSinkContract, type RowSinkUnderTest } from "../contract/row_sink_contract.ts";
import { startNativePgvector } from "../support/servers/native_pgvector.ts";
import type { PostgresServer } from "../support/servers/postgres.ts";
import { uniqueName, until, within } from "../support/streams.ts";

const TABLE = "public.documents";

const server = await startNativePgvector({ lifetimeMs: 120_000 }).catch((error: Error) => error);
if (server instanceof Error) {
  test("a real pgvector with many sessions", (t) => t.skip(server.message));
} else {
  after(() => server.stop());
  rowSinkContract(
    "PgVectorSink on a native server",
    () => openStore(server, "of the contract", { dimensions: 3 }),
    {
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
    },
  );
  describe("sessions on a native pgvector", () => describeSessions(server));
}

/** A store in a table of its own. */
async function openStore(
  server: PostgresServer,
  table: string,
  createTable: CreateTableOptions,
): Promise<RowSinkUnderTest> {
  const open = () => new PgVectorSink({ dsn: server.dsn, table, createTable });
  const sink = open();
  await sink.prepareRows();
  return {
    sink,
    async read(id) {
      const [row] = await server.query<{ vector: string; payload: Record<string, unknown> }>(
        `SELECT vector::text, payload FROM "${table}" WHERE id = $1`,
        { parameters: [id] },
      );
      return row === undefined ? null : { ...row, vector: [...parseVector(row.vector)] };
    },
    async count() {
      return Number((await server.query(`SELECT count(*) FROM "${table}"`))[0]!.count);
    },
    reopen: () => Promise.resolve(open()),
    release: () => sink.close(),
  };
}

function describeSessions(db: PostgresServer): void {
  const ends: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  function openSink(
    table: string,
    createTable: CreateTableOptions = { dimensions: 3 },
    options: Partial<PgVectorSinkOptions> = { dsn: db.dsn },
  ): PgVectorSink {
    const sink = new PgVectorSink({ table, createTable, ...options });
    ends.push(() => sink.close());
    return sink;
  }

  /** A transaction that is open until it is told to end. */
  async function openTransaction(): Promise<
    { sql: postgres.TransactionSql; commit(): Promise<void> }
  > {
    const client = postgres(db.dsn, { max: 1, onnotice: () => {} });
    ends.push(() => client.end());
    const { promise: told, resolve: tell } = Promise.withResolvers<void>();
    const { promise: begun, resolve: begin } = Promise.withResolvers<postgres.TransactionSql>();
    const ended = client.begin(async (sql) => {
      begin(sql);
      await told;
    });
    const commit = async () => {
      tell();
      await ended;
    };
    ends.push(commit);
    return { sql: await begun, commit };
  }

  const isWaiting = () =>
    until(
      "a session waits for another",
      async () =>
        (await db.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")).length >
          0,
    );

  const indexesOf = (table: string) =>
    db.query<{ definition: string; indisvalid: boolean }>(
      `SELECT pg_get_indexdef(i.indexrelid) AS definition, i.indisvalid FROM pg_index i
       JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
       WHERE a.amname = 'hnsw' AND i.indrelid = '${table}'::regclass`,
    );

  async function assertHas(sink: PgVectorSink, ...rows: RowWrite[]): Promise<void> {
    const byId = (a: RowState, b: RowState) => a.id < b.id ? -1 : 1;
    const wanted = rows.flatMap(statesOf).sort(byId);
    assertEquals((await scanAll(sink, TABLE)).sort(byId), wanted);
    const vectors = await sink.vectors(wanted.map(({ id }) => id));
    for (const { id, payload } of wanted) {
      assertEquals([...vectors.get(id)!.vector], vectorOf(String(payload.text)));
    }
  }

  const position = (endLsn: string): StreamPosition => ({
    systemId: SYSTEM,
    timeline: 1,
    slotName: "slot",
    endLsn,
    commitLsn: null,
    ordinal: null,
  });
  const older = row(TABLE, "1", at("0/1"), ["old", "older", "oldest"], { payload: { v: 1 } });
  const newer = row(TABLE, "1", at("0/2"), ["new"], { payload: { v: 2 } });

  for (
    const [what, first, second] of [
      ["an older write behind a newer one that is not seen yet changes nothing", newer, older],
      ["a newer write behind an older one that is not seen yet leaves nothing of it", older, newer],
    ] as const
  ) {
    test(what, async () => {
      const table = uniqueName("vectors");
      const sink = openSink(table);
      await sink.prepareRows();
      const transaction = await openTransaction();
      await new PgVectorSink({ sql: transaction.sql, table }).apply([first], null);
      const behind = sink.apply([second], null);
      await isWaiting();
      await transaction.commit();
      await within("the second write", behind);
      await assertHas(sink, newer);
    });
  }

  test("many rows, in opposite orders, at the same time: no deadlock, and each has its last state", async () => {
    const table = uniqueName("vectors");
    const keys = Array.from({ length: 300 }, (_, index) => `key ${index}`);
    const write = (key: string, lsn: number) =>
      row(
        TABLE,
        key,
        at(`0/${lsn.toString(16).toUpperCase()}`),
        ["a", "b", "c"].slice(0, lsn % 4),
      );
    const sinks = [0, 1, 2, 3].map(() => openSink(table));
    await Promise.all(sinks.map(async (sink, writer) => {
      const ordered = writer % 2 === 0 ? keys : keys.toReversed();
      for (let round = 1; round <= 10; round++) {
        await sink.apply(
          ordered.map((key) => write(key, round * 4 + writer)),
          writer === 0 ? position(`0/${round}`) : null,
        );
      }
    }));
    await assertHas(sinks[0]!, ...keys.map((key) => write(key, 43)));
  });

  test("the index is built while others write, and has what they wrote", async () => {
    const table = uniqueName("vectors");
    const sink = openSink(table, { dimensions: 3, index: "hnsw" });
    const rows = Array.from(
      { length: 500 },
      (_, key) => row(TABLE, `${key}`, at("0/1"), [`text ${key}`]),
    );
    await sink.apply(rows, null);
    // The index waits for this one, and nobody waits for the index.
    const writer = await openTransaction();
    const uncommitted = row(TABLE, "writer", at("0/2"), ["uncommitted"]);
    await new PgVectorSink({ sql: writer.sql, table }).apply([uncommitted], null);
    let isBuilt = false;
    const built = sink.filled(TABLE).then(() => isBuilt = true);
    await isWaiting();
    const meanwhile = row(TABLE, "meanwhile", at("0/2"), ["meanwhile"]);
    const other = openSink(table);
    await within("a write meanwhile", other.apply([meanwhile], position("0/10")));
    assert(!isBuilt);
    await writer.commit();
    await within("the index", built);
    const [index, ...more] = await indexesOf(table);
    assertEquals([index?.indisvalid, more.length], [true, 0]);
    await db.query("ANALYZE");
    for (const { points: [point] } of [uncommitted, meanwhile, rows[7]!]) {
      const [hit] = await sink.search(point!.vector!, { limit: 1 });
      assertEquals([hit?.id, hit?.score], [point!.id, 1]);
    }
  });

  test("an index whose session was killed is left unfinished, and made anew by the next call", async () => {
    const table = uniqueName("vectors");
    const sink = openSink(table, { dimensions: 3, index: "hnsw" });
    await sink.apply([older], null);
    const writer = await openTransaction();
    await new PgVectorSink({ sql: writer.sql, table }).apply([newer], null);
    const failing = assertRejects(() => sink.filled(TABLE), SinkError);
    await isWaiting();
    await db.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'create index%${table}%'`,
    );
    const error = await within("the index", failing);
    assertEquals([error.kind, error.retryable], ["sink-unreachable", true]);
    await writer.commit();
    assertEquals((await indexesOf(table)).map(({ indisvalid }) => indisvalid), [false]);
    const builders = [sink, openSink(table, { dimensions: 3, index: "hnsw" })];
    await within("the index", builders[0]!.filled(TABLE));
    await within("the index that is there", builders[1]!.filled(TABLE));
    assertEquals((await indexesOf(table)).map(({ indisvalid }) => indisvalid), [true]);
    await assertHas(sink, newer);
  });
}
