/** Where the demo reads from and writes to: servers of its own, or those that it is pointed to. */

import process from "node:process";
import { PgStreamError, type Sink } from "@pgstream/pgstream";
import { PgVectorSink } from "@pgstream/pgstream/pgvector";
import { QdrantSink } from "@pgstream/pgstream/qdrant";
import { QdrantClient } from "@qdrant/js-client-rest";
import postgres from "postgres";
import { parseQdrantUrl } from "../../src/sinks/qdrant_url.ts";
import { startPgvector } from "../../tests/support/servers/pgvector.ts";
import { startPostgres } from "../../tests/support/servers/postgres.ts";

/** The name of all that the demo makes on somebody's server. */
const NAME = "pgstream_demo";
const A_DAY_MS = 24 * 3600_000;

/** The database whose table is watched. */
export interface Source {
  /** Name and version, for people. */
  name: string;
  dsn: string;
  /** Where it is, with no password. */
  place: string;
  /** The watched table. */
  table: string;
  slotName: string;
  sql: postgres.Sql;
  /** Drops the table and ends the connection; stops a server of ours. */
  close(): Promise<void>;
}

/** Where the vectors are. */
export interface Store {
  name: string;
  place: string;
  sink: Sink;
  /** Removes what was stored and ends the connection; stops a server of ours. */
  close(): Promise<void>;
}

/** Starts a PostgreSQL, or connects to the one of `dsn`, and creates the table. */
export async function openSource(dsn: string | undefined): Promise<Source> {
  const server = dsn === undefined ? await startPostgres({ lifetimeMs: A_DAY_MS }) : null;
  const sql = connect("--dsn", server?.dsn ?? dsn!);
  const table = server === null ? `${NAME}_documents` : "documents";
  try {
    const [row] = await sql`SELECT current_setting('server_version') AS version`;
    await sql`DROP TABLE IF EXISTS ${sql(table)}`;
    await sql`CREATE TABLE ${sql(table)} (
      id text PRIMARY KEY, content text NOT NULL, edited_by text NOT NULL DEFAULT 'staff')`;
    return {
      name: `PostgreSQL ${(row!.version as string).split(" ")[0]}`,
      place: placeOf(sql),
      dsn: server?.dsn ?? dsn!,
      table,
      slotName: NAME,
      sql,
      async close() {
        if (server === null) await sql`DROP TABLE ${sql(table)}`;
        await sql.end({ timeout: 2 });
        await server?.stop();
      },
    };
  } catch (error) {
    await sql.end({ timeout: 2 });
    await server?.stop();
    throw cannotUse("--dsn", error);
  }
}

/** Starts a pgvector, or takes the one, or the Qdrant, that it is pointed to. */
export async function openStore(
  { pgvectorDsn, qdrantUrl }: { pgvectorDsn: string | undefined; qdrantUrl: string | undefined },
  dimensions: number,
): Promise<Store> {
  return qdrantUrl === undefined
    ? await openPgvector(pgvectorDsn, dimensions)
    : await openQdrant(qdrantUrl, dimensions);
}

async function openPgvector(dsn: string | undefined, dimensions: number): Promise<Store> {
  const server = dsn === undefined ? await startPgvector() : null;
  const sql = connect("--pgvector-dsn", server?.dsn ?? dsn!);
  // With a schema of its own there is one thing to remove.
  const removed = () => sql`DROP SCHEMA IF EXISTS ${sql(NAME)} CASCADE`;
  try {
    await sql`CREATE EXTENSION IF NOT EXISTS vector`;
    const [row] = await sql`SELECT extversion FROM pg_extension WHERE extname = 'vector'`;
    await removed();
    await sql`CREATE SCHEMA ${sql(NAME)}`;
    return {
      name: `pgvector ${row!.extversion}`,
      place: `${placeOf(sql)}${server === null ? "" : " (PGlite, in this process)"}`,
      sink: new PgVectorSink({ sql, table: `${NAME}.embeddings`, createTable: { dimensions } }),
      async close() {
        await removed();
        await sql.end({ timeout: 2 });
        await server?.stop();
      },
    };
  } catch (error) {
    await sql.end({ timeout: 2 });
    await server?.stop();
    throw cannotUse("--pgvector-dsn", error);
  }
}

async function openQdrant(url: string, dimensions: number): Promise<Store> {
  const key = process.env.QDRANT_API_KEY;
  const apiKey = key === undefined ? {} : { apiKey: key };
  const sink = new QdrantSink({
    url,
    ...apiKey,
    collectionName: NAME,
    createCollection: { size: dimensions, distance: "Cosine" },
  });
  const client = new QdrantClient({ ...parseQdrantUrl(url), ...apiKey, checkCompatibility: false });
  async function close(): Promise<void> {
    await client.deleteCollection(NAME);
  }
  await close().catch((error) => {
    throw cannotUse("--qdrant-url", error);
  });
  return { name: "Qdrant", place: new URL(url).host, sink, close };
}

function connect(option: string, dsn: string): postgres.Sql {
  try {
    return postgres(dsn, { max: 1, connect_timeout: 10, onnotice: () => {} });
  } catch {
    // What a URL parser throws repeats its input, password included.
    throw new PgStreamError(`Cannot read ${option}`, {
      kind: "demo",
      hint: "Write it as postgresql://user:password@host:5432/database",
    });
  }
}

function cannotUse(option: string, error: unknown): PgStreamError {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  return new PgStreamError(`Cannot use the server of ${option}: ${(first as Error).message}`, {
    kind: "demo",
    hint:
      "Is it running, is what it needs installed, and is the address right? Without this option the demo starts " +
      "a server of its own",
    cause: error,
  });
}

function placeOf(sql: postgres.Sql): string {
  const { host, port, database } = sql.options;
  return `${host[0]}:${port[0]}/${database}`;
}
