/** A store in step with tables by the command line alone: init, setup, sync, verify, backfill, teardown. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import postgres from "postgres";
import { Cli, type CliOptions, type CliResult, pgstream } from "../support/cli.ts";
import { type OpenAiServer, startOpenAi } from "../support/servers/open_ai.ts";
import { type PgvectorServer, startPgvector } from "../support/servers/pgvector.ts";
import { type QdrantServer, startQdrant } from "../support/servers/qdrant.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { until } from "../support/streams.ts";

const API_KEY = "sk-canary-4711";

let db: TestPostgres;
let store: PgvectorServer;
let qdrant: QdrantServer;
let openAi: OpenAiServer;
let vectors: postgres.Sql;
let folder: string;
before(async () => {
  db = await testPostgres();
  store = await startPgvector();
  qdrant = await startQdrant();
  openAi = await startOpenAi({ apiKey: API_KEY });
  vectors = postgres(store.dsn, { max: 1, onnotice: () => {} });
  folder = await mkdtemp(join(tmpdir(), "pgstream-cli-"));
  await db.query(
    `CREATE TABLE documents (id int PRIMARY KEY, title text NOT NULL, body text, views int DEFAULT 0);
    INSERT INTO documents SELECT n, 'title ' || n, 'body ' || n FROM generate_series(1, 20) n`,
  );
});
after(async () => {
  await vectors?.end({ timeout: 1 });
  await openAi?.[Symbol.asyncDispose]();
  await qdrant?.[Symbol.asyncDispose]();
  await store?.[Symbol.asyncDispose]();
  await db?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Variables as a user has them: secrets are in no file. */
function options(env: Record<string, string> = {}): CliOptions {
  return {
    cwd: folder,
    env: { DATABASE_URL: db.dsn, VECTORS_URL: store.dsn, MODEL_KEY: API_KEY, ...env },
  };
}

async function write(name: string, config: unknown): Promise<string> {
  await writeFile(join(folder, name), typeof config === "string" ? config : JSON.stringify(config));
  return name;
}

/** For the table `documents`, into a table of its own. */
function config(table: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    slotName: `cli_${table}`,
    tables: { documents: { text: "{{title}}\n\n{{body}}", payload: ["id", "title"] } },
    embedder: { url: openAi.url, model: "small", apiKey: "${MODEL_KEY}" },
    sink: { type: "pgvector", dsn: "${VECTORS_URL}", table, dimensions: 4 },
    ...more,
  };
}

function ended({ status, stdout, stderr }: CliResult, wanted = 0): string {
  assertEquals(status, wanted, `${stdout}\n${stderr}`);
  for (const secret of [API_KEY, ":postgres@"]) assert(!`${stdout}${stderr}`.includes(secret));
  return stdout;
}

async function count(table: string): Promise<number> {
  const [row] = await vectors.unsafe(`SELECT count(*)::int AS count FROM ${table}`);
  return row!.count;
}

