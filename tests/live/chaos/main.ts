/**
 * Breaks the library on purpose, for as long as one likes, and keeps score.
 *
 * ```sh
 * deno task chaos                        # every scenario, some rounds of each
 * deno task chaos kill --rounds 100      # goes on from the last seed that was played
 * deno task chaos cut --minutes 30
 * deno task chaos kill --seed 17         # plays one round again, and keeps no score
 * deno task chaos sync --rows 100000     # of rounds of `sync`, tables of so many rows
 * ```
 */

import process from "node:process";
import { parseArgs } from "node:util";
import { RUNTIMES } from "../../support/run/runtimes.ts";
import { type PostgresServer, startPostgres } from "../../support/servers/postgres.ts";
import type { RoundResult } from "./round.ts";
import { scenarios, servers } from "./scenarios.ts";
import { addPart, nextSeed, Part, rounded } from "./results.ts";
import { writeScoreboard } from "./scoreboard.ts";

const MAJORS = [18, 17, 16, 15, 14, 13, 12, 11, 10];
/** Rounds on one server; what is finished is written down after each such part. */
const ROUNDS_OF_PART = 10;
const LONG = { writingMs: 4000, faultyEvents: 100_000, unwatchedMb: 10_240 };
const SERVER_LIFETIME_MS = 6 * 3_600_000;

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Plays a part: rounds on one server. @returns whether all went well. */
async function play(
  name: string,
  seeds: number[],
  until: number,
  { keep, rows }: { keep: boolean; rows: string | undefined },
): Promise<boolean> {
  const scenario = scenarios[name]!;
  const part = await Part.begin(name, seeds[0]!);
  const { majors, settings } = servers[name] ?? { majors: MAJORS, settings: {} };
  const major = majors[Math.floor(seeds[0]! / ROUNDS_OF_PART) % majors.length]!;
  let server: PostgresServer | undefined;
  try {
    server = await startPostgres({ major, settings, lifetimeMs: SERVER_LIFETIME_MS });
    const stage = {
      server,
      runtimes: RUNTIMES,
      ...LONG,
      ...(rows === undefined ? {} : { syncedRows: Number(rows) }),
    };
    for (const seed of seeds) {
      if (performance.now() > until) break;
      const beganAt = performance.now();
      const result = await scenario(stage, seed);
      part.add(result, major);
      print(`${name} --seed ${seed}: ${summary(result)}, ${seconds(beganAt)} s, on ${major}`);
      for (const complaint of result.complaints) print(complaint.replaceAll(/^/gm, "  | "));
    }
  } finally {
    await server?.stop("immediate");
  }
  if (keep && part.rounds > 0) await addPart(part);
  return part.failures === 0;
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}

function summary({ faults, verdicts, runtimes, figures, complaints }: RoundResult): string {
  const sum = (of: "committed" | "lost" | "misordered" | "duplicates") =>
    verdicts.reduce((total, verdict) => total + verdict[of], 0);
  return [
    complaints.length === 0 ? "ok" : "FAILED",
    ...Object.entries(faults).map(([fault, count]) => `${count} × ${fault}`),
    `${sum("committed")} events, ${sum("lost")} lost, ${sum("misordered")} misordered, ` +
    `${sum("duplicates")} again`,
    ...Object.entries(figures).map(([what, values]) => `${what}: ${values.map(rounded).join(" ")}`),
    runtimes.join(" "),
  ].join(", ");
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      seed: { type: "string" },
      rounds: { type: "string" },
      minutes: { type: "string" },
      rows: { type: "string" },
    },
    allowPositionals: true,
  });
  const names = positionals.length === 0 ? Object.keys(scenarios) : positionals;
  for (const name of names) {
    if (!(name in scenarios)) throw new Error(`Choose of ${Object.keys(scenarios).join(", ")}`);
  }
  const minutes = values.minutes === undefined ? Infinity : Number(values.minutes) / names.length;
  // A round that is repeated is no new evidence.
  const keep = values.seed === undefined;
  const rounds = Number(
    values.rounds ?? (values.minutes !== undefined ? Infinity : keep ? ROUNDS_OF_PART : 1),
  );
  let well = true;
  for (const name of names) {
    const until = performance.now() + minutes * 60_000;
    const first = values.seed === undefined ? await nextSeed(name) : Number(values.seed);
    const end = first + rounds;
    for (let seed = first; seed < end && performance.now() < until;) {
      const size = Math.min(ROUNDS_OF_PART - seed % ROUNDS_OF_PART, end - seed);
      const seeds = Array.from({ length: size }, (_, index) => seed + index);
      well = await play(name, seeds, until, { keep, rows: values.rows }) && well;
      seed += size;
    }
  }
  if (keep) await writeScoreboard();
  return well ? 0 : 1;
}

process.exit(await main());
