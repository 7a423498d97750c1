/** `pgstream verify`: whether a store has what the tables have. */

import type { Command, Invocation } from "../command.ts";
import { beside } from "../beside.ts";
import { formatCount } from "../progress_line.ts";
import { namedTables, streamOf } from "../streams.ts";
import { printable, type Terminal } from "../terminal.ts";
import type { VerifyReport } from "../../sync/verify.ts";

/** Differences that are printed; the rest is counted. */
const MOST_PRINTED = 20;

/** `pgstream verify`. */
export const verify: Command = {
  summary: "Compares the store with the tables; mends it where it is asked to",
  operands: "[TABLE…]",
  description: "Each row's vectors are looked up in the store, and each vector's row in the " +
    "table. Nothing is embedded for that. Without --repair nothing is changed, and what a " +
    "running pgstream sync has not handled yet counts as a difference.\n\n" +
    "Exit status: 0 where they are alike, or were mended; 1 where something differs.",
  options: {
    repair: {
      type: "boolean",
      help: "mend what differs: needs the slot, so that no other pgstream may run meanwhile",
    },
    json: { type: "boolean", help: "the reports, as one line of JSON" },
  },
  examples: [
    ["pgstream verify", "all tables of the file"],
    [
      "pgstream verify documents --repair",
      "one of them; what is missing, stale or orphaned is mended",
    ],
  ],
  run,
};

async function run(
  { values, positionals, settings, terminal, signal }: Invocation,
): Promise<number> {
  const told = await settings();
  const tables = namedTables(told, positionals);
  const repair = values.repair === true;
  const stream = await streamOf(told, { signal });
  const all = async (): Promise<VerifyReport[]> => {
    const reports = [];
    for (const table of tables) {
      reports.push(
        await stream.verify(table, {
          repair,
          signal,
          onProgress: ({ phase, rows, points }) =>
            terminal.progress(
              `${table}: ${
                phase === "rows"
                  ? `${formatCount(rows)} rows looked up`
                  : `${formatCount(points)} vectors looked up`
              }`,
            ),
        }),
      );
    }
    return reports;
  };
  let reports: VerifyReport[];
  try {
    reports = repair ? await beside(stream, signal, all) : await all();
  } finally {
    await stream.stop();
  }
  terminal.endProgress();
  const alike = reports.every((report) => leftOf(report) === 0);
  if (values.json === true) await terminal.printJson({ alike, tables: reports });
  else for (const report of reports) await printReport(report, terminal);
  if (!alike && !repair) {
    terminal.note("What pgstream sync has not handled yet counts; --repair mends what differs");
  }
  return alike ? 0 : 1;
}

/** What still differs. */
function leftOf({ missing, stale, orphaned, unsettled, repaired }: VerifyReport): number {
  return missing + stale + orphaned + unsettled - repaired;
}

async function printReport(report: VerifyReport, terminal: Terminal): Promise<void> {
  const { table, rows, points, missing, stale, orphaned, unsettled, repaired } = report;
  const left = leftOf(report);
  const mark = left === 0 ? terminal.tone("good", "ok  ") : terminal.tone("bad", "fail");
  const what = left === 0 && repaired === 0 ? "alike" : [
    [missing, "missing"],
    [stale, "stale"],
    [orphaned, "orphaned"],
    [unsettled, "unsettled"],
    [repaired, "mended"],
  ].filter(([count]) => count !== 0).map(([count, word]) =>
    `${formatCount(count as number)} ${word}`
  )
    .join(", ");
  await terminal.print(
    `${mark} ${table}: ${formatCount(rows)} rows, ${formatCount(points)} vectors: ${what}`,
  );
  for (const { key, chunk, kind } of report.differences.slice(0, MOST_PRINTED)) {
    const place = chunk === null || chunk === 0 ? "" : `, chunk ${chunk}`;
    await terminal.print(`     ${kind.padEnd(9)} ${printable(key)}${place}`);
  }
  const more = missing + stale + orphaned + unsettled - MOST_PRINTED;
  if (more > 0) await terminal.print(`     and ${formatCount(more)} more`);
}
