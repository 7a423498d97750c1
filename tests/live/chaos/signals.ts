/** SIGTERM and SIGINT at random moments: what is handled is confirmed, and the process ends with 0. */

import { formatLsn } from "../../../mod.ts";
import { sleep } from "../../support/streams.ts";
import { type Play, playRound, type RoundResult, type Stage } from "./round.ts";
import type { Subject } from "./subject.ts";
import { pick } from "./writer.ts";

/** One round. */
export function signals(stage: Stage, seed: number): Promise<RoundResult> {
  return playRound(stage, seed, {
    subjects: 2,
    subject: (_world, index) =>
      Promise.resolve({ plan: { how: (seed + index) % 2 === 0 ? "onChange" : "onBatch" } }),
    async harm(play) {
      await Promise.all(play.subjects.map((subject) => signalAgain(subject, play)));
    },
    judge,
  });
}

async function signalAgain(subject: Subject, { world: { random }, written, count }: Play) {
  while (!written.aborted) {
    const consumer = await subject.begin();
    const signal = pick(["SIGTERM", "SIGINT"] as const, random);
    const afterMs = random() ** 2 * 600;
    if (random() < 0.85) await Promise.race([consumer.heard("handling"), sleep(3000)]);
    await consumer.heard("started");
    await sleep(afterMs);
    consumer.signal(signal);
    await Promise.race([consumer.exited, sleep(15_000)]);
    if (consumer.exit === null) {
      await consumer.kill();
      throw new Error(`The consumer did not end within 15 s of ${signal}`);
    }
    count(signal);
  }
}

/** Whoever stops in order confirms all of what it handled before the first event that it did not. */
function judge({ subjects, result }: Play): void {
  for (const subject of subjects) {
    const { oracle, lives } = subject.outcome!;
    if (oracle.verdict.lost > 0) continue;
    lives.slice(1).forEach((next, index) => {
      const again = oracle.needlesslyAgain(lives[index]!, next);
      if (again.length === 0) return;
      result.complaints.push(subject.complaint(
        `process ${index} was told to stop and confirmed ${formatLsn(next.confirmed)}: ` +
          `${again.length} events, the first at ${formatLsn(again[0]!)}, came again, ` +
          "though it had handled all up to them",
      ));
    });
  }
}
