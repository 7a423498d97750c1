/** The tarball for npm: installed by npm into an empty folder, run, and checked by TypeScript's compiler. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { execFile } from "node:child_process";
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { install } from "../support/install.ts";
import { runtimePath } from "../support/run/runtimes.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { until } from "../support/streams.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

let db: TestPostgres;
/** Where it is installed. */
let folder: string;
let exported: string[];
before(async () => {
  const { exports } = JSON.parse(await readFile(join(root, "deno.json"), "utf8"));
  exported = Object.keys(exports);
  folder = await mkdtemp(join(tmpdir(), "pgstream-npm-"));
  const tarball = join(folder, "pgstream.tgz");
  // As `deno task pack` does.
  await run(root, await runtimePath("deno"), [
    "run",
    "-A",
    "--no-check",
    "tests/support/package/pack.ts",
    tarball,
  ]);
  await writeFile(join(folder, "package.json"), `{ "private": true, "type": "module" }\n`);
  const npm = join((await install("npm")).folder, "bin", "npm-cli.js");
  const node = await runtimePath("node");
  await run(folder, node, [npm, "install", "--no-audit", "--no-fund", "--silent", tarball]);
  db = await testPostgres();
});
after(async () => {
  await db?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** @returns what it printed. */
async function run(
  cwd: string,
  program: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args, {
    cwd,
    timeout: 100_000,
    env: { ...process.env, NO_COLOR: "1", ...env },
  }).catch((error) => {
    throw new Error(`${args.slice(0, 2).join(" ")}: ${error.stdout}\n${error.stderr}`);
  });
  return stdout;
}

test("the package has code and types for every entry point, its dependencies, and nothing else", async () => {
  const installed = join(folder, "node_modules/@pgstream/pgstream");
  const { exports, dependencies } = JSON.parse(
    await readFile(join(installed, "package.json"), "utf8"),
  ) as { exports: Record<string, Record<string, string>>; dependencies: Record<string, string> };
  assertEquals(Object.keys(exports), exported);
  for (const files of Object.values(exports)) {
    assert(files.types!.endsWith(".d.ts") && files.default!.endsWith(".js"));
    for (const file of Object.values(files)) await readFile(join(installed, file));
  }
  assertEquals(Object.keys(dependencies).sort(), ["@qdrant/js-client-rest", "postgres"]);
  const files = await readdir(installed, { recursive: true });
  assert(files.includes("README.md") && files.includes("LICENSE"));
  assertEquals(files.filter((file) => /^(tests|examples|bench)\b|_test\./.test(file)), []);
  for (const file of files.filter((file) => /\.(js|ts|json)$/.test(file))) {
    const text = await readFile(join(installed, file), "utf8");
    assert(!text.includes(root) && !text.includes("sourceMappingURL"), file);
  }
});

test("whoever installs the package streams rows with it, and imports every entry point", async () => {
  await db.query("CREATE TABLE documents (id int PRIMARY KEY)");
  await db.query("INSERT INTO documents VALUES (1), (2)");
  await copyFile(join(root, "tests/support/package/consumer.js"), join(folder, "consumer.js"));
  const deno = process.versions.deno === undefined ? [] : ["run", "-A"];
  const running = run(folder, process.execPath, [...deno, "consumer.js", db.dsn]);
  running.catch(() => {});
  await until("the slot to be read", async () => {
    const slots = await db.query("SELECT FROM pg_replication_slots WHERE active");
    return slots.length === 1;
  }, 30_000);
  await db.query("INSERT INTO documents VALUES (3)");
  const printed = (await running).trim().split("\n");
  const rows = ["insert 1 true", "insert 2 true", "insert 3 false"];
  assertEquals(printed.sort(), [...rows, ...exported.map((entry) => `${entry} true`)].sort());
});

test("whoever installs the package has pgstream: by npx, by bunx, by Deno", async () => {
  const installed = join(folder, "node_modules/@pgstream/pgstream");
  const { bin } = JSON.parse(await readFile(join(installed, "package.json"), "utf8"));
  assertEquals(bin, { pgstream: "./src/cli/bin.js" });
  const npx = join((await install("npm")).folder, "bin", "npx-cli.js");
  const node = await runtimePath("node");
  const bun = await runtimePath("bun");
  const deno = await runtimePath("deno");
  const cli = "node_modules/@pgstream/pgstream/src/cli/mod.js";
  // What the README names: nothing else is asked for.
  const permissions = ["--no-prompt", "--allow-net", "--allow-env", "--allow-read"];
  const ways: [name: string, program: string, ...args: string[]][] = [
    ["npx", node, npx, "--no-install", "@pgstream/pgstream"],
    ["npx, once it is installed", node, npx, "--no-install", "pgstream"],
    ["bunx", bun, "x", "--no-install", "pgstream"],
    ["bunx on Bun itself", bun, "x", "--bun", "--no-install", "pgstream"],
    ["Deno", deno, "run", ...permissions, cli],
  ];
  await db.query("CREATE TABLE of_commands (id int PRIMARY KEY)");
  await db.query("INSERT INTO of_commands VALUES (7)");
  // bunx starts Node by what the file says, which is to be that of the tests.
  const env = { PATH: `${dirname(node)}${delimiter}${process.env.PATH}` };
  for (const [way, program, ...args] of ways) {
    assertMatch(await run(folder, program, [...args, "--help"], env), /^Keeps a vector store/, way);
    const tail = ["tail", "of_commands", "--from-start", "--limit", "1", "--dsn", db.dsn];
    const printed = JSON.parse(await run(folder, program, [...args, ...tail], env));
    assertEquals(printed.row, { id: "7" }, way);
  }
});

for (const moduleResolution of ["nodenext", "bundler"]) {
  const skip = process.versions.deno !== undefined || process.versions.bun !== undefined
    ? "once is enough: on Node"
    : false;
  test(
    `users' code compiles against the package, moduleResolution ${moduleResolution}`,
    { skip },
    async () => {
      await copyFile(join(root, "tests/support/usage.ts"), join(folder, "usage.ts"));
      const imports = exported.map((entry, index) =>
        `import * as e${index} from "${
          entry.replace(/^\./, "@pgstream/pgstream")
        }"; void e${index};`
      );
      await writeFile(join(folder, "entries.ts"), imports.join("\n"));
      const compilerOptions = {
        strict: true,
        noEmit: true,
        target: "es2024",
        lib: ["es2024", "esnext", "dom"],
        module: moduleResolution === "nodenext" ? "nodenext" : "esnext",
        moduleResolution,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        // What the package's own types import has to be there, too; and they need nobody else's.
        skipLibCheck: false,
        types: [],
      };
      const files = ["usage.ts", "entries.ts"];
      await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
      const tsc = join(root, "node_modules/typescript/bin/tsc");
      assertEquals(await run(folder, process.execPath, [tsc, "--project", "."]), "");
    },
  );
}
