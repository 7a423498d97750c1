/** `pgstream doctor`, as somebody calls it who has not written a line yet. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pgstream } from "../support/cli.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";

let db: TestPostgres;
let folder: string;
before(async () => {
  db = await testPostgres();
  folder = await mkdtemp(join(tmpdir(), "pgstream-cli-"));
  await db.query(
    `CREATE TABLE documents (id int PRIMARY KEY, body text);
    CREATE TABLE keyless (id int);
    CREATE TABLE narrow (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)`,
  );
});
after(async () => {
  await db?.stop();
  await rm(folder, { recursive: true, force: true });
});

const doctor = (...args: string[]) =>
  pgstream(["doctor", ...args], { cwd: folder, env: { DATABASE_URL: db.dsn } });

describe("pgstream doctor", () => {
  test("says that all is well, a line each, and ends with 0", async () => {
    const { status, stdout, stderr } = await doctor("documents", "--strict");
    assertEquals([status, stderr], [0, ""]);
    const lines = stdout.trimEnd().split("\n");
    assertEquals(lines.at(-1), "All is as it should be");
    assert(lines.slice(0, -2).every((line) => /^ok {4}\S/.test(line)), stdout);
    assert(lines.includes("ok    public.documents: Updates and deletes are told by id"));
  });

  test("ends with 2 where something does not work, and says what to run below it", async () => {
    const { status, stdout } = await doctor("documents", "keyless");
    assertEquals(status, 2);
    assertMatch(stdout, /^FAIL {2}public\.keyless: Table "public\.keyless" has no primary key/m);
    assertMatch(stdout, /^ {6}Add a primary key, or run: ALTER TABLE "public"\."keyless" REPLICA/m);
    assertMatch(stdout, /\n1 problem, 1 warning\n$/);
  });

  test("ends with 1 for a warning, where warnings count", async () => {
    assertEquals((await doctor("narrow")).status, 0);
    assertEquals((await doctor("narrow", "--strict")).status, 1);
  });

  test("prints all of it as one line of JSON", async () => {
    const { status, stdout } = await doctor("keyless", "--json");
    assertEquals(status, 2);
    assertEquals(stdout.split("\n").length, 2);
    const { ok, warnings, problems, findings } = JSON.parse(stdout);
    assertEquals([warnings, problems, ok + warnings + problems], [1, 1, findings.length]);
    assertEquals(
      findings.filter(({ level }: { level: string }) => level === "problem"),
      [{
        check: "replica-identity",
        level: "problem",
        subject: "public.keyless",
        message:
          'Table "public.keyless" has no primary key: its UPDATE and DELETE would fail once it is published',
        fix: 'Add a primary key, or run: ALTER TABLE "public"."keyless" REPLICA IDENTITY FULL;',
      }],
    );
  });

  test("looks at the tables of the file, and at its store", async () => {
    await writeFile(
      join(folder, "docs.json"),
      JSON.stringify({
        tables: { documents: { text: "body" } },
        embedder: { model: "small" },
        sink: { type: "qdrant", url: "http://127.0.0.1:1", apiKey: "canary-4711" },
      }),
    );
    const { status, stdout, stderr } = await doctor("--config", "docs.json", "--verbose");
    assertEquals(status, 2);
    assertMatch(stdout, /^ok {4}public\.documents:/m);
    assertMatch(stdout, /^FAIL {2}pgstream: /m);
    assert(!`${stdout}${stderr}`.includes("canary"));
  });

  test("tells of a server that is not there in two lines, without the password", async () => {
    const { status, stdout, stderr } = await pgstream(
      ["doctor", "documents", "--dsn", "postgresql://user:canary@127.0.0.1:1/x", "--verbose"],
    );
    assertEquals(status, 2);
    assertMatch(stdout, /^FAIL {2}Cannot connect to 127\.0\.0\.1:1: nothing listens there\n {6}Is/);
    assert(!`${stdout}${stderr}`.includes("canary"));
  });
});
