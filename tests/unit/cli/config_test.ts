/** What a configuration file may say: to the last key, and with a place for each fault. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Ajv } from "ajv";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { defineConfig } from "../../../src/cli/config.ts";
import { checkConfig } from "../../../src/cli/config_check.ts";
import { readConfig } from "../../../src/cli/config_file.ts";
import { dimensionsOf, writeConfig } from "../../../src/cli/config_text.ts";
import { CliError } from "../../../src/cli/errors.ts";
import { parseJsonText } from "../../../src/cli/json_text.ts";
import { sameKey } from "../../../src/cli/same_key.ts";
import { configSchema, SCHEMA_FILE } from "../../support/config_schema.ts";

const ENVIRONMENT = { NAME: "value", EMPTY: "", COUNT: "7", FLAG: "true", CANARY: "canary" };

const check = (value: unknown, unwanted: string[] = []) =>
  checkConfig(value, { environment: ENVIRONMENT, unwanted });

/** With every key that there is. */
const WHOLE = {
  $schema: "./config.schema.json",
  dsn: "postgresql://localhost/app",
  slotName: "slot",
  publicationName: "publication",
  tables: {
    documents: {
      text: ["title", "body"],
      payload: ["id"],
      chunk: { maxChars: 100, overlap: 10 },
      columns: ["id", "title", "body"],
      where: "id > 1",
      model: "small@2",
      backfill: "never",
      onModelChange: "rebuild",
      embedder: { model: "other" },
      sink: { type: "qdrant" },
    },
    "blog.articles": { text: "{{body}}" },
  },
  embedder: {
    url: "http://localhost/v1",
    model: "small",
    dimensions: 4,
    apiKey: "key",
    timeoutMs: 1000,
    headers: { "x-tenant": "me" },
    batch: {
      maxTexts: 10,
      maxChars: 1000,
      maxDelayMs: 0,
      parallel: 2,
      timeoutMs: 1000,
      retry: { attempts: 3, minDelayMs: 0.5, maxDelayMs: 10 },
    },
  },
  sink: {
    type: "pgvector",
    dsn: "postgresql://localhost/vectors",
    table: "embeddings",
    dimensions: 4,
    vectorType: "halfvec",
    index: "none",
    prepare: false,
  },
  concurrency: 4,
  publishGeneratedColumns: true,
  backfillChunk: { maxRows: 10, maxBytes: 1000 },
  maxQueueBytes: 1000,
  retry: { attempts: 1 },
  reconnect: false,
  onFailure: "stop",
  failover: false,
  onSlotLost: "recreate",
  whenSlotInUse: "wait",
  metrics: { port: 0, host: "0.0.0.0", maxLagSeconds: 0.5 },
} as const;

const QDRANT = {
  sink: {
    type: "qdrant",
    url: "http://localhost:6333",
    collectionName: "docs",
    vectorName: "text",
    apiKey: "key",
    dimensions: 4,
    distance: "Dot",
    payloadIndexes: { id: "integer", "address.city": "keyword" },
    timeoutMs: 1000,
  },
  reconnect: { attempts: 3 },
} as const;

/** What cannot be, and where. */
const FAULTS: readonly (readonly [unknown, string])[] = [
  [null, "The file is not an object"],
  [[], "The file is not an object"],
  [{ Tables: {} }, "Tables is not known"],
  [{ constructor: {} }, "constructor is not known"],
  [{ dsn: 1 }, "dsn is not a text"],
  [{ dsn: null }, "dsn is not a text"],
  [{ dsn: "" }, "dsn is empty"],
  [{ tables: [] }, "tables is not an object"],
  [{ tables: { documents: "body" } }, "tables.documents is not an object"],
  [{ tables: { documents: { text: "body", txt: 1 } } }, "tables.documents.txt is not known"],
  [{ tables: { documents: { payload: ["id"] } } }, "tables.documents.text is missing"],
  [{ tables: { "b.a": { text: ["body", 1] } } }, 'tables["b.a"].text[1] is not a text'],
  [{ tables: { documents: { text: { a: 1 } } } }, "tables.documents.text is not a text"],
  [
    { tables: { documents: { text: "body", payload: "id" } } },
    "tables.documents.payload is not an array of texts",
  ],
  [
    { tables: { documents: { text: "body", chunk: true } } },
    "tables.documents.chunk is not an object",
  ],
  [{ embedder: {} }, "embedder.model is missing"],
  [{ embedder: { model: "m", batch: { max: 1 } } }, "embedder.batch.max is not known"],
  [{ embedder: { model: "m", headers: { a: 1 } } }, "embedder.headers.a is not a text"],
  [{ sink: "pgvector" }, "sink is not an object"],
  [{ sink: {} }, "sink.type is missing"],
  [{ sink: { type: "toString" } }, 'sink.type is not "pgvector" or "qdrant"'],
  [{ sink: { type: "qdrant", table: "t" } }, "sink.table is not known"],
  [{ sink: { type: "pgvector", index: "ivfflat" } }, 'sink.index is not "hnsw" or "none"'],
  [{ concurrency: 0 }, "concurrency is not a whole number from 1"],
  [{ concurrency: 1.5 }, "concurrency is not a whole number from 1"],
  [{ concurrency: "4" }, "concurrency is not a whole number from 1"],
  [{ failover: "yes" }, "failover is not true or false"],
  [{ reconnect: true }, "reconnect is not false"],
  [{ onFailure: "skip" }, 'onFailure is not "stop"'],
  [{ metrics: {} }, "metrics.port is missing"],
  [{ metrics: { port: -1 } }, "metrics.port is not a whole number from 0"],
];