describe("pgstream with a configuration file", () => {
  test("init, sync, verify: from an empty folder to a store that is right, with nothing else", async () => {
    const file = "from_init.json";
    ended(
      await pgstream(
        [
          "init",
          "--yes",
          "--table",
          "documents",
          "--model",
          "small",
          "--dimensions",
          "4",
          "--embedder-url",
          openAi.url,
          "--output",
          file,
        ],
        options(),
      ),
    );
    const text = await readFile(join(folder, file), "utf8");
    assertStringIncludes(text, '"text": "{{title}}\\n\\n{{body}}"');
    assert(!text.includes(":postgres@"), "no password is in the file");
    await write(
      file,
      text.replace('"pgstream"', '"cli_init"')
        .replace('// "dsn": "${VECTORS_URL}"', '"dsn": "${VECTORS_URL}"')
        .replace('"embeddings"', '"from_init"')
        .replace('"model": "small",', '"model": "small", "apiKey": "${MODEL_KEY}",'),
    );
    const asked = openAi.requests.length;
    const texts = () => openAi.requests.slice(asked).flatMap(({ input }) => input);
    const syncing = new Cli(["sync", "--config", file], options());
    try {
      // The store itself is not asked meanwhile: its sessions share a transaction.
      await until("the rows that were there", () => texts().length === 20, 30_000);
      await db.query("INSERT INTO documents VALUES (21, 'new', 'one')");
      await until("the row that is new", () => texts().includes("new\n\none"));
    } finally {
      syncing.signal("SIGINT");
    }
    const result = await syncing.ended;
    ended(result);
    assertMatch(result.stderr, /streaming/);
    // What was in hand when it was told to stop may have been left for the next.
    ended(await pgstream(["sync", "--once", "--config", file], options()));
    assertMatch(
      ended(await pgstream(["verify", "--config", file], options())),
      /^ok {3}public\.documents: 21 rows, 21 vectors: alike\n$/,
    );
    assertMatch(
      ended(await pgstream(["teardown", "--yes", "--config", file], options())),
      /Dropped slot "cli_init"/,
    );
    assertEquals(await db.query("SELECT FROM pg_replication_slots"), []);
    assertEquals(await db.query("SELECT FROM pg_publication"), []);
  });

  test("sync --once brings what is there and what was missed, and ends; its status is JSON", async () => {
    const file = await write("once.json", config("once"));
    ended(await pgstream(["sync", "--once", "--config", file], options()));
    const before = await count("once");
    await db.query("INSERT INTO documents VALUES (30, 'later', 'on')");
    const lines = ended(await pgstream(["sync", "--once", "--json", "--config", file], options()))
      .trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(await count("once"), before + 1);
    assertEquals(lines.at(-1).events.insert, 1);
    assertEquals(lines.map(({ state }) => state).slice(0, 2), ["connecting", "streaming"]);
    ended(await pgstream(["teardown", "--yes", "--config", file], options()));
  });

  test("verify finds what was broken and says 1; with --repair exactly that is mended", async () => {
    const file = await write("verified.json", config("verified"));
    ended(await pgstream(["sync", "--once", "--config", file], options()));
    await vectors.unsafe(`DELETE FROM verified WHERE payload->>'id' IN ('3', '4')`);
    const found = await pgstream(["verify", "documents", "--json", "--config", file], options());
    const report = JSON.parse(ended(found, 1));
    assertEquals(report.alike, false);
    assertEquals(
      report.tables[0].differences.map(({ key, kind }: Record<string, unknown>) => [key, kind]),
      [["3", "missing"], ["4", "missing"]],
    );
    const text = ended(await pgstream(["verify", "--config", file], options()), 1);
    assertMatch(
      text,
      /^fail public\.documents: \d+ rows, \d+ vectors: 2 missing\n {5}missing {3}3\n/,
    );
    const mended = ended(await pgstream(["verify", "--repair", "--config", file], options()));
    assertMatch(mended, /2 missing, 2 mended/);
    ended(await pgstream(["verify", "--config", file], options()));
    ended(await pgstream(["teardown", "--yes", "--config", file], options()));
  });

  test("backfill brings rows once more, and embeds nothing that the store has", async () => {
    const file = await write("again.json", config("again"));
    ended(await pgstream(["sync", "--once", "--config", file], options()));
    const asked = openAi.requests.length;
    await vectors.unsafe(`DELETE FROM again WHERE payload->>'id' IN ('5', '6')`);
    ended(await pgstream(["backfill", "documents", "--key", "5", "--config", file], options()));
    assertEquals(openAi.requests.slice(asked).flatMap(({ input }) => input), ["title 5\n\nbody 5"]);
    ended(
      await pgstream(["backfill", "documents", "--where", "id < 10", "--config", file], options()),
    );
    assertEquals(openAi.requests.slice(asked).flatMap(({ input }) => input).length, 2);
    ended(await pgstream(["verify", "--config", file], options()));
    ended(await pgstream(["teardown", "--yes", "--config", file], options()));
  });

  test("setup makes slot and publication, tells what it did, and does nothing the second time", async () => {
    const file = await write("setup.json", config("setup_once"));
    const first = JSON.parse(
      ended(await pgstream(["setup", "--json", "--config", file], options())),
    );
    assertEquals(first, {
      slotName: "cli_setup_once",
      publicationName: "cli_setup_once",
      slot: "created",
      publication: "created",
      added: ["public.documents"],
      removed: [],
      changed: [],
      warnings: [],
    });
    assertEquals(
      ended(await pgstream(["setup", "--config", file], options())),
      'Slot "cli_setup_once" was found\nPublication "cli_setup_once" was found\n',
    );
    const asked = await pgstream(["teardown", "--config", file], options());
    assertMatch(asked.stderr, /nobody to ask whether to drop slot "cli_setup_once".*--yes/);
    ended(asked, 2);
    assertEquals((await db.query("SELECT FROM pg_replication_slots")).length, 1);
    const dropped = await pgstream(["teardown", "--yes", "--json", "--config", file], options());
    assertEquals(JSON.parse(ended(dropped)), {
      slotName: "cli_setup_once",
      publicationName: "cli_setup_once",
    });
  });

  test("TypeScript says the same, with functions where one likes", async () => {
    const file = await write(
      "typed.config.ts",
      `const config = ${
        JSON.stringify(config("typed", { embedder: undefined })).replaceAll(
          '"${VECTORS_URL}"',
          "process.env.VECTORS_URL",
        )
      };
      config.tables.documents.text = (row: { title: string }) => row.title.toUpperCase();
      config.tables.documents.embedder = Object.assign(
        (texts: string[]) => Promise.resolve(texts.map((text) => [text.length, 1, 0, 0])),
        { model: "length@1" },
      );
      export default () => config;`,
    );
    ended(await pgstream(["sync", "--once", "--config", file], options()));
    ended(await pgstream(["verify", "--config", file], options()));
    const [row] = await vectors.unsafe(`SELECT vector::text FROM typed WHERE payload->>'id' = '1'`);
    assertEquals(row!.vector, "[7,1,0,0]");
    ended(await pgstream(["teardown", "--yes", "--config", file], options()));
  });

  test("Qdrant is a store as well", async () => {
    const file = await write(
      "qdrant.json",
      config("qdrant", {
        sink: { type: "qdrant", url: qdrant.url, collectionName: "docs", dimensions: 4 },
      }),
    );
    ended(await pgstream(["sync", "--once", "--config", file], options()));
    ended(await pgstream(["verify", "--config", file], options()));
    ended(await pgstream(["teardown", "--yes", "--config", file], options()));
  });

  test("a server that goes away is told in a line, and the command goes on when it is back", async () => {
    const own = await testPostgres();
    await own.query("CREATE TABLE documents (id int PRIMARY KEY, title text, body text)");
    const file = await write("lost.json", config("lost"));
    const syncing = new Cli(["sync", "--config", file], options({ DATABASE_URL: own.dsn }));
    try {
      await syncing.shows(/streaming/);
      await own.query(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active",
      );
      await syncing.shows(/reconnecting/);
      await own.query("INSERT INTO documents VALUES (1, 'after', 'all')");
      await until(
        "the row",
        () => openAi.requests.some(({ input }) => input.includes("after\n\nall")),
        30_000,
      );
    } finally {
      syncing.signal("SIGTERM");
    }
    ended(await syncing.ended);
    const env = { DATABASE_URL: own.dsn };
    // What was in hand when it was told to stop may have been left for the next.
    ended(await pgstream(["sync", "--once", "--config", file], options(env)));
    assertEquals(await count("lost"), 1);
    ended(await pgstream(["teardown", "--yes", "--config", file], options(env)));
    await own.stop();
  });

  for (
    const [name, change, message] of [
      ["a key that is not known", { tabels: {} }, /tabels is not known\. Did you mean "tables"\?/],
      [
        "a table without a text",
        { tables: { documents: {} } },
        /tables\.documents\.text is missing/,
      ],
      [
        "a column that is not there",
        { tables: { documents: { text: "titel" } } },
        /text names the column "titel", which is not there\. Did you mean "title"\?/,
      ],
      [
        "a table that is not there",
        { tables: { document: { text: "title" } } },
        /Table "public\.document" not found/,
      ],
      ["a variable that is not set", { dsn: "${NOWHERE}" }, /dsn needs the variable NOWHERE/],
      [
        "a store that is none",
        { sink: { type: "redis" } },
        /sink\.type is no store.*pgvector, qdrant/,
      ],
      ["a key that the model does not take", {
        embedder: { url: "", model: "small", apiKey: "wrong" },
      }, /401|refused|API key/i],
    ] as const
  ) {
    test(`${name} is told in one line, with the way out, and no secret`, async () => {
      const given = config("wrong", change);
      const embedder = given.embedder as { url: string };
      embedder.url ||= openAi.url;
      const file = await write("wrong.json", given);
      const result = await pgstream(["sync", "--once", "--verbose", "--config", file], options());
      assert(result.status === 1 || result.status === 2, `${result.status}`);
      assertMatch(result.stderr, message);
      assert(!/^\s+at /m.test(result.stderr), result.stderr);
      ended(result, Number(result.status));
      ended(await pgstream(["teardown", "--yes", "--slot", "cli_wrong"], options()));
    });
  }

  test("init writes over nothing, and never without being asked", async () => {
    await write("there.json", "{}");
    const result = await pgstream(["init", "--yes", "--output", "there.json"], options());
    assertMatch(result.stderr, /There is a file there\.json.*--force/);
    ended(result, 2);
    const piped = await pgstream(["init", "--output", "new.json"], options());
    assertMatch(piped.stderr, /nobody to ask.*--yes/);
    ended(piped, 2);
  });
});
