/** Each example runs as it stands, on this runtime, in a process of its own, and stops at Ctrl+C. */

import { assertEquals, assertMatch } from "@std/assert";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { startPgvector } from "../support/servers/pgvector.ts";
import { startQdrant } from "../support/servers/qdrant.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { until, within } from "../support/streams.ts";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** On Deno the very line of the example's header, with no more rights than it names. */
function argumentsOf(name: string, given: string[]): string[] {
  const path = join("examples", name);
  if (process.versions.deno === undefined) return [path, ...given];
  const [, flags] = /^ \* .*\bdeno run (.*?) examples\//m.exec(
    readFileSync(join(ROOT, path), "utf8"),
  )!;
  // What it may write is where the test wants it.
  const allowed = flags!.replaceAll('"', "").split(" ").map((flag) =>
    flag.startsWith("--allow-write=") ? `--allow-write=${given[0]}` : flag
  );
  return ["run", "--no-prompt", ...allowed, path, ...given];
}

let source: TestPostgres;

before(async () => {
  source = await testPostgres();
  await source.query("CREATE TABLE documents (id bigint PRIMARY KEY, content text)");
});
after(() => source.stop());

class Example {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown[]>;
  output = "";

  constructor(name: string, environment: Record<string, string> = {}, ...args: string[]) {
    this.#child = spawn(process.execPath, argumentsOf(name, args), {
      cwd: ROOT,
      env: { ...process.env, DATABASE_URL: source.dsn, NO_COLOR: "1", ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#exited = once(this.#child, "exit");
    this.#child.stdout!.on("data", (chunk) => this.output += chunk);
    this.#child.stderr!.on("data", (chunk) => this.output += chunk);
  }

  async says(pattern: RegExp): Promise<void> {
    await until(`${pattern} in: ${this.output}`, () => {
      assertEquals(this.#child.exitCode, null, this.output);
      return pattern.test(this.output);
    }, 30_000);
  }

  /** It must end by itself, with nothing gone wrong. */
  async ends(): Promise<void> {
    const [code, signal] = await within("the example to end", this.#exited, 30_000);
    assertEquals({ code, signal }, { code: 0, signal: null }, this.output);
  }

  /** Ctrl+C; it must end by itself, with nothing gone wrong. */
  async interrupt(): Promise<void> {
    // Not child.kill(): Deno then reports the signal, whatever the child made of it.
    process.kill(this.#child.pid!, "SIGINT");
    await this.ends();
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}

/** Runs an example beside an empty table. */
async function running(example: Example, use: () => Promise<void>): Promise<void> {
  try {
    await source.query("TRUNCATE documents");
    await use();
    await example.interrupt();
  } finally {
    example[Symbol.dispose]();
  }
}

test("basic_watch.ts prints each change", async () => {
  const example = new Example("basic_watch.ts");
  await running(example, async () => {
    await example.says(/waiting for changes/);
    await source.query("INSERT INTO documents VALUES (1, 'first'); DELETE FROM documents");
    await example.says(/insert public\.documents 1 .*first/s);
    await example.says(/delete public\.documents 1/);
  });
});

test("outbox.ts sends what was committed, behind the changes before it, and nothing that was rolled back", async () => {
  const example = new Example("outbox.ts");
  await running(example, async () => {
    await example.says(/waiting for mail/);
    const emit = (document: number) =>
      `SELECT pg_logical_emit_message(true, 'mail', '{"document": ${document}}')`;
    await source.query(`BEGIN; ${emit(0)}; ROLLBACK`);
    await source.query(`INSERT INTO documents VALUES (9007199254740993, 'paid'); ${emit(1)}`);
    await example.says(
      /waiting for mail\ndocument 9007199254740993: paid\nmail [0-9A-F]+\/[0-9A-F]+\/1: to send of document 1\n/,
    );
  });
});

test("decode_only.ts prints messages and confirms commits", async () => {
  const example = new Example("decode_only.ts");
  await running(example, async () => {
    await example.says(/streaming/);
    await source.query("INSERT INTO documents VALUES (1, 'first')");
    await example.says(/insert documents .*first.*commit [0-9A-F]+\/[0-9A-F]+/s);
    const lsn = /commit ([0-9A-F]+\/[0-9A-F]+)/.exec(example.output)![1]!;
    await until("the slot to be past the commit", async () => {
      const [slot] = await source.query<{ past: boolean }>(
        "SELECT confirmed_flush_lsn >= $1::text::pg_lsn AS past FROM pg_replication_slots " +
          "WHERE slot_name = 'decode_only_example'",
        [lsn],
      );
      return slot!.past;
    });
  });
});

test("backfill.ts hands out the rows that are there, then every change, and is not done twice", async () => {
  const example = new Example("backfill.ts");
  await source.query("TRUNCATE documents; INSERT INTO documents VALUES (1, 'a'), (2, 'b')");
  try {
    await example.says(/was there 1\nwas there 2\n/);
    await source.query("INSERT INTO documents VALUES (3, 'c')");
    await example.says(/insert 3\n/);
    await example.interrupt();
  } finally {
    example[Symbol.dispose]();
  }
  const again = new Example("backfill.ts");
  try {
    await source.query("INSERT INTO documents VALUES (4, 'd')");
    await again.says(/^insert 4\n/);
    await again.interrupt();
  } finally {
    again[Symbol.dispose]();
  }
});

test("catch_up.ts handles what came since it ran last, and ends", async () => {
  for (
    const [insert, said] of [[false, /\b0 events, up to /], [
      true,
      /insert 7 .*1 events, up to /s,
    ]] as const
  ) {
    if (insert) await source.query("INSERT INTO documents VALUES (7, 'seven')");
    const example = new Example("catch_up.ts");
    try {
      await example.ends();
      assertMatch(example.output, said);
    } finally {
      example[Symbol.dispose]();
    }
  }
});

test("dead_letters.ts keeps aside the one that cannot be handled, and handles the others", async () => {
  const example = new Example("dead_letters.ts");
  await running(example, async () => {
    await example.says(/streaming/);
    await source.query(`INSERT INTO documents
      SELECT n, CASE n WHEN 13 THEN 'poison' ELSE 'fine' END FROM generate_series(1, 20) n`);
    await example.says(/kept aside: 13 .*cannot be indexed/);
    for (const key of [1, 12, 14, 20]) await example.says(new RegExp(`indexed .*insert ${key}\\b`));
  });
});

test("custom_sink.ts writes a line for each write", async () => {
  const folder = await mkdtemp(join(tmpdir(), "pgstream-example-"));
  const file = join(folder, "writes.jsonl");
  const lines = () => readFile(file, "utf8").then((text) => text.trim().split("\n"), () => []);
  const example = new Example("custom_sink.ts", {}, file);
  try {
    await running(example, async () => {
      await example.says(/streaming/);
      await source.query("INSERT INTO documents VALUES (1, 'banana')");
      await source.query("UPDATE documents SET id = 2");
      await until("three writes", async () => (await lines()).length === 3);
    });
    const writes = (await lines()).map((line) => JSON.parse(line));
    assertEquals(writes, [
      { upsert: "1", vector: [3, 0, 0, 0, 0], payload: { id: "1", content: "banana" } },
      { delete: "1" },
      { upsert: "2", vector: [3, 0, 0, 0, 0], payload: { id: "2", content: "banana" } },
    ]);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("pgvector.ts keeps the vectors in step, rows that were there too, and answers a question", async () => {
  const store = await startPgvector();
  const environment = { VECTOR_URL: store.dsn };
  const sql = postgres(store.dsn, { max: 1, onnotice: () => {} });
  await source.query(
    "TRUNCATE documents; INSERT INTO documents VALUES (1, 'bread'), (2, 'a comet')",
  );
  const example = new Example("pgvector.ts", environment);
  try {
    await example.says(/streaming/);
    await example.says(/insert 1\ninsert 2/);
    await source.query("UPDATE documents SET content = 'a recipe for cheese' WHERE id = 1");
    await source.query("DELETE FROM documents WHERE id = 2");
    await source.query("INSERT INTO documents VALUES (3, 'the moons of Jupiter'), (4, NULL)");
    await example.says(/insert 4/);
    await example.interrupt();
    const rows = await sql`
      SELECT source_key AS key, payload, vector_dims(vector) AS n FROM document_embeddings ORDER BY 1`;
    assertEquals([...rows], [
      { key: "1", payload: { id: 1, content: "a recipe for cheese" }, n: 512 },
      { key: "3", payload: { id: 3, content: "the moons of Jupiter" }, n: 512 },
    ]);
    const asking = new Example("pgvector.ts", environment, "What do astronomers look at?");
    await asking.ends();
    assertMatch(
      asking.output,
      /^0\.\d\d 3 the moons of Jupiter\n-?0\.\d\d 1 a recipe for cheese\n$/,
    );
  } finally {
    example[Symbol.dispose]();
    await sql.end();
    await store.stop();
  }
});

test("qdrant.ts keeps the vectors in step", async () => {
  const store = await startQdrant();
  const example = new Example("qdrant.ts", { QDRANT_URL: store.url });
  try {
    await running(example, async () => {
      await example.says(/streaming/);
      await source.query("INSERT INTO documents VALUES (1, 'bread'), (2, 'a comet')");
      await source.query("DELETE FROM documents WHERE id = 2");
      await example.says(/delete 2/);
    });
    const answer = await fetch(`${store.url}/collections/documents/points/scroll`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ with_payload: true, with_vector: true }),
    });
    const { result: { points } } = await answer.json() as {
      result: { points: { payload: Record<string, unknown>; vector: number[] }[] };
    };
    assertEquals(
      points.map(({ vector, payload: { id, content } }) => [vector.length, id, content]),
      [
        [512, 1, "bread"],
      ],
    );
    assertMatch(example.output, /insert 1\ninsert 2\ndelete 2/);
  } finally {
    await store.close();
  }
});

test("bun.ts writes each transaction as a line of JSON, and confirms what it has written", async () => {
  const example = new Example("bun.ts");
  const slot = async () => {
    const [found] = await source.query<{ active: boolean; confirmed: string }>(
      "SELECT active, confirmed_flush_lsn AS confirmed FROM pg_replication_slots " +
        "WHERE slot_name = 'bun_example'",
    );
    return found;
  };
  await running(example, async () => {
    await until("the stream", async () => (await slot())?.active === true, 30_000);
    await source.query("INSERT INTO documents VALUES (1, 'first'), (2, 'second')");
    await example.says(/^\{"lsn".*"second".*\n/m);
    const line = example.output.split("\n").find((line) => line.includes("second"))!;
    const { lsn, rows } = JSON.parse(line);
    assertEquals(rows, [
      { operation: "insert", key: "1", row: { id: "1", content: "first" } },
      { operation: "insert", key: "2", row: { id: "2", content: "second" } },
    ]);
    await until("the slot to be past it", async () => {
      const [{ past }] = await source.query<{ past: boolean }>(
        "SELECT $1::text::pg_lsn > $2::text::pg_lsn AS past",
        [(await slot())!.confirmed, lsn],
      ) as [{ past: boolean }];
      return past;
    });
  });
});
