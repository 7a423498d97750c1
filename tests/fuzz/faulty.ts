/** Targets that are wrong on purpose, each in one way: what finds nothing here finds nothing anywhere. */
import process from "node:process";
import type { Stage } from "./target.ts";

const CASES = 10;
const FAULTY_CASE = 6;
const leaked: Uint8Array[] = [];

function play({ tally }: Stage, fault: () => void): void {
  for (let i = 0; i < CASES; i++) {
    tally.begin(1);
    if (i === FAULTY_CASE) fault();
  }
}

/** An error that is not the library's. */
export function throwsAnother(stage: Stage): void {
  play(stage, () => stage.tally.refuse(new TypeError("undefined is not iterable")));
}

/** Never comes back. */
export function hangs(stage: Stage): void {
  play(stage, () => {
    for (let i = 0; i >= 0; i = (i + 1) % 1000);
  });
}

/** Waits for what never comes. */
export async function waits({ tally }: Stage): Promise<void> {
  for (let i = 0; i < CASES; i++) {
    tally.begin(1);
    if (i === FAULTY_CASE) await new Promise(() => {});
  }
}

/** Comes back, late. */
export function isSlow(stage: Stage): void {
  play(stage, () => {
    const before = process.cpuUsage();
    for (let usedUs = 0; usedUs < 1_050_000;) {
      const { user, system } = process.cpuUsage(before);
      usedUs = user + system;
    }
  });
}

/** Lets go of nothing. */
export function leaks(stage: Stage): void {
  play(stage, () => leaked.push(new Uint8Array(1 << 20).fill(1)));
}
