/** What was played, kept in `results.jsonl`: a line for each target and each time. */
import { appendFile, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { RUNTIMES } from "../support/run/runtimes.ts";
import process from "node:process";
import { currentCommit } from "../support/scores.ts";
import type { Report } from "./play.ts";

const RESULTS = fileURLToPath(new URL("./results.jsonl", import.meta.url));

/** A line of the results. */
export interface PartLine extends Report {
  target: string;
  firstSeed: number;
  findings: number;
  runtime: string;
  /** Of the sources; with a `+` where they were changed since. */
  commit: string;
  date: string;
}

/** Writes a part down. */
export async function addPart(
  target: string,
  firstSeed: number,
  report: Report,
  findings: number,
): Promise<void> {
  const line: PartLine = {
    target,
    firstSeed,
    findings,
    ...report,
    slowestMs: Math.round(report.slowestMs),
    seconds: Math.round(report.seconds),
    // Bun and Deno have a version of Node's too.
    runtime: RUNTIMES.find((name) => process.versions[name] !== undefined) ?? "unknown",
    commit: await currentCommit(),
    date: new Date().toISOString().slice(0, 10),
  };
  await appendFile(RESULTS, `${JSON.stringify(line)}\n`);
}

/** All of them, in the order in which they were played. */
export async function readParts(): Promise<PartLine[]> {
  const text = await readFile(RESULTS, "utf8").catch(() => "");
  return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

/** The first seed of a target that was never played. */
export async function nextSeed(target: string): Promise<number> {
  const ends = (await readParts())
    .filter((part) => part.target === target)
    .map(({ firstSeed, batches }) => firstSeed + batches);
  return Math.max(1, ...ends);
}
