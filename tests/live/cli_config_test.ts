/** What a configuration file is told where it cannot be, and what no message may hold. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { Cli } from "../support/cli.ts";
import { API_KEY, CliWorld, ended } from "../support/cli_world.ts";

let world: CliWorld;
before(async () => {
  world = await CliWorld.open();
  await world.db.query("CREATE TABLE bytes (id int PRIMARY KEY, data bytea)");
});
after(() => world?.close());

/** A file that is right but for that. */
async function synced(
  change: Record<string, unknown>,
  { verbose = false, env = {} }: { verbose?: boolean; env?: Record<string, string> } = {},
) {
  const file = await world.write("wrong.json", world.config("wrong", change));
  const args = ["sync", "--once", ...verbose ? ["--verbose"] : [], "--config", file];
  return await new Cli(args, world.options(env)).ended;
}

const table = (more: Record<string, unknown>) => ({ tables: { documents: more } });

describe("a configuration file", () => {
  for (
    const [what, change, message] of [
      ["a key that is not known", { tabels: {} }, 'tabels is not known. Did you mean "tables"?'],
      [
        "a key deep inside that is not known",
        { sink: { type: "pgvector", dimension: 4 } },
        'sink.dimension is not known. Did you mean "dimensions"?',
      ],
      [
        "a table without a text",
        table({}),
        "tables.documents.text is missing. Name a column, or write a template: " +
        '"text": "{{title}}\\n\\n{{body}}"',
      ],
      [
        "a value of another type",
        { concurrency: "2" },
        "concurrency is not a whole number from 1. pgstream init writes a file that is right",
      ],
      [
        "a variable that is not set",
        { sink: { type: "pgvector", dsn: "${NOWHERE_TO_BE}" } },
        "sink.dsn needs the variable NOWHERE_TO_BE, which is not set. " +
        "Set it, or write ${NOWHERE_TO_BE:-a default}",
      ],
      [
        "a store that is none",
        { sink: { type: "redis" } },
        'sink.type is not "pgvector" or "qdrant". pgstream init writes a file that is right',
      ],
    ] as const
  ) {
    test(`${what} is told in one line, with its place and the way out`, async () => {
      assertEquals(ended(await synced(change), 2).stderr, `error: wrong.json: ${message}\n`);
    });
  }

  for (
    const [what, change, message] of [
      [
        "a column that is not there",
        table({ text: "titel" }),
        'tables.documents.text names the column "titel", which is not there. Did you mean "title"? ' +
        "Names are literal",
      ],
      [
        "a column in a template",
        table({ text: "{{title}} {{ author }}" }),
        'tables.documents.text names the column "author", which is not there. ' +
        "There are id, title, body, views",
      ],
      [
        "a column of the payload",
        table({ text: "title", payload: ["id", "Title"] }),
        'tables.documents.payload names the column "Title", which is not there. ' +
        'Did you mean "title"? Names are literal',
      ],
      [
        "a column that is not published",
        table({ text: "body", columns: ["id", "title"] }),
        'tables.documents.text names the column "body", which is not there. There are id, title',
      ],
      [
        "bytes as a text",
        { tables: { bytes: { text: ["data"] } } },
        'tables.bytes.text names the column "data", which is bytea. ' +
        "Bytes are no text: name another column",
      ],
      [
        "a table twice",
        { tables: { documents: { text: "title" }, "public.documents": { text: "body" } } },
        'tables has public.documents twice, as "documents" and as "public.documents". ' +
        "Leave one of them out",
      ],
      [
        "chunks that overlap whole",
        table({ text: "body", chunk: { maxChars: 10, overlap: 10 } }),
        "tables.documents.chunk: overlap is no whole number from 0 to below maxChars. " +
        "A tenth of maxChars is usual",
      ],
      [
        "an address that is none",
        { embedder: { url: "localhost", model: "small" } },
        "embedder: Cannot read the url of the embedding model. " +
        "Write it as https://host/v1; credentials go into apiKey",
      ],
      [
        "no embedder",
        { embedder: undefined },
        "tables.documents.embedder is missing. Add it there, or at the top of the file: " +
        '"embedder": { "model": "text-embedding-3-small" }',
      ],
    ] as const
  ) {
    test(`${what} is told before anything is made`, async () => {
      assertEquals(ended(await synced(change), 2).stderr, `error: wrong.json: ${message}\n`);
      assertEquals(await world.db.query("SELECT FROM pg_replication_slots"), []);
    });
  }

  test("that is no JSON is told by line and column", async () => {
    const file = await world.write("broken.json", '{\n  // "dsn"\n  "slotName": "a"\n  "x": 1\n}');
    const result = await new Cli(["sync", "--config", file], world.options()).ended;
    assertMatch(ended(result, 2).stderr, /^error: broken\.json: line 4, column 3: a comma, or \}/);
  });

  test("that is not there, or gives nothing, or throws, is told by name", async () => {
    const files = {
      "gone.json": /^error: There is no file gone\.json\. pgstream init writes one/,
      "gone.config.ts": /^error: There is no file gone\.config\.ts\. pgstream init writes one/,
      "none.config.js": /^error: none\.config\.js: it has no default export\. export default/,
      "list.config.js": /^error: list\.config\.js: The file is not an object/,
      "thrown.config.js": /^error: Cannot read thrown\.config\.js: this is it\. It has to run/,
    };
    await world.write("none.config.js", "export const config = {};");
    await world.write("list.config.js", "export default () => [];");
    await world.write("thrown.config.js", 'throw new Error("this\\nis it");');
    for (const [file, message] of Object.entries(files)) {
      const result = await new Cli(["sync", "--config", file], world.options()).ended;
      assertMatch(ended(result, 2).stderr, message);
    }
  });

  test("does not need the variables of what flags and environment say", async () => {
    const file = await world.write(
      "lazy.json",
      world.config("lazy", { dsn: "${NOWHERE}", slotName: "${NO_SLOT}" }),
    );
    const result = await new Cli(["setup", "--config", file], world.options()).ended;
    assertMatch(ended(result, 2).stderr, /slotName needs the variable NO_SLOT/);
    await world.run(["setup", "--slot", "cli_lazy", "--config", file]);
    await world.run(["teardown", "--yes", "--slot", "cli_lazy", "--config", file]);
  });

  test("may keep vectors in the source's own database, however that is named", async () => {
    // The server has no pgvector: that it is asked for is seen by what is missing.
    const url = new URL(world.db.dsn);
    const { DATABASE_URL: _, ...env } = world.options().env;
    const file = await world.write(
      "own.json",
      world.config("own", { sink: { type: "pgvector", dimensions: 4 } }),
    );
    const variables = {
      PGHOST: url.hostname,
      PGPORT: url.port,
      PGUSER: decodeURIComponent(url.username),
      PGPASSWORD: decodeURIComponent(url.password),
      PGDATABASE: url.pathname.slice(1),
    };
    const pairs = `host=${url.hostname} port=${url.port} dbname=${variables.PGDATABASE} ` +
      `user=${variables.PGUSER} password=${variables.PGPASSWORD}`;
    for (
      const [args, more] of [
        [[], { DATABASE_URL: world.db.dsn }],
        [[], variables],
        [["--dsn", pairs], {}],
        [["--dsn", world.db.dsn], { DATABASE_URL: "postgresql://nobody@127.0.0.1:1/none" }],
      ] as const
    ) {
      const command = ["setup", ...args, "--config", file];
      const result = await new Cli(command, { cwd: world.folder, env: { ...env, ...more } }).ended;
      assertMatch(ended(result, 1).stderr, /vector.*(not available|extension)/i, command.join(" "));
    }
    await world.run(["teardown", "--yes", "--slot", "cli_own"]);
  });
});

