/**
 * How long after its start a process has its first event: from the spawn to what its handler prints, with slot and
 * publication in place and a change waiting, on the runtime that runs the benchmark. Beside it the same for a program
 * that prints a line and does nothing else (`first_line_ms`), and for pg-logical-replication.
 *
 * The programs are `support/programs/first_*.js`. Deno has compiled the library's sources before, and keeps that; Node
 * and Bun strip the types at each start, which what is installed from npm has none of. So it is
 * measured a second time with the library bundled to JavaScript, `bundled_first_event_ms`. A first start
 * of each, which fills caches, is left out. Rounds alternate, and medians count.
 *
 * ```sh
 * deno task bench start [--json] [--rounds 11]
 * ```
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { install } from "../tests/support/install.ts";
import { BUNDLES, makeBundle } from "../tests/support/package/bundle.ts";
import { startPostgres } from "../tests/support/servers/postgres.ts";
import { Program } from "./support/program.ts";
import { inTurns, machine, median, print, ratio, rounded } from "./support/report.ts";

const START_LIMIT_MS = 20_000;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "11" },
  },
});
const rounds = Number(values.rounds);

/** The same program beside the library as its bundle. @returns where it is */
async function bundledProgram(folder: string): Promise<string> {
  for (const { name, code } of await makeBundle(BUNDLES[0]!, { minify: false })) {
    await writeFile(join(folder, name), code);
  }
  await writeFile(join(folder, "package.json"), `{ "private": true, "type": "module" }\n`);
  const source = await readFile(
    new URL("./support/programs/first_event.js", import.meta.url),
    "utf8",
  );
  const path = join(folder, "first_event.js");
  await writeFile(path, source.replace("../../../mod.ts", "./pgstream.js"));
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
  // All slots get a change each time: what waits in the others is moved over.
  await server.query(
    `SELECT pg_replication_slot_advance('${slot}', pg_current_wal_flush_lsn())`,
  );
  await server.query("INSERT INTO documents (title) VALUES ('waits')");
  return await firstLine(name, [server.dsn, slot, ...args]);
}

try {
  await server.query("CREATE TABLE documents (id serial PRIMARY KEY, title text)");
  for (const slot of ["ours", "bundled", "peer"]) {
    await server.query(`CREATE PUBLICATION ${slot} FOR TABLE documents`);
    await server.query(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`);
  }
  const bundled = await bundledProgram(folder);
  const contenders = {
    ours: () => firstEvent("first_event.js", "ours", "documents"),
    bundled: () => firstEvent(bundled, "bundled", "documents"),
    peer: () => firstEvent("first_event_peer.js", "peer", peer),
    line: () => firstLine("first_line.js"),
  };
  for (const start of Object.values(contenders)) await start();
  const { ours, bundled: ofBundle, peer: theirs, line } = await inTurns(rounds, contenders);
  print({
    ...machine(),
    rounds,
    first_event_ms: rounded(median(ours), 0),
    bundled_first_event_ms: rounded(median(ofBundle), 0),
    pg_logical_replication_first_event_ms: rounded(median(theirs), 0),
    first_line_ms: rounded(median(line), 0),
    first_event_vs_pg_logical_replication: rounded(ratio(ours, theirs)),
  }, values.json);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await server.stop("immediate");
  await rm(folder, { recursive: true, force: true });
}
