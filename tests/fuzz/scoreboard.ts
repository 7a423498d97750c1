/** Renders what was played as a table, `SCOREBOARD.md`. */
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { ranges, sum, table } from "../support/scores.ts";
import { type PartLine, readParts } from "./results.ts";

const SCOREBOARD = fileURLToPath(new URL("./SCOREBOARD.md", import.meta.url));
/** How much is to be gone through, in bytes. */
const TARGET_BYTES = 10e9;

const number = new Intl.NumberFormat("en-US");

/** Makes the table from all parts. */
export async function writeScoreboard(): Promise<void> {
  const parts = await readParts();
  const names = [...new Set(parts.map(({ target }) => target))];
  const bytes = sum(parts.map((part) => part.bytes));
  const lines = [
    "<!-- deno-fmt-ignore-file -->",
    "",
    "# Scoreboard",
    "",
    "Written by `deno task fuzz --record` from `results.jsonl`; nothing in it is written by hand. A batch is",
    "one seed: `deno task fuzz --only TARGET --seed N --batches 1` plays it again.",
    "",
    ...table(
      ["target", "MB", "cases", "taken", "refused", "findings", "slowest case", "memory", "seeds"],
      names.map((name) => targetRow(name, parts.filter(({ target }) => target === name))),
    ),
    "",
    `${(bytes / 1e9).toFixed(1)} GB of ${TARGET_BYTES / 1e9}: ${
      bytes >= TARGET_BYTES ? "reached" : "not yet"
    }. A case of more than a second is a finding, as is memory that grows.`,
    "",
    ...table(
      ["target", "refused as", "times"],
      names.flatMap((name) => refusedRows(name, parts.filter(({ target }) => target === name))),
    ),
    "",
    ...table(
      ["target", "runtimes", "commits", "days", "hours"],
      names.map((name) => whereRow(name, parts.filter(({ target }) => target === name))),
    ),
    "",
  ];
  await writeFile(SCOREBOARD, lines.join("\n"));
}

function targetRow(name: string, parts: PartLine[]): string[] {
  const total = (of: (part: PartLine) => number) => sum(parts.map(of));
  const grown = Math.max(...parts.map(({ grownBytes }) => grownBytes));
  return [
    name,
    number.format(Math.round(total(({ bytes }) => bytes) / 1e6)),
    number.format(total(({ cases }) => cases)),
    number.format(total(({ messages }) => messages)),
    number.format(total(({ refused }) => sum(Object.values(refused)))),
    `${total(({ findings }) => findings)}`,
    `${number.format(Math.max(...parts.map(({ slowestMs }) => slowestMs)))} ms`,
    `${grown < 0 ? "" : "+"}${number.format(Math.round(grown / 1024))} KiB`,
    ranges(parts.map(({ firstSeed, batches }) => [firstSeed, firstSeed + batches - 1])),
  ];
}

function refusedRows(name: string, parts: PartLine[]): string[][] {
  const counts = new Map<string, number>();
  for (const [what, count] of parts.flatMap(({ refused }) => Object.entries(refused))) {
    counts.set(what, (counts.get(what) ?? 0) + count);
  }
  return [...counts].sort(([, a], [, b]) => b - a)
    .map(([what, count]) => [name, what, number.format(count)]);
}

function whereRow(name: string, parts: PartLine[]): string[] {
  const all = (of: (part: PartLine) => string) => [...new Set(parts.map(of))].join(", ");
  return [
    name,
    all(({ runtime }) => runtime),
    all(({ commit }) => commit),
    all(({ date }) => date),
    (sum(parts.map(({ seconds }) => seconds)) / 3600).toFixed(2),
  ];
}
