/** What rounds came to, kept in `results.jsonl`: a line for each part that was played in one go. */

import { appendFile, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { currentCommit } from "../../support/scores.ts";
import type { RoundResult } from "./round.ts";

const RESULTS = fileURLToPath(new URL("./results.jsonl", import.meta.url));

/** What verdicts count. */
export const COUNTS = [
  "committed",
  "lost",
  "misordered",
  "wrong",
  "duplicates",
  "unexplained",
  "parked",
] as const;

/** A line of the results. */
export interface PartLine {
  scenario: string;
  firstSeed: number;
  rounds: number;
  /** Rounds in which something was wrong. */
  failures: number;
  faults: Record<string, number>;
  counts: Record<typeof COUNTS[number], number>;
  figures: Record<string, number[]>;
  runtimes: string[];
  servers: number[];
  /** Of the sources; with a `+` where they were changed since. */
  commit: string;
  date: string;
  seconds: number;
}

/** Rounds that were played in one go. */
export class Part {
  readonly #line: PartLine;
  readonly #beganAt = performance.now();

  private constructor(line: PartLine) {
    this.#line = line;
  }

  /** Begins with nothing. */
  static async begin(scenario: string, firstSeed: number): Promise<Part> {
    return new Part({
      scenario,
      firstSeed,
      rounds: 0,
      failures: 0,
      faults: {},
      counts: Object.fromEntries(COUNTS.map((name) => [name, 0])) as PartLine["counts"],
      figures: {},
      runtimes: [],
      servers: [],
      commit: await currentCommit(),
      date: new Date().toISOString().slice(0, 10),
      seconds: 0,
    });
  }

  get rounds(): number {
    return this.#line.rounds;
  }

  get failures(): number {
    return this.#line.failures;
  }

  /** What it comes to so far. */
  get line(): PartLine {
    return { ...this.#line, seconds: Math.round((performance.now() - this.#beganAt) / 1000) };
  }

  /** Adds a round. */
  add(result: RoundResult, server: number): void {
    const line = this.#line;
    line.rounds++;
    if (result.complaints.length > 0) line.failures++;
    for (const [fault, count] of Object.entries(result.faults)) {
      line.faults[fault] = (line.faults[fault] ?? 0) + count;
    }
    for (const verdict of result.verdicts) {
      for (const name of COUNTS) line.counts[name] += verdict[name];
    }
    for (const [what, values] of Object.entries(result.figures)) {
      (line.figures[what] ??= []).push(...values.map(rounded));
    }
    line.runtimes = [...new Set([...line.runtimes, ...result.runtimes])].sort();
    line.servers = [...new Set([...line.servers, server])];
  }
}

/** With two digits where it is small. */
export function rounded(value: number): number {
  return value < 20 ? Math.round(value * 100) / 100 : Math.round(value);
}

/** Writes a part down. */
export async function addPart(part: Part): Promise<void> {
  await appendFile(RESULTS, `${JSON.stringify(part.line)}\n`);
}

/** All of them, in the order in which they were played. */
export async function readParts(): Promise<PartLine[]> {
  const text = await readFile(RESULTS, "utf8").catch(() => "");
  return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

/** The first seed of a scenario that was never played. */
export async function nextSeed(scenario: string): Promise<number> {
  const ends = (await readParts())
    .filter((part) => part.scenario === scenario)
    .map(({ firstSeed, rounds }) => firstSeed + rounds);
  return Math.max(1, ...ends);
}
