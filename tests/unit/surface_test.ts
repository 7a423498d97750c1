/** What users import, and that their code compiles. */

import { assert, assertEquals } from "@std/assert";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = new URL("../../", import.meta.url);
const deno = process.versions.deno === undefined ? process.env.PGSTREAM_DENO : process.execPath;

function readExports(file: string): Record<string, string> {
  return JSON.parse(readFileSync(new URL(file, root), "utf8")).exports;
}

const compiled = [
  { name: "users' code compiles, strictly", file: "tests/support/usage.ts" },
  {
    name: "the exported types are those that were promised",
    file: "tests/support/surface_check.ts",
  },
];
for (const { name, file } of compiled) {
  test(name, { skip: deno ? false : "needs Deno" }, async () => {
    const { code, stderr } = await promisify(execFile)(
      deno!,
      ["check", "--quiet", file],
      { cwd: fileURLToPath(root), env: { ...process.env, NO_COLOR: "1" } },
    ).then(() => ({ code: 0, stderr: "" }), (error) => error);
    assertEquals({ code, stderr }, { code: 0, stderr: "" });
  });
}

test("Bun and Node find the same entry points as Deno", () => {
  assertEquals(readExports("package.json"), readExports("deno.json"));
});

test("each entry point can be imported by its name, and has a doc of its own", async () => {
  for (const [name, path] of Object.entries(readExports("deno.json"))) {
    const module = await import(`@pgstream/pgstream${name.slice(1)}`) as Record<string, unknown>;
    assert(Object.keys(module).length > 0, `${name} exports nothing`);
    assert(/^\/\*\*[^]*?@module\s+\*\//.test(readFileSync(new URL(path, root), "utf8")), name);
  }
});

test("the main module has the classes that the documentation names", async () => {
  const module = await import("@pgstream/pgstream") as Record<string, unknown>;
  for (
    const name of [
      "MemorySink",
      "PgOutputDecoder",
      "PgStream",
      "PgStreamError",
      "ReplicationStream",
      "Sink",
      "SlotManager",
    ]
  ) assertEquals(typeof module[name], "function", name);
});
