/**
 * Gives the protocol code bytes that are wrong, for as long as one likes.
 *
 * ```sh
 * deno task fuzz --seconds 60                            # a minute, shared out among the targets
 * deno task fuzz --seconds 900 --record                  # goes on from the last seed, and keeps score
 * deno task fuzz --only frames --seed 17 --batches 1     # plays a batch again
 * ```
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { commandOf, type Found, play, type Report } from "./play.ts";
import { addPart, nextSeed } from "./results.ts";
import { writeScoreboard } from "./scoreboard.ts";
import { FAULTY, TARGETS } from "./target.ts";

/** How the time is shared out; the rest have one part. */
const SHARES: Readonly<Record<string, number>> = { frames: 3, pgoutput: 4, replication: 2 };
const DEFAULT_SECONDS = 30;
/** A process of little priority may not be let run for long. */
const SILENCE_MS = 300_000;

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string" },
      batches: { type: "string" },
      seed: { type: "string" },
      only: { type: "string", multiple: true },
      record: { type: "boolean", default: false },
    },
  });
  const names = values.only ?? Object.keys(TARGETS);
  for (const name of names) {
    if (name in TARGETS || name in FAULTY) continue;
    throw new Error(`Choose of ${Object.keys(TARGETS).join(", ")}`);
  }
  const batches = values.batches === undefined ? Infinity : Number(values.batches);
  const seconds = Number(values.seconds ?? (batches < Infinity ? Infinity : DEFAULT_SECONDS));
  const parts = names.reduce((sum, name) => sum + (SHARES[name] ?? 1), 0);
  const drawn = Math.floor(Math.random() * 2 ** 32);
  const all: Found[] = [];
  let bytes = 0;
  for (const target of names) {
    const seed = values.seed !== undefined
      ? Number(values.seed)
      : values.record
      ? await nextSeed(target)
      : drawn;
    const share = seconds * (SHARES[target] ?? 1) / parts;
    const { report, found } = await play({
      target,
      seed,
      seconds: share,
      batches,
      silenceMs: SILENCE_MS,
    });
    all.push(...found);
    print(`${target} --seed ${seed}: ${report === null ? "NO END" : summary(report)}`);
    for (const one of found) {
      print(`  FOUND in case ${one.case} of ${commandOf(one)}`);
      print(one.what.replaceAll(/^/gm, "  | "));
    }
    if (report === null) continue;
    bytes += report.bytes;
    for (const [what, count] of Object.entries(report.refused)) {
      print(`  ${count.toLocaleString("en-US")} × ${what}`);
    }
    if (values.record) await addPart(target, seed, report, found.length);
  }
  if (values.record) await writeScoreboard();
  print(`${(bytes / 1e9).toFixed(2)} GB, ${all.length} findings`);
  return all.length === 0 ? 0 : 1;
}

function summary(report: Report): string {
  const { batches, cases, messages, bytes, seconds, slowestMs, grownBytes } = report;
  const number = (value: number) => Math.round(value).toLocaleString("en-US");
  return `${number(bytes / 1e6)} MB in ${seconds.toFixed(1)} s (${
    number(bytes / 1e6 / seconds)
  } MB/s), ${number(batches)} batches, ${number(cases)} cases, ${number(messages)} taken, ` +
    `slowest ${number(slowestMs)} ms, memory ${grownBytes < 0 ? "" : "+"}${
      number(grownBytes / 1024)
    } KiB`;
}

process.exit(await main());
