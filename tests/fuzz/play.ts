/** Plays a target in a process of its own, so that one that never comes back can be ended, and told. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { FoundLine, Line, Order, Report } from "./player.ts";

export type { Report } from "./player.ts";

/** What is to be played; see `Order`. */
export interface Wish {
  target: string;
  seed: number;
  seconds?: number;
  batches?: number;
  /** After how long without a word a process that was ready is taken for one that hangs. Default: a minute. */
  silenceMs?: number;
}

/** What must not be, and how it is seen again. */
export interface Found extends FoundLine {
  target: string;
}

/** What came of it. */
export interface Played {
  /** Null where the process did not come to its end. */
  report: Report | null;
  found: Found[];
}

const PLAYER = fileURLToPath(new URL("./player.ts", import.meta.url));

/** Until a process is ready, on a machine that has other things to do. */
const START_MS = 60_000;

/** Plays batches, and tells what they came to. */
export async function play(wish: Wish): Promise<Played> {
  const { target, seed, seconds = Infinity, batches = Infinity, silenceMs = START_MS } = wish;
  const order = { target, seed, seconds, batches, trace: false };
  const played = await run(order, silenceMs);
  if (played.report !== null || played.lastSeed === null) return played;
  // Which case it was is found by going through the batch again; it may end well on a machine that has less to do.
  const again = await run(
    { ...order, seed: played.lastSeed, batches: 1, trace: true },
    silenceMs,
  );
  const what = again.report === null
    ? `${again.ending}: nothing came of this case`
    : `${played.ending}, but not when it was played again`;
  const found = { target, seed: played.lastSeed, case: again.lastCase, what };
  return { report: null, found: [...played.found, found] };
}

/** How a finding is seen again. */
export function commandOf({ target, seed }: Found): string {
  return `deno task fuzz --only ${target} --seed ${seed} --batches 1`;
}

interface Run extends Played {
  lastSeed: number | null;
  lastCase: number;
  ending: string;
}

async function run(order: Order, silenceMs: number): Promise<Run> {
  const deno = process.versions.deno === undefined ? [] : ["run", "-A", "--no-check"];
  // JSON has no Infinity.
  const finite = (value: number) => Math.min(value, Number.MAX_SAFE_INTEGER);
  const orderText = JSON.stringify({
    ...order,
    seconds: finite(order.seconds),
    batches: finite(order.batches),
  });
  const child = spawn(process.execPath, [...deno, PLAYER, orderText], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const run: Run = { report: null, found: [], lastSeed: null, lastCase: -1, ending: "" };
  let silent = false;
  const onSilence = () => {
    silent = true;
    child.kill("SIGKILL");
  };
  let timer = setTimeout(onSilence, START_MS);
  const printed = createInterface({ input: child.stdout! });
  printed.on("line", (text) => {
    clearTimeout(timer);
    timer = setTimeout(onSilence, silenceMs);
    const line = JSON.parse(text) as Line;
    if ("began" in line) run.lastSeed = line.began;
    else if ("case" in line) run.lastCase = line.case;
    else if ("found" in line) run.found.push({ target: order.target, ...line.found });
    else if ("report" in line) run.report = line.report;
  });
  const [[status, signal]] = await Promise.all([once(child, "exit"), once(printed, "close")]);
  clearTimeout(timer);
  run.ending = silent ? `Silent for ${silenceMs / 1000} s` : `Ended with ${status ?? signal}`;
  return run;
}
