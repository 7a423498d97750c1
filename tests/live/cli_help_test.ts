/** What the command line says of itself, and what it says to who has typed something else. */

import { assert, assertEquals, assertLessOrEqual, assertMatch } from "@std/assert";
import { readdir, readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { COMMANDS } from "../../src/cli/commands.ts";
import { VERSION } from "../../src/cli/version.ts";
import { argumentsOf, refusalOf } from "../support/cli_lines.ts";
import { pgstream } from "../support/cli.ts";

const golden = new URL("../golden/cli/", import.meta.url);
const files = (await readdir(golden)).filter((file) => file.endsWith(".txt"));
const names = ["overview", ...Object.keys(COMMANDS)];

describe("pgstream --help", () => {
  for (const name of names) {
    const skip = files.includes(`${name}.txt`)
      ? false
      : `deno run -A tests/golden/cli/make.ts ${name}`;
    test(`of ${name} is what it was`, { skip }, async () => {
      const args = name === "overview"
        ? [["--help"], ["help"]]
        : [[name, "--help"], ["help", name]];
      const wanted = await readFile(new URL(`${name}.txt`, golden), "utf8");
      for (const result of await Promise.all(args.map((args) => pgstream(args)))) {
        assertEquals(result, { stdout: wanted, stderr: "", status: 0 });
      }
      for (const line of wanted.split("\n")) assertLessOrEqual(line.length, 100, line);
    });
  }

  test("is there for each command that there is", () => {
    assertEquals(files.filter((file) => !names.includes(file.replace(/\.txt$/, ""))), []);
  });

  test("has examples that work as they stand, and an effect for each", async () => {
    for (const [name, load] of Object.entries(COMMANDS)) {
      const { examples } = await load();
      for (const [line, effect] of examples) {
        const args = argumentsOf(line);
        assert(args !== null, `${name}: ${line}`);
        assertEquals(await refusalOf(args), null, line);
        assert(effect.length > 0, line);
      }
    }
  });
});

describe("pgstream that was typed wrong", () => {
  test("says which command may have been meant, with status 2", async () => {
    const cases: [args: string[], says: RegExp][] = [
      [["tial"], /^error: There is no command "tial"\. Did you mean pgstream tail\?\n$/],
      [["help", "docter"], /Did you mean pgstream doctor\?/],
      [["\x1b[31mfrobnicate"], /"\\x1b\[31mfrobnicate"\. pgstream --help names them all\n$/],
      [["tail", "documents", "--frobnicate"], /'--frobnicate'.* pgstream tail --help/],
      [["tail", "documents", "--limit"], /--limit.* pgstream tail --help/],
      [["doctor", "--dsn"], /--dsn.* pgstream doctor --help/],
    ];
    const results = await Promise.all(cases.map(([args]) => pgstream(args)));
    for (const [index, { status, stdout, stderr }] of results.entries()) {
      const [args, says] = cases[index]!;
      assertEquals([status, stdout], [2, ""], `${args}`);
      assertMatch(stderr, says);
    }
  });

  test("lists the commands where none was named, with status 2", async () => {
    const { stdout, status } = await pgstream([]);
    assertEquals(status, 2);
    assertMatch(stdout, /Commands:\n {2}doctor/);
  });
});

test("pgstream --version tells the release, of which there is one", async () => {
  const { stdout, status } = await pgstream(["--version"]);
  assertEquals([stdout, status], [`${VERSION}\n`, 0]);
  for (const file of ["deno.json", "package.json"]) {
    const { version } = JSON.parse(
      await readFile(new URL(`../../${file}`, import.meta.url), "utf8"),
    );
    assertEquals(version, VERSION, file);
  }
});
