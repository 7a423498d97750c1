/** Stops of the server under streams that must come back by themselves, some of them killed as well. */

import { sleep } from "../../support/streams.ts";
import { type Play, playRound, type RoundResult, type Stage } from "./round.ts";

/** One round. */
export function serverStop(stage: Stage, seed: number): Promise<RoundResult> {
  return playRound({ ...stage, writingMs: stage.writingMs * 2 }, seed, {
    subjects: 2,
    harm: stopAgain,
  });
}

async function stopAgain({ world, subjects, written, count }: Play): Promise<void> {
  const { server, random } = world;
  await Promise.all(subjects.map((subject) => subject.beginStreaming()));
  while (!written.aborted) {
    await sleep(200 + random() * 1200);
    const chance = random();
    const killed = random() < 0.2 ? subjects[Math.floor(random() * subjects.length)]! : null;
    const dying = killed?.processes.at(-1);
    if (chance < 0.8) {
      count("immediate stop");
      await server.shutdown("immediate");
    } else if (chance < 0.9) {
      count("fast stop");
      await server.shutdown("fast");
    } else {
      count("kill -9 of the server");
      await server.kill9();
    }
    if (dying !== undefined && dying.exit === null) {
      await dying.kill();
      count("kill -9");
    }
    await sleep(random() ** 2 * 1000);
    await server.start();
    if (dying !== undefined) await killed!.beginStreaming();
  }
}
