/** What benchmarks share: contenders in turns, medians and ratios of them, and how a report is printed. */

import { cpus, totalmem } from "node:os";
import process from "node:process";
import { judge } from "./targets.ts";

/** Plain keys, in the order in which they are printed. */
export type Report = Record<string, string | number>;

/** The middle one of the values; of two in the middle the higher. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

/** So many digits behind the point. */
export function rounded(value: number, digits = 2): number {
  return +value.toFixed(digits);
}

/** What it runs on, as every report begins. */
export function machine(): Report {
  const { deno, bun, node } = process.versions as Record<string, string | undefined>;
  const [cpu] = cpus();
  return {
    runtime: deno !== undefined
      ? `Deno ${deno}`
      : bun !== undefined
      ? `Bun ${bun}`
      : `Node ${node}`,
    cpu: cpu?.model ?? "unknown",
    cores: cpus().length,
    memory_gb: Math.round(totalmem() / 2 ** 30),
  };
}

/** What is measured, by its name. */
export type Contenders<Name extends string> = Record<Name, () => number | Promise<number>>;

/**
 * Measures contenders in turns, so that what the machine does meanwhile meets all of them: each round begins with
 * another one.
 *
 * @returns of each what its rounds gave, the first round first
 */
export async function inTurns<Name extends string>(
  rounds: number,
  contenders: Contenders<Name>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contenders) as Name[];
  const found = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<
    Name,
    number[]
  >;
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(round + turn) % names.length]!;
      found[name].push(await contenders[name]());
    }
  }
  return found;
}

/** The median of the ratios of each round: what slowed the machine down for one has slowed down the other. */
export function ratio(ours: readonly number[], theirs: readonly number[]): number {
  return median(ours.map((value, round) => value / theirs[round]!));
}

/** Prints it for a person, with what was aimed at, or as one line of JSON for a program. */
export function print(report: Report, json: boolean): void {
  if (json) return console.log(JSON.stringify(report));
  for (const [key, value] of Object.entries(report)) {
    const judged = judge(key, value, `${report.runtime}`);
    const aim = judged === null ? "" : `   ${judged.target}: ${judged.met ? "met" : "missed"}`;
    console.log(`${key.padEnd(44)} ${value}${aim}`);
  }
}
