/** A little of `deno task fuzz` on each runtime, and that it would tell. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, test } from "node:test";
import { commandOf, play } from "./play.ts";
import { TARGETS } from "./target.ts";

/** Played by everyone, the same each time. */
const FIXED = { seed: 1, batches: 3 };
const SECONDS = 0.5;

describe("bytes that are wrong come to a typed error, at once, and leave nothing behind (27)", () => {
  for (const target of Object.keys(TARGETS)) {
    test(target, async () => {
      const seed = Math.floor(Math.random() * 2 ** 32);
      for (const wish of [FIXED, { seed, seconds: SECONDS }]) {
        const { report, found } = await play({ target, ...wish });
        const told = found.map((one) => `${one.what}\nAgain: ${commandOf(one)}`).join("\n");
        assertEquals(found.length, 0, told);
        assert(report !== null && report.messages > 0, `--seed ${wish.seed}: nothing was played`);
        assert(Object.keys(report.refused).length > 0, `--seed ${wish.seed}: nothing was refused`);
      }
    });
  }
});

describe("a target that is wrong is found", () => {
  const FAULTS: Record<string, RegExp> = {
    "faulty-error": /^Finding: Not a typed error: TypeError/,
    "faulty-slow": /ms of CPU when played again$/,
    "faulty-leak": /bytes more are in use at the end$/,
    "faulty-hang": /nothing came of this case$/,
  };
  for (const [target, what] of Object.entries(FAULTS)) {
    test(target, async () => {
      const wish = target === "faulty-leak" ? { batches: 60 } : { batches: 1 };
      const { found } = await play({
        target,
        seed: 7,
        ...wish,
        ...(target === "faulty-hang" ? { silenceMs: 1500 } : {}),
      });
      assertEquals(found.length, 1);
      assertMatch(found[0]!.what, what);
      assertEquals(found[0]!.seed, 7);
      assertEquals(found[0]!.case, target === "faulty-leak" ? -1 : 6);
    });
  }
});
