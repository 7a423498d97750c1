/** kill -9 of the client at random moments: while it starts, while it handles, while it confirms. */

import { sleep } from "../../support/streams.ts";
import { type Play, playRound, type RoundResult, type Stage } from "./round.ts";
import type { Subject } from "./subject.ts";

/** One round. */
export function kill(stage: Stage, seed: number): Promise<RoundResult> {
  return playRound(stage, seed, {
    subjects: 2,
    async harm(play) {
      await Promise.all(play.subjects.map((subject) => killAgain(subject, play)));
    },
  });
}

async function killAgain(subject: Subject, { world: { random }, written, count }: Play) {
  while (!written.aborted) {
    const consumer = await subject.begin();
    const afterMs = random() ** 2 * 600;
    if (random() < 0.85) await Promise.race([consumer.heard("handling"), sleep(3000)]);
    await sleep(afterMs);
    // One that ended by itself is for the verdict.
    if (consumer.exit !== null) return;
    await consumer.kill();
    count("kill -9");
  }
}
