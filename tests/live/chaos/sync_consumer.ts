/**
 * A consumer that keeps a store in step with two tables, to be broken: `sync_consumer.ts PLAN`, a plan as
 * JSON. It ends with 0 where it was told to stop, with 4 by a failure that passes, with 3 by another one.
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { isRetryable } from "../../../mod.ts";
import { seededRandom } from "../../support/random.ts";
import { type SyncPlan, syncStream } from "./sync_plan.ts";

async function main(plan: SyncPlan): Promise<void> {
  const random = seededRandom(plan.seed);
  const said = new Set<string>();
  /** To whoever breaks it. */
  const say = (word: string) => {
    if (!said.has(word)) writeSync(1, `${word}\n`);
    said.add(word);
  };
  let told = false;
  let stop: () => unknown = () => {};
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, () => {
      told = true;
      stop();
    });
  }
  while (!told) {
    const { stream, end } = syncStream(plan, () => say("handling"));
    const telling = setInterval(() => {
      if (stream.status().state === "streaming") say("streaming");
    }, 5);
    stop = () => stream.stop();
    const timer = plan.restartMs === null ? undefined : setTimeout(() => {
      writeSync(1, "again\n");
      stop();
    }, plan.restartMs * (0.2 + random()));
    try {
      say("started");
      await stream.start();
    } finally {
      clearInterval(telling);
      clearTimeout(timer);
      await end();
    }
  }
}

// Whoever breaks it may die before it does.
process.stdin.on("end", () => process.exit(9)).resume();
try {
  await main(JSON.parse(process.argv[2]!) as SyncPlan);
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(isRetryable(error) ? 4 : 3);
}
