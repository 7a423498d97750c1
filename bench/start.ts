/**
 * How long after its start a process has its first event: from the spawn to what its handler prints, with slot and
 * publication in place and a change waiting, on the runtime that runs the benchmark. Beside it the same for a program
 * that prints a line and does nothing else (`first_line_ms`), and for pg-logical-replication.
 *
 * The programs are `support/programs/first_*.js`. The library is what a program gets that installs it: on Deno its
 * sources, which Deno has compiled before and keeps compiled; on Node and Bun a file of JavaScript for each source, as
 * the package for npm has them. From the sources Node and Bun strip the types at each start, which only somebody
 * who works on them pays: `sources_first_event_ms`. A first start of each, which fills caches, is left out. Rounds alternate,
 * and medians count.
 *
 * ```sh
 * deno task bench start [--json] [--rounds 11]
 * ```
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { rolldown } from "rolldown";
import { install } from "../tests/support/install.ts";
import { startPostgres } from "../tests/support/servers/postgres.ts";
import { Program } from "./support/program.ts";
import { createSlot, slotReleased } from "./support/slots.ts";
import { inTurns, machine, median, print, ratio, rounded } from "./support/report.ts";

const START_LIMIT_MS = 20_000;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "11" },
  },
});
const rounds = Number(values.rounds);

/** The program, importing the library as the package for npm has it. @returns where it is */
async function packagedProgram(folder: string): Promise<string> {
  const build = await rolldown({
    input: fileURLToPath(new URL("../mod.ts", import.meta.url)),
    platform: "neutral",
    external: /^node:/,
    treeshake: false,
  });
  await build.write({ dir: folder, format: "esm", preserveModules: true });
  await build.close();
  await writeFile(join(folder, "package.json"), `{ "private": true, "type": "module" }\n`);
  const program = new URL("./support/programs/first_event.js", import.meta.url);
  const source = await readFile(program, "utf8");
  const path = join(folder, "first_event.js");
  await writeFile(path, source.replace("../../../mod.ts", "./mod.js"));
  return pathToFileURL(path).href;
}

const { folder: peer } = await install("pg-logical-replication");
const server = await startPostgres({ lifetimeMs: 600_000 });
const folder = await mkdtemp(join(tmpdir(), "pgstream-bench-"));

/** From the start of a program to its first line, in milliseconds. */
async function firstLine(name: string, args: readonly string[] = []): Promise<number> {
  const began = performance.now();
  const program = new Program(name, args, START_LIMIT_MS);
  await program.line();
  const took = performance.now() - began;
  await program.ended();
  return took;
}

/** The same for a program that streams from a slot of its own, in which one change waits. */
async function firstEvent(name: string, slot: string, ...args: string[]): Promise<number> {
  await slotReleased(server, slot);
  // All slots get a change each time: what waits in the others is moved over.
  await server.query(
    `SELECT pg_replication_slot_advance('${slot}', pg_current_wal_flush_lsn())`,
  );
  await server.query("INSERT INTO documents (title) VALUES ('waits')");
  return await firstLine(name, [server.dsn, slot, ...args]);
}

try {
  await server.query("CREATE TABLE documents (id serial PRIMARY KEY, title text)");
  for (const slot of ["sources", "packaged", "peer"]) {
    await createSlot(server, slot, "documents");
  }
  const program = await packagedProgram(folder);
  const contenders = {
    sources: () => firstEvent("first_event.js", "sources", "documents"),
    packaged: () => firstEvent(program, "packaged", "documents"),
    peer: () => firstEvent("first_event_peer.js", "peer", peer),
    line: () => firstLine("first_line.js"),
  };
  for (const start of Object.values(contenders)) await start();
  const { sources, packaged, peer: theirs, line } = await inTurns(rounds, contenders);
  const ours = process.versions.deno === undefined ? packaged : sources;
  print({
    ...machine(),
    rounds,
    first_event_ms: rounded(median(ours), 0),
    first_event_vs_pg_logical_replication: rounded(ratio(ours, theirs)),
    pg_logical_replication_first_event_ms: rounded(median(theirs), 0),
    sources_first_event_ms: rounded(median(sources), 0),
    packaged_first_event_ms: rounded(median(packaged), 0),
    first_line_ms: rounded(median(line), 0),
  }, values.json);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await server.stop("immediate");
  await rm(folder, { recursive: true, force: true });
}
