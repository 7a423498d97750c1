import { execFile } from "node:child_process";
import process from "node:process";
import { after, afterEach, describe, test } from "node:test";
import { promisify } from "node:util";
import {
  assert,
  assertEquals,
  assertFalse,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import postgres from "postgres";
import { PgVectorSink, type PgVectorSinkOptions } from "../../src/sinks/pgvector.ts";
import { SinkError } from "../../src/sinks/sink.ts";
import { parseVector } from "../../src/values/vector.ts";
import { sinkContract, type SinkUnderTest } from "../contract/sink_contract.ts";
import { startPgvector } from "../support/servers/pgvector.ts";
import { TcpProxy } from "../support/tcp_proxy.ts";

// Here and not in a hook: a database in WebAssembly takes its time to start on a busy machine, and
// Bun gives a hook 5 s.
const server = await startPgvector();
const sql = postgres(server.dsn, { onnotice: () => {} });

after(async () => {
  await sql.end();
  await server.stop();
});

sinkContract("PgVectorSink", async (): Promise<SinkUnderTest> => {
  const sink = new PgVectorSink({ dsn: server.dsn, createTable: { dimensions: 3 } });
  await sink.delete("makes the table");
  return {
    sink,
    async read(id) {
      const [row] = await sql`select vector::text, payload from embeddings where id = ${id}`;
      return row === undefined
        ? null
        : { vector: [...parseVector(row.vector)], payload: row.payload };
    },
    async count() {
      return Number((await sql`select count(*) from embeddings`)[0]!.count);
    },
    release: () => sink.close(),
  };
});

describe("PgVectorSink", () => {
  const sinks: PgVectorSink[] = [];
  // After each: the server takes 20 connections.
  afterEach(async () => {
    for (const sink of sinks.splice(0)) await sink.close();
  });

  function makeSink(options: Partial<PgVectorSinkOptions>): PgVectorSink {
    const sink = new PgVectorSink({ dsn: server.dsn, ...options });
    sinks.push(sink);
    return sink;
  }
  async function refusal(act: () => Promise<unknown>): Promise<SinkError> {
    return await assertRejects(act, SinkError);
  }
  const point = { id: "1", vector: [1, 2, 3], payload: { secret: "s3cret" } };

  test("a missing table is named, with the statement that makes it", async () => {
    const error = await refusal(() => makeSink({ table: "app.nowhere" }).upsert(point));
    assertEquals([error.kind, error.code, error.retryable], ["sink-table-missing", "42P01", false]);
    assertStringIncludes(error.message, "app.nowhere");
    assertStringIncludes(error.hint!, "CREATE TABLE app.nowhere");
  });

  test("two sinks that make one table at once both succeed, and again later", async () => {
    const options = { table: "raced", createTable: { dimensions: 3 } };
    await Promise.all([1, 2, 3].map((id) => makeSink(options).upsert({ ...point, id })));
    await makeSink(options).upsert({ ...point, id: 4 });
    assertEquals((await sql`select count(*)::int as n from raced`)[0]!.n, 4);
  });

  test("a table that is there needs no right to create anything", async () => {
    await makeSink({ table: "granted", createTable: { dimensions: 3 } }).upsert(point);
    await sql.unsafe(
      "create role writer login; grant select, insert, update, delete on granted to writer",
    );
    // One session plays the writer, so that the test needs no second way to log in.
    await sql.begin(async (session) => {
      await session.unsafe("set local role writer");
      const sink = new PgVectorSink({
        sql: session,
        table: "granted",
        createTable: { dimensions: 3 },
      });
      await sink.upsert({ ...point, id: "2" });
      await sink.delete("1");
    });
    assertEquals((await sql`select id from granted`).map(({ id }) => id), ["2"]);
  });

  test("a table of another dimension is refused before anything is written", async () => {
    await makeSink({ table: "small", createTable: { dimensions: 3 } }).upsert(point);
    const sink = makeSink({ table: "small", createTable: { dimensions: 4 } });
    const error = await refusal(() => sink.upsert({ id: "2", vector: [1, 2, 3, 4] }));
    assertEquals([error.kind, error.expected, error.got], ["sink-dimension", 3, 4]);
  });

  test("a table with other columns is named, with what it lacks", async () => {
    await sql.unsafe("create table shapeless (id text primary key, vector text)");
    const error = await refusal(() => makeSink({ table: "shapeless" }).upsert(point));
    assertEquals(error.kind, "sink-table-shape");
    assertStringIncludes(error.message, "payload");
  });

  test("quoted names, with capitals, dots and quotes, are the tables that they name", async () => {
    await sql.unsafe('create schema "We""ird"');
    for (const table of ['"We""ird"."Ta.ble"', "MixedCase", "a table; drop table raced"]) {
      const sink = makeSink({ table, createTable: { dimensions: 3 } });
      await sink.upsert(point);
      assertEquals((await sink.search([1, 2, 3]))[0]!.id, "1");
    }
    assertEquals((await sql`select id from "We""ird"."Ta.ble"`).length, 1);
    assertEquals((await sql`select id from "MixedCase"`).length, 1);
  });

  test("half vectors and ids of another type are written as the table has them", async () => {
    await sql.unsafe(
      "create table halves (id bigint primary key, vector halfvec(3), payload jsonb, note text)",
    );
    const sink = makeSink({ table: "halves" });
    await sink.upsertMany([{ id: 7n, vector: [1, 2, 3] }, { id: "8", vector: [3, 2, 1] }]);
    await sink.delete(8);
    const rows = await sql`select id::text, vector::text from halves`;
    assertEquals([...rows], [{ id: "7", vector: "[1,2,3]" }]);
    const error = await refusal(() => sink.upsert({ ...point, id: "s3cret" }));
    assertEquals([error.kind, error.code], ["sink-rejected", "22P02"]);
    assertFalse(error.message.includes("s3cret"));
  });

  test("more than 4 MB of points go in several statements, all of them", async () => {
    const sink = makeSink({ table: "large", createTable: { dimensions: 2 } });
    const text = "x".repeat(1_500_000);
    const points = [1, 2, 3, 4, 5].map((id) => ({ id, vector: [id, 0], payload: { text } }));
    await sink.upsertMany(points);
    const rows = await sql`select id, length(payload->>'text') as n from large order by id`;
    assertEquals(rows.map(({ id, n }) => [id, n]), points.map(({ id }) => [String(id), 1_500_000]));
  });

  test("what Postgres' text cannot hold is refused as such", async () => {
    const sink = makeSink({ table: "texts", createTable: { dimensions: 3 } });
    for (const text of ["zero \0 byte", "half a pair \ud83d"]) {
      const error = await refusal(() => sink.upsert({ ...point, payload: { text } }));
      assertEquals(error.kind, "sink-payload");
      assertStringIncludes(error.hint!, "payload");
    }
    assertEquals((await refusal(() => sink.upsert({ ...point, id: "a\0b" }))).kind, "sink-id");
  });

  test("a sql of one's own is used as it is, and not closed", async () => {
    const own = postgres(server.dsn, {
      transform: postgres.camel,
      types: { bigint: postgres.BigInt },
      prepare: false,
      onnotice: (notice) => assert(false, String(notice.message)),
    });
    const sink = new PgVectorSink({ sql: own, table: "mine", createTable: { dimensions: 3 } });
    await sink.upsert(point);
    assertEquals((await sink.search([1, 2, 3]))[0]!.payload, point.payload);
    await sink.close();
    assertEquals((await refusal(() => sink.upsert(point))).kind, "sink-closed");
    assertEquals((await own`select 1 as one`)[0]!.one, 1);
    await own.end();
  });

  test("a write in a transaction of one's own is undone with it", async () => {
    await makeSink({ table: "undone", createTable: { dimensions: 3 } }).delete("1");
    await assertRejects(
      () =>
        sql.begin(async (transaction) => {
          await new PgVectorSink({ sql: transaction, table: "undone" }).upsert(point);
          throw new Error("undo");
        }),
      Error,
      "undo",
    );
    assertEquals((await sql`select id from undone`).length, 0);
  });

  test("writes under way when the sink is closed are finished", async () => {
    const sink = makeSink({ table: "closing", createTable: { dimensions: 3 } });
    const writes = Promise.all([1, 2, 3, 4].map((id) => sink.upsert({ ...point, id })));
    await sink.close();
    await writes;
    assertEquals((await sql`select id from closing`).length, 4);
    assertEquals((await refusal(() => sink.upsert(point))).kind, "sink-closed");
  });

  test("a program that closed its sink comes to its end", async () => {
    const script = new URL("../support/pgvector_then_end.ts", import.meta.url).pathname;
    const run = "Deno" in globalThis ? ["run", "--quiet", "-A"] : [];
    const { stdout } = await promisify(execFile)(process.execPath, [...run, script, server.dsn], {
      timeout: 60_000,
    });
    assertStringIncludes(stdout, "written and closed");
    assertEquals((await sql`select id from ended`).map(({ id }) => id), ["1"]);
  });

  test("an extension in a schema off the search_path is written to all the same", async () => {
    const sink = makeSink({ table: "elsewhere", createTable: { dimensions: 3 } });
    await sink.upsert(point);
    await sql.unsafe("create schema extensions; alter extension vector set schema extensions");
    try {
      await sink.upsert({ ...point, id: "2" });
      assertEquals((await sql`select id from elsewhere`).length, 2);
      const error = await refusal(() => sink.search([1, 2, 3]));
      assertEquals(error.kind, "sink-extension-missing");
      assertStringIncludes(error.hint!, "search_path");
    } finally {
      await sql.unsafe("alter extension vector set schema public");
    }
  });

  test("a search with a vector of another dimension names both", async () => {
    const sink = makeSink({ table: "searched", createTable: { dimensions: 3 } });
    await sink.upsert(point);
    const error = await refusal(() => sink.search([1]));
    assertEquals([error.kind, error.expected, error.got], ["sink-dimension", 3, 1]);
  });

  test("a vector of zeroes has the score 0", async () => {
    const sink = makeSink({ table: "zeroes", createTable: { dimensions: 3 } });
    await sink.upsert({ id: "0", vector: [0, 0, 0] });
    assertEquals(await sink.search([1, 2, 3]), [{ id: "0", score: 0, payload: {} }]);
  });

  test("a server that is gone is worth another try, and the sink then finds it again", async () => {
    const gone = makeSink({ dsn: "postgresql://u:canary@127.0.0.1:1/db" });
    const error = await refusal(() => gone.upsert(point));
    assertEquals([error.kind, error.retryable], ["sink-unreachable", true]);
    assertFalse(`${error.message}${error.hint}${error.stack}${error.cause}`.includes("canary"));
  });

  test("a dsn as hosted servers write it is taken as it is", async () => {
    const dsn = `${server.dsn}?sslmode=disable&channel_binding=require&gssencmode=disable` +
      "&keepalives=1&target_session_attrs=any&application_name=hosted";
    const sink = makeSink({ dsn, table: "hosted", createTable: { dimensions: 3 } });
    await sink.upsert(point);
    assertEquals((await sink.search([1, 2, 3]))[0]!.id, "1");
  });

  test("a connection that was cut is worth another try, which makes a new one", async () => {
    const proxy = await TcpProxy.start(server.dsn);
    const sink = makeSink({
      dsn: proxy.through(server.dsn),
      table: "cut",
      createTable: { dimensions: 3 },
    });
    await sink.upsert(point);
    proxy.cut();
    const again = await sink.upsert({ ...point, id: "2" }).catch((error) => error);
    if (again instanceof SinkError) {
      assertEquals([again.kind, again.retryable], ["sink-unreachable", true]);
      await sink.upsert({ ...point, id: "2" });
    }
    assertEquals((await sql`select id from cut`).length, 2);
    await proxy.stop();
  });
});
