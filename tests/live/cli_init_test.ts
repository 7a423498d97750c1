/** `pgstream init`: a file to begin with, which says what was meant, and holds no secret. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { after, afterEach, before, describe, test } from "node:test";
import { parseJsonText } from "../../src/cli/json_text.ts";
import { Cli } from "../support/cli.ts";
import { CliTerminal, endTerminals, needsTerminal } from "../support/cli_terminal.ts";
import { CliWorld, ended } from "../support/cli_world.ts";

let world: CliWorld;
before(async () => {
  world = await CliWorld.open();
  await world.db.query(
    `CREATE SCHEMA blog;
    CREATE TABLE blog.articles (slug text, lang text, views int, body text, PRIMARY KEY (slug, lang))`,
  );
});
after(() => world?.close());

const read = (name: string) => readFile(join(world.folder, name), "utf8");
const init = (...args: string[]) => new Cli(["init", ...args], world.options()).ended;

describe("pgstream init --yes", () => {
  test("writes what flags say, and what the database tells of the table", async () => {
    const flags = ["--table", "blog.articles", "--model", "all-minilm", "--sink", "qdrant"];
    const result = ended(await init("--yes", ...flags, "--slot", "search"));
    assertEquals(result.stdout, "Wrote pgstream.json\n");
    assertEquals(result.stderr, "Then: pgstream doctor, pgstream sync\n");
    const text = await read("pgstream.json");
    assertEquals(parseJsonText(text), {
      dsn: "${DATABASE_URL}",
      slotName: "search",
      tables: { "blog.articles": { text: "{{slug}}\n\n{{lang}}" } },
      embedder: { model: "all-minilm" },
      sink: {
        type: "qdrant",
        url: "http://localhost:6333",
        collectionName: "blog_articles",
        dimensions: 384,
      },
    });
    assertStringIncludes(text, '// "payload": ["slug", "lang", "views"],');
    assert(!text.includes("postgres@"), text);
    // Each line that is a comment would be right, too.
    const all = text.replaceAll(/^(\s*)\/\/ (?=")/gm, "$1");
    assertEquals(
      (parseJsonText(all) as { tables: Record<string, unknown> }).tables["blog.articles"],
      {
        text: "{{slug}}\n\n{{lang}}",
        payload: ["slug", "lang", "views"],
        chunk: { maxChars: 2000, overlap: 200 },
      },
    );
    await rm(join(world.folder, "pgstream.json"));
  });

  test("writes TypeScript where the file's name says so, and it is what JSON would be", async () => {
    const flags = ["--yes", "--table", "documents", "--text", "body", "--dimensions", "4"];
    for (const name of ["made.config.ts", "made.json"]) {
      ended(await init(...flags, "--sink-url", "${VECTORS_URL}", "--output", name));
    }
    const text = await read("made.config.ts");
    assertStringIncludes(text, "dsn: process.env.VECTORS_URL!,");
    assertStringIncludes(text, 'import { defineConfig } from "@pgstream/pgstream/cli";');
    // The folder has no packages: the source takes the place of the one that is installed.
    const source = new URL("../../src/cli/mod.ts", import.meta.url).href;
    await world.write("made.config.ts", text.replace("@pgstream/pgstream/cli", source));
    const { default: typed } = await import(`file://${join(world.folder, "made.config.ts")}`);
    const json = parseJsonText(await read("made.json")) as { dsn: string; sink: { dsn: string } };
    assertEquals(json.dsn, "${DATABASE_URL}");
    assertEquals(json.sink.dsn, "${VECTORS_URL}");
    assertEquals(
      { ...typed, dsn: "", sink: { ...typed.sink, dsn: "" } },
      { ...json, dsn: "", sink: { ...json.sink, dsn: "" } },
    );
    assertEquals(typed.sink.dsn, process.env.VECTORS_URL);
    assertMatch(await world.run(["setup", "--config", "made.config.ts"]), /"pgstream" was created/);
    await world.run(["teardown", "--yes", "--config", "made.json"]);
  });

  test("says where a name is none, before anything is written", async () => {
    for (
      const [args, message] of [
        [
          ["--table", "document"],
          /no table document that can be watched: did you mean documents\?/,
        ],
        [["--table", "documents", "--text", "{{titel}}"], /"titel".*Did you mean "title"/],
        [["--table", "documents", "--text", "{{title"], /braces that name no column/],
        [[], /Nobody says which table.*blog\.articles, public\.documents/],
        [["--sink", "redis"], /There is no store "redis"/],
        [["--dimensions", "many"], /whole number from 1/],
        [["--sink-url", "postgresql://u:canary@h/d"], /--sink-url holds a password/],
        [["--output", "pgstream.yaml"], /pgstream\.yaml would not be read/],
        [["documents"], /takes no "documents"/],
      ] as const
    ) {
      const result = ended(await init("--yes", ...args), 2);
      assertMatch(result.stderr, message);
    }
    assert(!existsSync(join(world.folder, "pgstream.json")));
  });

  test("writes over nothing, and never without being asked", async () => {
    await world.write("there.json", "{}");
    const flags = ["--yes", "--table", "documents", "--output", "there.json"];
    assertMatch(ended(await init(...flags), 2).stderr, /There is a file there\.json.*--force/);
    assertEquals(await read("there.json"), "{}");
    ended(await init(...flags, "--force"));
    assertMatch(await read("there.json"), /"slotName": "pgstream"/);
    const piped = ended(await init("--output", "new.json"), 2);
    assertMatch(piped.stderr, /There is nobody to ask.*--yes/);
    assert(!existsSync(join(world.folder, "new.json")));
  });

  test("works where the database cannot be asked, and says so", async () => {
    const dsn = "postgresql://user:canary-secret@127.0.0.1:1/app";
    const flags = ["--yes", "--dsn", dsn, "--output", "alone.json"];
    const result = ended(await new Cli(["init", ...flags], { cwd: world.folder }).ended);
    assertMatch(result.stderr, /^The database cannot be asked for its tables: /);
    assertMatch(result.stderr, /\nThen: set DATABASE_URL, pgstream doctor --config alone\.json/);
    assert(!(await read("alone.json")).includes("canary"));
  });
});

describe("pgstream init in a terminal", { skip: needsTerminal }, () => {
  afterEach(endTerminals);

  test("asks for what no flag says, offers what is there, and asks again", async () => {
    const { env, cwd } = world.options();
    const args = ["init", "--sink", "pgvector", "--output", "asked.json"];
    const terminal = await CliTerminal.pgstream(args, { env, cwd: cwd!, columns: 140 });
    const screen = await terminal.shows(/Which table\? \[blog\.articles\]/);
    assertStringIncludes(screen, "  public.documents (id, title, body, views)");
    await terminal.send("documants", "Enter");
    await terminal.shows(/did you mean documents\?\nWhich table/);
    await terminal.send("documents", "Enter");
    await terminal.shows(/What is embedded of a row.* \[\{\{title\}\}\\n\\n\{\{body\}\}\]/);
    await terminal.send("Enter");
    await terminal.shows(/Which embedding model\? \[text-embedding-3-small\]/);
    await terminal.send("nomic-embed-text", "Enter");
    await terminal.shows(/Of how many dimensions\? \[768\]/);
    await terminal.send("none", "Enter");
    await terminal.shows(/whole number from 1\n/);
    await terminal.send("Enter");
    assertEquals(await terminal.status(), 0);
    const file = parseJsonText(await read("asked.json")) as Record<string, unknown>;
    assertEquals(file.tables, { documents: { text: "{{title}}\n\n{{body}}" } });
    assertEquals(file.sink, { type: "pgvector", table: "embeddings", dimensions: 768 });
  });

  test("Ctrl+C leaves nothing", async () => {
    const { env, cwd } = world.options();
    const terminal = await CliTerminal.pgstream(["init", "--output", "left.json"], {
      env,
      cwd: cwd!,
    });
    await terminal.shows(/Which table\?/);
    await terminal.send("C-c");
    assertEquals(await terminal.status(), 130);
    assert(!existsSync(join(world.folder, "left.json")));
  });
});
