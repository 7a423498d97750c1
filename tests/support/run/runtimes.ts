/** The three runtimes that tests run on: the machine's own where it will do, else installed. */

import { execFile } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { install } from "../install.ts";

/** What tests run on. */
export type RuntimeName = "deno" | "bun" | "node";

/** All of them, in the order in which they are tested. */
export const RUNTIMES: readonly RuntimeName[] = ["deno", "bun", "node"];

// The oldest that the library supports; Node is tested on its oldest supported line only.
const USABLE = {
  deno: /^deno 2\./,
  bun: /^1\.([4-9]|\d\d)\./,
  node: /^v22\.(1[89]|[2-9]\d)\./,
};

/** Path of the runtime's program. */
export async function runtimePath(name: RuntimeName): Promise<string> {
  if (process.versions[name] !== undefined && !(name === "node" && isEmulated())) {
    return process.execPath;
  }
  if (name === "deno" && process.env.PGSTREAM_DENO !== undefined) return process.env.PGSTREAM_DENO;
  const version = await promisify(execFile)(name, ["--version"], { encoding: "utf8" })
    .then(({ stdout }) => stdout, () => "");
  if (USABLE[name].test(version)) return name;
  if (name === "deno") throw new Error("Deno 2 is not installed: https://deno.com");
  return join((await install(name)).folder, "bin", name);
}

// Deno and Bun have a `process.versions.node` too.
function isEmulated(): boolean {
  return process.versions.deno !== undefined || process.versions.bun !== undefined;
}