describe("a configuration", () => {
  test("may say all that there is, and is what was said", () => {
    assertEquals(check(WHOLE), WHOLE);
    assertEquals(check(QDRANT), QDRANT);
    assertEquals(check({}), {});
    // What the compiler takes.
    defineConfig(WHOLE);
    defineConfig(QDRANT);
  });

  for (const [value, message] of FAULTS) {
    test(`cannot be ${JSON.stringify(value)}`, () => {
      const error = assertThrows(() => check(value), CliError);
      assertEquals(error.summary, message);
      assertEquals(error.kind, "config");
      assert(error.hint !== undefined);
    });
  }

  test("has functions and objects of classes where it is code", () => {
    const embed = () => Promise.resolve([]);
    class Store {
      upsert() {}
      delete() {}
    }
    const sink = new Store();
    const text = (row: Record<string, unknown>) => String(row.id);
    const given = {
      tables: { documents: { text, payload: (row: unknown) => ({ row }) } },
      embedder: embed,
      sink,
      onFailure: () => "skip",
    };
    const checked = check(given) as typeof given;
    assertEquals(checked.sink === sink, true);
    assertEquals(checked.embedder === embed, true);
    assertEquals(checked.tables.documents.text === text, true);
    assertThrows(() => check({ dsn: () => "" }), CliError, "dsn is not a text");
  });
});

describe("variables", () => {
  test("stand in any text, in part or whole, and for numbers and flags", () => {
    assertEquals(
      check({
        dsn: "postgresql://${NAME}:${NAME}@h/${NOT_SET:-app}",
        slotName: "${EMPTY:-pgstream}",
        concurrency: "${COUNT}",
        failover: "${FLAG}",
        onSlotLost: "${NOT_SET:-error}",
        tables: { documents: { text: "$${NAME} costs $5 {{price}}", payload: ["${NAME}"] } },
      }),
      {
        dsn: "postgresql://value:value@h/app",
        slotName: "pgstream",
        concurrency: 7,
        failover: true,
        onSlotLost: "error",
        tables: { documents: { text: "${NAME} costs $5 {{price}}", payload: ["value"] } },
      },
    );
  });

  for (
    const [value, message] of [
      [{ dsn: "${NOT_SET}" }, "dsn needs the variable NOT_SET, which is not set"],
      [{ tables: { "a.b": { text: "${NOT_SET}" } } }, 'tables["a.b"].text needs the variable NOT_'],
      [{ dsn: "${EMPTY}" }, "dsn is empty"],
      [{ dsn: "x${not a name}" }, "dsn has a ${ that names no variable"],
      [{ dsn: "x${NAME" }, "dsn has a ${ that names no variable"],
      [{ dsn: "${NAME-x}" }, "dsn has a ${ that names no variable"],
      [{ concurrency: "${CANARY}" }, "concurrency is not a whole number from 1"],
      [{ concurrency: "${EMPTY}" }, "concurrency is not a whole number from 1"],
      [{ failover: "${CANARY}" }, "failover is not true or false"],
      [{ onSlotLost: "${CANARY}" }, 'onSlotLost is not "error" or "recreate"'],
    ] as const
  ) {
    test(`${JSON.stringify(value)} is refused, without a value in the message`, () => {
      const error = assertThrows(() => check(value), CliError);
      assert(error.summary.startsWith(message), error.summary);
      assert(!error.message.includes("canary"), error.message);
    });
  }

  test("are not looked for where something else comes first", () => {
    assertEquals(check({ dsn: "${NOT_SET}", slotName: "s" }, ["dsn"]), { slotName: "s" });
  });
});

