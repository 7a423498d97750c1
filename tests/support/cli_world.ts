/** What the commands with a configuration file work with: a table, a model, stores, and a folder for files. */

import { assert, assertEquals } from "@std/assert";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { type CliOptions, type CliResult, pgstream } from "./cli.ts";
import { type OpenAiServer, startOpenAi } from "./servers/open_ai.ts";
import { startNativePgvector } from "./servers/native_pgvector.ts";
import { type PgvectorServer, startPgvector } from "./servers/pgvector.ts";
import { type QdrantServer, startQdrant } from "./servers/qdrant.ts";
import { type TestPostgres, testPostgres } from "./servers/test_postgres.ts";
import { until } from "./streams.ts";

/** What the model asks for. */
export const API_KEY = "sk-canary-4711";
/** What Qdrant asks for. */
export const QDRANT_KEY = "qdrant-canary-4712";

/** Made by `open`, and left with `close`. */
export class CliWorld implements AsyncDisposable {
  /** With the table `documents`: id, title, body, views; 20 rows. */
  readonly db: TestPostgres;
  readonly store: Pick<PgvectorServer, "dsn"> & { stop(): Promise<unknown> };
  readonly qdrant: QdrantServer;
  readonly openAi: OpenAiServer;
  /** A session in the store. */
  readonly vectors: postgres.Sql;
  /** Where commands run. */
  readonly folder: string;

  private constructor(
    parts: Pick<CliWorld, "db" | "store" | "qdrant" | "openAi" | "folder">,
  ) {
    this.db = parts.db;
    this.store = parts.store;
    this.qdrant = parts.qdrant;
    this.openAi = parts.openAi;
    this.folder = parts.folder;
    this.vectors = postgres(parts.store.dsn, { max: 1, onnotice: () => {} });
  }

  static async open(): Promise<CliWorld> {
    const db = await testPostgres();
    await db.query(
      `CREATE TABLE documents (id int PRIMARY KEY, title text NOT NULL, body text, views int DEFAULT 0);
      INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n`,
    );
    return new CliWorld({
      db,
      // Where it can be had, one with a backend for each session: commands, and who looks at what they did, are several.
      store: await startNativePgvector().catch(() => startPgvector()),
      qdrant: await startQdrant({ apiKey: QDRANT_KEY, applyDelayMs: 0 }),
      openAi: await startOpenAi({ apiKey: API_KEY }),
      folder: await mkdtemp(join(tmpdir(), "pgstream-cli-")),
    });
  }

  /** Variables as a user has them: secrets are in no file. */
  options(env: Record<string, string> = {}): CliOptions & { env: Record<string, string> } {
    return {
      cwd: this.folder,
      env: {
        DATABASE_URL: this.db.dsn,
        // PGlite has one backend, in which statements of several connections meet.
        VECTORS_URL: `${this.store.dsn}?max=1`,
        MODEL_KEY: API_KEY,
        QDRANT_API_KEY: QDRANT_KEY,
        ...env,
      },
    };
  }

  /** Runs a command to its end, which is to be this one. @returns what it printed */
  async run(
    args: readonly string[],
    { status = 0, env }: { status?: number; env?: Record<string, string> } = {},
  ): Promise<string> {
    return ended(await pgstream(args, this.options(env)), status).stdout;
  }

  /** Writes a file. @returns its name */
  async write(name: string, config: unknown): Promise<string> {
    const text = typeof config === "string" ? config : JSON.stringify(config);
    await writeFile(join(this.folder, name), text);
    return name;
  }

  /** For the table `documents`, into a table, and by a slot, of its own. */
  config(table: string, more: Record<string, unknown> = {}): Record<string, unknown> {
    return {
      slotName: `cli_${table}`,
      tables: { documents: { text: "{{title}}\n\n{{body}}", payload: ["id", "title"] } },
      embedder: { url: this.openAi.url, model: "small", apiKey: "${MODEL_KEY}" },
      sink: { type: "pgvector", dsn: "${VECTORS_URL}", table, dimensions: 4 },
      ...more,
    };
  }

  /** The same, into Qdrant: for several commands at once. */
  qdrantConfig(name: string): Record<string, unknown> {
    const { url } = this.qdrant;
    return this.config(name, {
      sink: { type: "qdrant", url, collectionName: name, dimensions: 4 },
    });
  }

  /** Vectors in a table of the store. Not to be asked for while somebody writes: PGlite has one backend for all. */
  async count(table: string): Promise<number> {
    const [row] = await this.vectors.unsafe(`SELECT count(*)::int AS count FROM ${table}`);
    return row!.count;
  }

  /** Waits until a stream has stored all rows that were there, and all that is committed by now. */
  async stored(
    slotName: string,
    db: { query<Row extends object>(sql: string): Promise<Row[]> } = this.db,
  ): Promise<void> {
    const filled = async () => {
      const [row] = await db.query<{ there: boolean }>(
        "SELECT to_regclass('pgstream.state') IS NOT NULL AS there",
      );
      if (!row!.there) return false;
      const [state] = await db.query<{ value: string }>(
        `SELECT value FROM pgstream.state WHERE key = 'slot/${slotName}'`,
      );
      const tables: { done: boolean }[] = Object.values(
        JSON.parse(state?.value ?? "{}").tables ?? {},
      );
      return tables.length > 0 && tables.every(({ done }) => done);
    };
    await until("the rows that were there", filled, 30_000);
    const [now] = await db.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
    await until("what was committed", async () => {
      const [row] = await db.query<{ past: boolean }>(
        `SELECT confirmed_flush_lsn >= '${now!.lsn}' AS past
        FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
      );
      return row?.past;
    }, 30_000);
  }

  async close(): Promise<void> {
    await this.vectors.end({ timeout: 1 });
    await this.openAi[Symbol.asyncDispose]();
    await this.qdrant.close();
    await this.store.stop();
    await this.db.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Looks at how a command ended: with this status, no trace of the code, and no secret. */
export function ended(result: CliResult, wanted = 0): CliResult {
  const { status, stdout, stderr } = result;
  const said = `${stdout}\n${stderr}`;
  assertEquals(status, wanted, said);
  assert(!/^\s+at .*:\d+/m.test(said), said);
  for (const secret of [API_KEY, QDRANT_KEY, ":postgres@", "canary"]) {
    assert(!said.includes(secret), `${secret} in: ${said}`);
  }
  return result;
}
