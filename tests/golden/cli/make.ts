/**
 * Makes what `--help` prints again: of all commands, or of those that are named; `overview` is what lists them.
 *
 * ```sh
 * deno run -A tests/golden/cli/make.ts [overview] [tail …]
 * ```
 */

import { writeFile } from "node:fs/promises";
import process from "node:process";
import { COMMANDS } from "../../../src/cli/commands.ts";
import { pgstream } from "../../support/cli.ts";

const named = process.argv.slice(2);
for (const name of named.length > 0 ? named : ["overview", ...Object.keys(COMMANDS)]) {
  const { stdout } = await pgstream(name === "overview" ? ["--help"] : [name, "--help"]);
  await writeFile(new URL(`./${name}.txt`, import.meta.url), stdout);
}
