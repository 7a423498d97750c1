/** What scoreboards have in common. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** Of the sources; with a `+` where they were changed since. */
export async function currentCommit(): Promise<string> {
  const git = async (...args: string[]) =>
    (await promisify(execFile)("git", args, { cwd: fileURLToPath(new URL(".", import.meta.url)) }))
      .stdout.trim();
  try {
    const changed = await git("status", "--porcelain", "--", ":/src", ":/mod.ts");
    return `${await git("rev-parse", "--short", "HEAD")}${changed === "" ? "" : "+"}`;
  } catch {
    return "unknown";
  }
}

/** Lines of a table in Markdown. */
export function table(head: string[], rows: string[][]): string[] {
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)];
}

/** "1–40, 51–60" @param parts the first and the last of each */
export function ranges(parts: readonly (readonly [first: number, last: number])[]): string {
  const sorted = [...parts].sort(([a], [b]) => a - b);
  const merged: [number, number][] = [];
  for (const [first, last] of sorted) {
    const before = merged.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
  }
  return merged.map(([first, last]) => first === last ? `${first}` : `${first}–${last}`).join(", ");
}

/** All of them together. */
export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