describe("the schema for editors", () => {
  const ajv = new Ajv({ allErrors: true });
  const valid = ajv.compile(JSON.parse(configSchema()));

  test("is the one that is stored: deno run -A tests/support/config_schema.ts", async () => {
    assertEquals(await readFile(SCHEMA_FILE, "utf8"), configSchema());
  });

  test("takes what can be, and refuses what cannot", () => {
    const templates = [WHOLE, QDRANT, {}, { concurrency: "${COUNT}", failover: "${FLAG:-true}" }];
    for (const value of templates) {
      check(value);
      assert(valid(value), JSON.stringify(valid.errors));
    }
    for (const [value] of FAULTS) assertEquals(valid(value), false, JSON.stringify(value));
  });

  test("says what each key means", () => {
    const { properties, definitions } = JSON.parse(configSchema());
    for (const [key, schema] of Object.entries<{ description?: string }>(properties)) {
      if (definitions[key] === undefined) assert(schema.description, `${key} has no description`);
    }
    const { properties: table } = properties.tables.additionalProperties;
    for (const key of ["text", "payload", "chunk", "where"]) assert(table[key].description, key);
    assert(definitions.embedder.properties.apiKey.description.includes("OPENAI_API_KEY"));
  });
});

describe("a file", () => {
  let folder: string;
  before(async () => void (folder = await mkdtemp(join(tmpdir(), "pgstream-config-"))));
  after(() => rm(folder, { recursive: true, force: true }));
  const write = async (name: string, text: string) => {
    await writeFile(join(folder, name), text);
    return join(folder, name);
  };

  test("of JSON has comments and variables; a module has neither", async () => {
    const json = await write("a.json", '{ // here\n "slotName": "${NAME}", }');
    assertEquals(await readConfig(json, { environment: ENVIRONMENT }), { slotName: "value" });
    const module = await write("a.mjs", 'export default { slotName: "${NAME}" };');
    assertEquals(await readConfig(module, { environment: ENVIRONMENT }), { slotName: "${NAME}" });
  });

  test("that is wrong is told by name and place", async () => {
    const json = await write("b.json", '{ "slotName": "canary"\n "dsn": "canary" }');
    const error = await assertRejects(() => readConfig(json), CliError);
    assertEquals(error.summary, `${json}: line 2, column 2: a comma, or }, is missing`);
    const keys = await write("c.json", '{ "slotNam": "canary" }');
    const other = await assertRejects(() => readConfig(keys), CliError);
    assertEquals(other.message, `${keys}: slotNam is not known. Did you mean "slotName"?`);
  });

  test("as the README has it can be", async () => {
    const readme = await readFile(new URL("../../../README.md", import.meta.url), "utf8");
    const files = [...readme.matchAll(/^```jsonc\n([^]*?)^```$/gm)];
    assertEquals(files.length, 1);
    for (const [, text] of files) {
      checkConfig(parseJsonText(text!), { environment: { DATABASE_URL: "postgresql://h/d" } });
    }
  });

  test("as init writes it can be, for each store, with and without a table", () => {
    for (const sink of ["pgvector", "qdrant"] as const) {
      for (const dimensions of [384, 3072]) {
        const answers = { slotName: "s", table: "a.b", text: "{{x}}", sink, storeName: "t" };
        const more = { storeUrl: undefined, model: "m", embedderUrl: undefined, dimensions };
        const text = writeConfig({ ...answers, ...more }, undefined, false);
        const whole = text.replaceAll(/^(\s*)\/\/ (?=")/gm, "$1");
        for (const written of [text, whole]) {
          const environment = { DATABASE_URL: "d", EMBEDDER_API_KEY: "k", VECTORS_URL: "v" };
          const { sink: given } = checkConfig(parseJsonText(written), { environment }) as {
            sink: Record<string, unknown>;
          };
          assertEquals(given.dimensions, dimensions);
          const half = sink === "pgvector" && dimensions === 3072;
          assertEquals(given.vectorType, half ? "halfvec" : undefined);
        }
      }
    }
    assertEquals(dimensionsOf("nomic-ai/nomic-embed-text:v1.5"), 768);
    assertEquals(dimensionsOf("toString"), undefined);
  });
});

test("what says the same, in whatever order, is the same store, and the same embedder", () => {
  const key = () => "key";
  assertEquals(sameKey({ a: 1, b: { c: 2, d: 3 } }), sameKey({ b: { d: 3, c: 2 }, a: 1 }));
  assertEquals(sameKey({ apiKey: key }), sameKey({ apiKey: key }));
  assert(sameKey({ apiKey: key }) !== sameKey({ apiKey: () => "key" }));
  assert(sameKey({ a: ["x", "y"] }) !== sameKey({ a: ["y", "x"] }));
});
