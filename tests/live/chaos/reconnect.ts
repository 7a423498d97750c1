/** How long it takes to be back: after a restart of the server, and from a session that is frozen. */

import { seededRandom } from "../../support/random.ts";
import { sleep, until } from "../../support/streams.ts";
import { FaultyProxy } from "./proxy.ts";
import { type Play, playRound, type RoundResult, type Stage } from "./round.ts";
import type { Subject } from "./subject.ts";
import { pick } from "./writer.ts";

/** One round. */
export async function reconnect(stage: Stage, seed: number): Promise<RoundResult> {
  let proxy: FaultyProxy | undefined;
  try {
    return await playRound(stage, seed, {
      subjects: 1,
      async subject({ server }) {
        proxy = await FaultyProxy.listen(server.port, seededRandom(seed));
        return { dsn: proxy.dsn(server.dsn) };
      },
      harm: (play) => measure(play, proxy!),
    });
  } finally {
    await proxy?.[Symbol.asyncDispose]();
  }
}

async function measure(
  { world, subjects, written, count, measure: add }: Play,
  proxy: FaultyProxy,
): Promise<void> {
  const { server, random } = world;
  const [subject] = subjects;
  await subject!.beginStreaming();
  let pid = await otherPid(subject!, null);
  do {
    await sleep(random() * 300);
    if (random() < 0.5) {
      const since = performance.now();
      proxy.freeze();
      pid = await otherPid(subject!, pid);
      add("back from a frozen session, ms", performance.now() - since);
      count("frozen session");
    } else {
      await server.shutdown(pick(["fast", "immediate"], random));
      await sleep(random() * 2000);
      await server.start();
      const since = performance.now();
      pid = await otherPid(subject!, null);
      add("back after a restart, ms", performance.now() - since);
      count("restart");
    }
  } while (!written.aborted);
}

/** Waits until the slot's walsender is another one. */
function otherPid(subject: Subject, pid: number | null): Promise<number> {
  return until("the stream to be back", async () => {
    const found = await subject.walsenderPid();
    return found === pid ? null : found;
  }, 30_000);
}