describe("no secret is told, with --verbose either,", () => {
  const canary = (url: string) => {
    const changed = new URL(url);
    changed.password = "canary-secret";
    return changed.href;
  };
  for (
    const [what, status, change, env, message] of [
      [
        "where the source refuses, or is not there",
        1,
        () => ({}),
        () => ({ DATABASE_URL: "postgresql://user:canary-secret@127.0.0.1:1/app" }),
        /127\.0\.0\.1:1/,
      ],
      [
        "where the source's address is none",
        1,
        () => ({}),
        () => ({ DATABASE_URL: "postgresql://user:canary-secret@host:port/app" }),
        /DSN|port/,
      ],
      [
        "where the store is not there",
        1,
        () => ({}),
        () => ({ VECTORS_URL: "postgresql://user:canary-secret@127.0.0.1:1/app" }),
        /embeddings|wrong|reach/,
      ],
      [
        "where the store's address is none",
        2,
        () => ({}),
        () => ({ VECTORS_URL: "host=h password=canary-secret" }),
        /^error: wrong\.json: sink: Cannot read the dsn/m,
      ],
      [
        "where the model refuses its key",
        1,
        () => ({}),
        () => ({ MODEL_KEY: "sk-canary-wrong" }),
        /401|refused|key/i,
      ],
      [
        "where the model's address holds one",
        2,
        () => ({ embedder: { url: "https://user:canary-secret@h/v1", model: "small" } }),
        () => ({}),
        /^error: wrong\.json: embedder: Cannot read the url/m,
      ],
      [
        "where Qdrant refuses its key",
        1,
        () => ({ sink: { type: "qdrant", url: world.qdrant.url, dimensions: 4 } }),
        () => ({ QDRANT_API_KEY: "canary-wrong" }),
        /Qdrant|key/i,
      ],
      [
        "where the file is wrong beside it",
        2,
        () => ({ dsn: "postgresql://u:canary-secret@h/d", concurrency: 0 }),
        () => ({}),
        /concurrency/,
      ],
    ] as const
  ) {
    test(what, async () => {
      const result = ended(await synced(change(), { verbose: true, env: env() }), status);
      assertMatch(result.stderr, message);
      await world.run(["teardown", "--yes", "--slot", "cli_wrong"]);
    });
  }

  test("where the source refuses the password", async () => {
    await world.db.query("CREATE ROLE cli_guest LOGIN PASSWORD 'right'");
    const dsn = canary(world.db.dsn.replace(/\/\/[^:@]+/, "//cli_guest"));
    const result = await new Cli(["setup", "documents", "--verbose", "--dsn", dsn], {}).ended;
    assert(result.status === 1, result.stderr);
    ended(result, 1);
    await world.db.query("DROP ROLE cli_guest");
  });

  test("in what is printed of a stream that runs", async () => {
    const file = await world.write("runs.json", world.config("runs"));
    const result = await new Cli(
      ["sync", "--once", "--json", "--verbose", "--config", file],
      world.options(),
    ).ended;
    ended(result);
    assert(world.openAi.headers.some(({ authorization }) => authorization === `Bearer ${API_KEY}`));
    await world.run(["teardown", "--yes", "--config", file]);
  });
});
