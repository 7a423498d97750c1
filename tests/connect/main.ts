/**
 * The matrix of connections: runtime × TLS × certificate × address × authentication, on real servers.
 * Each cell works or fails with the error that libpq's manual lets expect.
 *
 * ```sh
 * deno task test:connect                 # all of it
 * deno task test:connect --only bun      # on one runtime
 * deno task test:connect --major 17      # another server, from 12 on
 * ```
 */

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { runProgram } from "../support/run/job.ts";
import { type RuntimeName as Native, runtimePath, RUNTIMES } from "../support/run/runtimes.ts";
import { startWorker } from "../support/workerd.ts";
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
  "authentication-not-allowed": "m",
  "channel-binding": "b",
  "certificate-rejected": "c",
  "tls-refused": "n",
  "tls-failed": "h",
  "no-host": "0",
  "tls-unavailable": "u",
  "host-unreachable": "x",
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

/** Runs them in workerd, which trusts our authority as if it were public, and has no files. */
async function runWorkerd(root: string, places: Places, dsns: string[]): Promise<Outcome[]> {
  const files = Object.values(places.clients).flatMap(({ certFile, keyFile }) => [
    certFile,
    keyFile,
  ]);
  for (const file of [places.rootFile, ...files]) {
    const text = await readFile(file, "utf8");
    dsns = dsns.map((dsn) => dsn.replace(`'${file}'`, `'${text}'`));
  }
  const worker = await startWorker("tests/connect/worker.ts", { trusted: [root] });
  try {
    return await worker.call<Outcome[]>({ dsns, secret: PASSWORD }, LIMIT_MS);
  } finally {
    await worker.stop();
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

/** Runs the cells on one runtime, and says which came out otherwise than expected. */
async function tryRuntime(
  runtime: RuntimeName,
  major: number,
  cells: Cell[],
  run: () => Promise<Outcome[]>,
): Promise<number> {
  const startedAt = performance.now();
  const outcomes = await run();
  printMatrix(runtime, cells, outcomes);
  const wrong = cells.flatMap((cell, index) => {
    const [found, wanted] = [outcomes[index], expected(cell, runtime, major)];
    return found === wanted ? [] : [`${nameOf(cell)}: ${found}, not ${wanted}`];
  });
  for (const line of wrong.slice(0, 40)) print(`WRONG on ${runtime}: ${line}`);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
  print(`${runtime}: ${cells.length - wrong.length} of ${cells.length} as expected, ${seconds} s`);
  return wrong.length;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      major: { type: "string", default: "18" },
    },
  });
  const cells = allCells();
  const major = Number(values.major);
  const { places, root, stop } = await startPlaces(major);
  let wrong = 0;
  try {
    const dsns = cells.map((cell) => dsnOf(cell, places));
    for (const runtime of [...RUNTIMES, "workerd"] as const) {
      if (!(values.only?.includes(runtime) ?? true)) continue;
      wrong += await tryRuntime(
        runtime,
        major,
        cells,
        () => runtime === "workerd" ? runWorkerd(root, places, dsns) : runNative(runtime, dsns),
      );
    }
  } finally {
    await stop();
  }
  const signs = Object.entries(SIGNS).map(([outcome, sign]) => `${sign} ${outcome}`);
  print(`\n${signs.join("   ")}`);
  print(`in each group: ${AUTHENTICATIONS.join(" | ")}`);
  print(`PostgreSQL ${major}: ${wrong} cells not as expected`);
  return wrong === 0 ? 0 : 1;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

process.exit(await main());
