/** What is fuzzed. */
import type { Dice } from "./dice.ts";
import type { Mutator } from "./mutate.ts";
import type { Tally } from "./tally.ts";

/** What a batch is played with. */
export interface Stage {
  dice: Dice;
  /** Empty; in its margins and behind its end lies what other batches left. */
  mutator: Mutator;
  /** Another one. */
  spare: Mutator;
  tally: Tally;
  /** True where each array that the library makes is looked at, which takes time. */
  watched: boolean;
}

/**
 * Plays some cases, a tenth of a second or so of them. The same with the same dice.
 *
 * @throws {Finding} what must not be; any other error is a finding too.
 */
export type Batch = (stage: Stage) => void | Promise<void>;

/** By name, each loaded when it is played. */
export const TARGETS: Readonly<Record<string, () => Promise<{ batch: Batch }>>> = {
  frames: () => import("./frames.ts"),
  pgoutput: () => import("./pgoutput.ts"),
  replication: () => import("./replication.ts"),
  scram: () => import("./scram.ts"),
  startup: () => import("./startup.ts"),
  values: () => import("./values.ts"),
};

/** Wrong on purpose: what shows that a finding is found. */
export const FAULTY: Readonly<Record<string, () => Promise<{ batch: Batch }>>> = {
  "faulty-error": async () => ({ batch: (await import("./faulty.ts")).throwsAnother }),
  "faulty-hang": async () => ({ batch: (await import("./faulty.ts")).hangs }),
  "faulty-wait": async () => ({ batch: (await import("./faulty.ts")).waits }),
  "faulty-slow": async () => ({ batch: (await import("./faulty.ts")).isSlow }),
  "faulty-leak": async () => ({ batch: (await import("./faulty.ts")).leaks }),
};
