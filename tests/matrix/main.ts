/**
 * The matrix of shapes: what can be done to tables × PostgreSQL 10 to 18. Each shape comes exactly as is
 * expected, as events and as messages, and leaves what SELECT says; or the server cannot have it.
 *
 * ```sh
 * deno task test:matrix                       # all of it
 * deno task test:matrix --major 10 --major 18 # some servers
 * deno task test:matrix --only TRUNCATE       # the shapes whose name holds this text
 * deno task test:matrix --moved               # on servers beyond 2^57 bytes of WAL and 2^31 transactions
 * ```
 */

import process from "node:process";
import { parseArgs, stripVTControlCharacters } from "node:util";
import { startMovedPostgres } from "../support/servers/moved_postgres.ts";
import { startPostgres } from "../support/servers/postgres.ts";
import { type Outcome, playAlone, serverSettings } from "./play.ts";
import type { Shape } from "./shape.ts";
import { SHAPES } from "./shapes.ts";

const MAJORS = [10, 11, 12, 13, 14, 15, 16, 17, 18];
const MOST_LINES = 60;

type Cell = { is: "ok" } | { is: "cannot" | "FAIL"; why: string };

function cellOf(outcome: Outcome): Cell {
  if ("seen" in outcome) return { is: "ok" };
  const { error } = outcome;
  const text = error instanceof Error ? `${error.stack ?? error.message}` : String(error);
  return { is: "FAIL", why: stripVTControlCharacters(text) };
}

/** A server of the major, all shapes on it. */
async function outcomesOn(
  major: number,
  shapes: readonly Shape[],
  moved: boolean,
): Promise<Cell[]> {
  const startedAt = performance.now();
  const start = moved ? startMovedPostgres : startPostgres;
  await using server = await start({ major, settings: serverSettings(major) });
  const { dsn } = await server.createDatabase();
  const cells: Cell[] = [];
  for (const shape of shapes) {
    const why = shape.cannot?.(major) ?? null;
    if (why !== null) cells.push({ is: "cannot", why });
    else cells.push(cellOf(await playAlone(shape, { server, dsn }).catch((error) => ({ error }))));
  }
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
  print(`PostgreSQL ${server.version}: ${tally(cells)}, ${seconds} s`);
  return cells;
}

function tally(cells: Cell[]): string {
  const many = (is: Cell["is"]) => cells.filter((cell) => cell.is === is).length;
  return `${many("ok")} ok, ${many("cannot")} cannot, ${many("FAIL")} FAIL`;
}

/** A line for each shape, a sign for each major; then every reason. */
function printMatrix(shapes: readonly Shape[], found: Map<number, Cell[]>): void {
  const width = Math.max(...shapes.map(({ name }) => name.length));
  const majors = [...found.keys()];
  print(`\n${"".padEnd(width)}  ${majors.map((major) => String(major).padEnd(8)).join("")}`);
  shapes.forEach(({ name }, index) => {
    const cells = majors.map((major) => found.get(major)![index]!.is.padEnd(8));
    print(`${name.padEnd(width)}  ${cells.join("").trimEnd()}`);
  });
  print("");
  shapes.forEach(({ name }, index) => {
    const reasons = new Map<string, number[]>();
    for (const major of majors) {
      const cell = found.get(major)![index]!;
      if (cell.is === "cannot") {
        reasons.set(cell.why, [...reasons.get(cell.why) ?? [], major]);
      }
    }
    for (const [why, on] of reasons) print(`cannot on ${on.join(", ")}: ${name} (${why})`);
  });
  for (const major of majors) {
    found.get(major)!.forEach((cell, index) => {
      if (cell.is !== "FAIL") return;
      const lines = cell.why.split("\n");
      print(`\nFAIL on ${major}: ${shapes[index]!.name}`);
      print(lines.slice(0, MOST_LINES).map((line) => `  ${line.slice(0, 400)}`).join("\n"));
    });
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      major: { type: "string", multiple: true },
      moved: { type: "boolean", default: false },
    },
  });
  const shapes = SHAPES.filter(({ name }) =>
    values.only?.some((text) => name.includes(text)) ?? true
  );
  const majors = values.major?.map(Number) ?? MAJORS;
  if (shapes.length === 0) throw new Error("--only: no shape has a name with this text");
  const found = new Map<number, Cell[]>();
  for (const major of majors) found.set(major, await outcomesOn(major, shapes, values.moved));
  printMatrix(shapes, found);
  const all = [...found.values()].flat();
  print(`\n${shapes.length} shapes × ${majors.length} servers: ${tally(all)}`);
  return all.some(({ is }) => is === "FAIL") ? 1 : 0;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

process.exit(await main());
