/** A program of `bench/support/` in a process of its own, so that what it takes is its own, on the runtime that runs the benchmark. */

import { execFile } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** No program is to outlive a benchmark that hangs. */
const LIFETIME_MS = 600_000;

/** What a program says of its work. */
export interface Measured {
  /** How much it did. */
  changes: number;
  /** From before it connected until all was done. */
  wallSeconds: number;
  /** CPU of the whole process in that time, user and system. */
  cpuSeconds: number;
}

/** Runs `program` to its end. @throws where it fails, or did not do all that was there to do */
export async function measureChild(
  program: string,
  changes: number,
  ...args: string[]
): Promise<Measured> {
  const path = fileURLToPath(new URL(program, import.meta.url));
  // A profiler's options are for the program, too.
  const given = process.versions.deno === undefined
    ? process.execArgv
    : ["run", "-A", "--no-check"];
  const all = [...given, path, ...args, String(changes)];
  const printed = await new Promise<string>((resolve, reject) => {
    const options = { timeout: LIFETIME_MS, killSignal: "SIGKILL" } as const;
    execFile(process.execPath, all, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program} ${args[0]}: ${stderr || error.message}`));
    });
  });
  const measured = JSON.parse(printed) as Measured;
  if (measured.changes !== changes) {
    throw new Error(`${args[0]} took ${measured.changes} changes of ${changes}`);
  }
  return measured;
}

/** Runs `work`, which says how many changes it took, and prints what `measureChild` reads. */
export async function printMeasured(work: () => Promise<number>): Promise<void> {
  const cpuBefore = process.cpuUsage();
  const began = performance.now();
  const changes = await work();
  const wallSeconds = (performance.now() - began) / 1000;
  const cpu = process.cpuUsage();
  const cpuSeconds = (cpu.user + cpu.system - cpuBefore.user - cpuBefore.system) / 1e6;
  const measured: Measured = { changes, wallSeconds, cpuSeconds };
  console.log(JSON.stringify(measured));
}
