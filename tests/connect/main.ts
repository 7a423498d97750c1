/**
 * The matrix of connections: runtime × TLS × certificate × address × authentication, on real servers.
 * Each cell works or fails with the error that libpq's manual lets expect.
 *
 * ```sh
 * deno task test:connect                 # all of it
 * deno task test:connect --only bun      # on one runtime
 * deno task test:connect --major 17      # another server
 * ```
 */

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runProgram } from "../support/run/job.ts";
import { type RuntimeName as Native, runtimePath, RUNTIMES } from "../support/run/runtimes.ts";
import {
  ADDRESSES,
  allCells,
  AUTHENTICATIONS,
  type Cell,
  CERTIFICATES,
  expected,
  nameOf,
  type Outcome,
  type RuntimeName,
  TLS,
} from "./cells.ts";
import { dsnOf, PASSWORD, type Places, startPlaces } from "./places.ts";

const LIMIT_MS = 600_000;

/** What stands for an outcome in the printed matrix. */
const SIGNS: Record<Outcome, string> = {
  "encrypted": "■",
  "plain": "□",
  "authentication": "a",
  "authentication-refused": "m",
  "channel-binding": "b",
  "certificate-rejected": "c",
  "tls-refused": "n",
  "tls-failed": "h",
  "tls-unavailable": "u",
};

/** Runs the cells on one of the three. */
async function runNative(runtime: Native, dsns: string[]): Promise<Outcome[]> {
  const folder = await mkdtemp(join(tmpdir(), "pgstream-"));
  try {
    const file = join(folder, "dsns.json");
    await writeFile(file, JSON.stringify({ dsns, secret: PASSWORD }));
    const path = fileURLToPath(new URL("program.ts", import.meta.url));
    const flags = runtime === "deno" ? ["run", "-A", "--no-check"] : [];
    const ending = await runProgram(await runtimePath(runtime), [...flags, path, file], {
      timeoutMs: LIMIT_MS,
    });
    if (ending.failure !== null) throw new Error(`${runtime} ${ending.failure}: ${ending.output}`);
    return ending.output.trimEnd().split("\n").slice(-dsns.length);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** A line for each TLS mode and certificate; a group for each address; a sign for each authentication. */
function printMatrix(runtime: RuntimeName, cells: Cell[], outcomes: Outcome[]): void {
  const found = new Map(cells.map((cell, index) => [nameOf(cell), outcomes[index]!]));
  print(`\n${runtime}`.padEnd(53) + ADDRESSES.map((address) => address.padEnd(18)).join(""));
  for (const tls of Object.keys(TLS) as Cell["tls"][]) {
    for (const certificate of CERTIFICATES) {
      const groups = ADDRESSES.map((address) =>
        AUTHENTICATIONS.map((authentication) => {
          const outcome = found.get(nameOf({ tls, certificate, address, authentication }))!;
          return SIGNS[outcome] ?? "?";
        }).join("").padEnd(18)
      );
      print(`${tls.padEnd(32)}${certificate.padEnd(20)}${groups.join("")}`);
    }
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
