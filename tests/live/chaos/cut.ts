/** Connections that are cut, stalled, delayed, fragmented, or lose one direction, between us and the server. */

import { seededRandom } from "../../support/random.ts";
import { sleep } from "../../support/streams.ts";
import { FaultyProxy } from "./proxy.ts";
import { playRound, type RoundResult, type Stage, withWalSenderTimeout } from "./round.ts";

/** What nobody notices by itself is noticed by the clock. */
const TIMEOUT_MS = 1500;

/** One round. */
export function cut(stage: Stage, seed: number): Promise<RoundResult> {
  return withWalSenderTimeout(stage, TIMEOUT_MS, () => playCut(stage, seed));
}

async function playCut(stage: Stage, seed: number): Promise<RoundResult> {
  const proxies: FaultyProxy[] = [];
  try {
    return await playRound({ ...stage, writingMs: stage.writingMs * 2 }, seed, {
      subjects: 2,
      async subject(world, index) {
        const random = seededRandom(seed + 0x30000000 + index);
        const proxy = await FaultyProxy.listen(world.server.port, random);
        proxies.push(proxy);
        proxy.roughness = random() < 0.5 ? 0 : 0.02;
        return { dsn: proxy.dsn(world.server.dsn) };
      },
      async harm({ subjects, world: { random }, written, count }) {
        await Promise.all(subjects.map((subject) => subject.beginStreaming()));
        await Promise.all(proxies.map(async (proxy) => {
          while (!written.aborted) {
            await sleep(random() * 900);
            const [fault, links] = harmOnce(proxy, random());
            for (let link = 0; link < links; link++) count(fault);
          }
        }));
        for (const { delayed, fragmented } of proxies) {
          for (let chunk = 0; chunk < delayed; chunk++) count("chunk delayed");
          for (let chunk = 0; chunk < fragmented; chunk++) count("chunk fragmented");
        }
      },
    });
  } finally {
    await Promise.all(proxies.map((proxy) => proxy[Symbol.asyncDispose]()));
  }
}

function harmOnce(proxy: FaultyProxy, chance: number): [fault: string, links: number] {
  if (chance < 0.35) return ["cut (RST)", proxy.cut("RST")];
  if (chance < 0.6) return ["cut (FIN)", proxy.cut("FIN")];
  if (chance < 0.75) return ["cut (client side only)", proxy.freeze()];
  if (chance < 0.8) return ["direction dropped", proxy.drop("toServer")];
  if (chance < 0.85) return ["direction dropped", proxy.drop("toClient")];
  if (chance < 0.9) return ["both directions dropped", proxy.drop("toServer", "toClient")];
  proxy.stall(chance * 1000 - 850);
  return ["stall", 1];
}
