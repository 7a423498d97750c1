/** Renders what all rounds came to as a table, `SCOREBOARD.md`. */

import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { ranges, sum, table } from "../../support/scores.ts";
import { type PartLine, readParts, rounded } from "./results.ts";

const SCOREBOARD = fileURLToPath(new URL("./SCOREBOARD.md", import.meta.url));

/** How much of which fault a scenario is to survive. */
const TARGETS: Record<string, Record<string, number>> = {
  kill: { "kill -9": 1000 },
  "server-stop": { "immediate stop": 200 },
  cut: { "cut": 500 },
  faults: { "committed": 10_000_000 },
  signals: { "SIG": 1000 },
  backfill: { "rounds": 500 },
};

/** What a figure may be at most: its 99th percentile, or its maximum where there are few. */
const LIMITS: Record<string, number> = {
  "back after a restart, ms": 1000,
  "back from a frozen session, ms": 2000,
  "fast stop beside an idle client, ms": 1000,
  "memory above idle for 1 M rows, MB": 64,
  "WAL retained past the checkpoint, segments": 2,
};

const number = new Intl.NumberFormat("en-US");

/** Makes the table from all parts. */
export async function writeScoreboard(): Promise<void> {
  const parts = await readParts();
  const names = [...new Set(parts.map(({ scenario }) => scenario))];
  const lines = [
    "<!-- deno-fmt-ignore-file -->",
    "",
    "# Scoreboard",
    "",
    "Written by `deno task chaos` from `results.jsonl`; nothing in it is written by hand. A round is one",
    "seed: `deno task chaos SCENARIO --seed N` plays it again. Every change is counted once for each",
    "consumer that had to handle it.",
    "",
    ...table(
      [
        "scenario",
        "faults",
        "changes",
        "lost",
        "out of order",
        "wrong",
        "again, in the unconfirmed window",
        "again, otherwise",
        "rounds (failed)",
        "seeds",
        "target",
      ],
      names.map((name) => scenarioRow(name, parts.filter((part) => part.scenario === name))),
    ),
    "",
    ...table(
      ["figure", "measured", "median", "99th percentile", "most", "target"],
      figureRows(parts),
    ),
    "",
    ...table(
      ["scenario", "runtimes", "PostgreSQL", "commits", "days", "hours"],
      names.map((name) => whereRow(name, parts.filter((part) => part.scenario === name))),
    ),
    "",
  ];
  await writeFile(SCOREBOARD, lines.join("\n"));
}

function scenarioRow(name: string, parts: PartLine[]): string[] {
  const counts = (of: keyof PartLine["counts"]) => sum(parts.map((part) => part.counts[of]));
  const faults = new Map<string, number>();
  for (const part of parts) {
    for (const [fault, count] of Object.entries(part.faults)) {
      faults.set(fault, (faults.get(fault) ?? 0) + count);
    }
  }
  const rounds = sum(parts.map(({ rounds }) => rounds));
  return [
    name,
    [...faults].map(([fault, count]) => `${number.format(count)} × ${fault}`).join(", "),
    number.format(counts("committed")),
    `${counts("lost")}`,
    `${counts("misordered")}`,
    `${counts("wrong")}`,
    number.format(counts("duplicates") - counts("unexplained")),
    `${counts("unexplained")}`,
    `${rounds} (${sum(parts.map(({ failures }) => failures))})`,
    ranges(parts.map(({ firstSeed, rounds }) => [firstSeed, firstSeed + rounds - 1])),
    target(name, new Map([...faults, ["committed", counts("committed")], ["rounds", rounds]])),
  ];
}

function target(name: string, counts: ReadonlyMap<string, number>): string {
  const [[wanted, least] = []] = Object.entries(TARGETS[name] ?? {});
  if (wanted === undefined || least === undefined) return "";
  const reached = sum(
    [...counts].filter(([what]) => what.startsWith(wanted)).map(([, count]) => count),
  );
  return `${number.format(least)}: ${reached >= least ? "reached" : number.format(reached)}`;
}

function figureRows(parts: PartLine[]): string[][] {
  const names = new Set(parts.flatMap(({ figures }) => Object.keys(figures)));
  return [...names].map((name) => {
    const values = parts.flatMap(({ figures }) => figures[name] ?? []).sort((a, b) => a - b);
    const at = (share: number) => values[Math.ceil(values.length * share) - 1]!;
    const limit = LIMITS[name];
    return [
      name,
      `${values.length}`,
      `${rounded(at(0.5))}`,
      `${rounded(at(0.99))}`,
      `${rounded(at(1))}`,
      limit === undefined ? "" : `≤ ${limit}: ${at(0.99) <= limit ? "reached" : "missed"}`,
    ];
  });
}

function whereRow(name: string, parts: PartLine[]): string[] {
  const all = (of: (part: PartLine) => (string | number)[]) => [...new Set(parts.flatMap(of))];
  return [
    name,
    all(({ runtimes }) => runtimes).sort().join(", "),
    all(({ servers }) => servers).sort().join(", "),
    all(({ commit }) => [commit]).join(", "),
    all(({ date }) => [date]).join(", "),
    (sum(parts.map(({ seconds }) => seconds)) / 3600).toFixed(1),
  ];
}
