/** What the demo says, and how it looks. Colours only where a person reads. */

import type { VerifyReport } from "@pgstream/pgstream";
import process from "node:process";
import { styleText } from "node:util";

type Style = Parameters<typeof styleText>[0];

const colours = process.stdout.isTTY === true && !process.env.NO_COLOR;
const OPERATIONS: Record<string, Style> = {
  insert: "green",
  update: "yellow",
  delete: "red",
  truncate: "red",
};

function paint(style: Style, text: string): string {
  return colours ? styleText(style, text, { validateStream: false }) : text;
}

function write(line = ""): void {
  process.stdout.write(`${line}\n`);
}

/** One line of the list of changes. */
export interface ChangeLine {
  lsn: string;
  operation: string;
  key: string;
  done: string;
  latencyMs: number;
}

/** The name of what runs, and a line about it. */
export function showTitle(title: string, about: string): void {
  write();
  write(`${paint("bold", title)}  ${about}`);
  write();
}

/** A thing that is ready, e.g. a server. */
export function showReady(name: string, detail: string): void {
  write(`  ${paint("green", "✓")} ${name.padEnd(17)} ${paint("dim", detail)}`);
}

/** What happens next. */
export function showStep(number: number, title: string): void {
  write();
  write(paint("bold", `${number}  ${title}`));
  write();
}

/** Above the first of several changes. */
export function showChangeHeader(): void {
  write(paint(
    "dim",
    `   ${"LSN".padEnd(11)}${"operation".padEnd(11)}${"key".padEnd(12)}${
      "done".padEnd(28)
    }searchable after`,
  ));
}

/** A change that arrived and was dealt with. */
export function showChange({ lsn, operation, key, done, latencyMs }: ChangeLine): void {
  const columns = [
    paint("dim", lsn.padEnd(11)),
    paint(OPERATIONS[operation] ?? "bold", operation.padEnd(11)),
    key.padEnd(12),
    done.padEnd(28),
    paint("cyan", `${formatMs(latencyMs).padStart(16)}`),
  ];
  write(`   ${columns.join("")}`);
}

/** A bar: where a person reads it grows in place, elsewhere it is told when it is full. */
export function showProgress(done: number, total: number): void {
  const full = Math.round(20 * done / total);
  const bar = paint("green", "█".repeat(full)) + paint("dim", "░".repeat(20 - full));
  const line = `   ${bar} ${done} of ${total} rows`;
  if (done === total) write(colours ? `\r${line}` : line);
  else if (colours) process.stdout.write(`\r${line}`);
}

/** A question and the texts that are nearest to it. */
export function showAnswers(
  question: string,
  answers: { id: string; score: number; text: string }[],
): void {
  write();
  write(`   ${paint("magenta", "?")} ${paint("bold", question)}`);
  for (const [index, { id, score, text }] of answers.entries()) {
    const line = `     ${score.toFixed(2)}  ${id.padEnd(12)}${shorten(text, 66)}`;
    write(index === 0 ? line : paint("dim", line));
  }
  if (answers.length === 0) write(paint("dim", "     nothing is stored"));
}

/** What a comparison of table and store found. */
export function showVerified(
  name: string,
  report: Pick<VerifyReport, "rows" | "points" | "missing" | "stale" | "orphaned" | "repaired">,
): void {
  const { rows, points, missing, stale, orphaned, repaired } = report;
  const differences = missing + stale + orphaned;
  const found = differences === 0 ? paint("green", "no difference") : paint(
    differences === repaired ? "yellow" : "red",
    [
      `${missing} missing, ${stale} stale, ${orphaned} orphaned`,
      ...(repaired === 0 ? [] : [`${repaired} repaired`]),
    ].join("; "),
  );
  write(`   ${name.padEnd(17)} ${rows} rows, ${points} vectors: ${found}`);
}

/** A remark. */
export function showNote(text: string): void {
  write(`   ${text}`);
}

/** Something to copy, under its name. */
export function showCopy(name: string, text: string): void {
  write(`   ${name.padEnd(17)} ${paint("cyan", text)}`);
}

/** The last lines. */
export function showSummary(
  { latencies, texts }: { latencies: readonly number[]; texts: number },
  seconds: number,
): void {
  const sorted = latencies.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
  write();
  write(
    `${paint(["bold", "green"], "done")}  ${sorted.length} changes followed; searchable after ` +
      `${formatMs(median)} (median), ${formatMs(sorted.at(-1) ?? 0)} (max) from their commit; ` +
      `${texts} texts embedded; ` +
      `${seconds.toFixed(1)} s in all`,
  );
  write();
}

/** Why it failed, and the way out, in one line. */
export function showError(text: string): void {
  process.stderr.write(`${paint("red", "demo:")} ${text.replaceAll(/\s*\n\s*/g, " ")}\n`);
}

function formatMs(ms: number): string {
  return ms < 1000 ? `${Math.max(0, Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function shorten(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, text.lastIndexOf(" ", length - 1))} …`;
}
