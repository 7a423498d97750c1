/**
 * Plays batches of one target, in a process of its own: `play.ts` runs it and reads what it prints, a line of JSON
 * for each batch that begins, each finding, and the end.
 */
import { writeSync } from "node:fs";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { collectGarbage } from "../support/collect_garbage.ts";
import { Dice } from "./dice.ts";
import { Mutator } from "./mutate.ts";
import { type Batch, FAULTY, TARGETS } from "./target.ts";
import { HANG_MS, shown, Tally } from "./tally.ts";

/** What is to be played. */
export interface Order {
  target: string;
  /** Of the first batch; the next one has the next. */
  seed: number;
  /** Ends after the batch in which they are over. */
  seconds: number;
  /** At most. */
  batches: number;
  /** Each case says that it begins. */
  trace: boolean;
}

/** What must not be. */
export interface FoundLine {
  seed: number;
  /** Of the batch's cases; −1 for what is no single case's. */
  case: number;
  what: string;
}

/** What was played. */
export interface Report {
  batches: number;
  cases: number;
  bytes: number;
  messages: number;
  refused: Record<string, number>;
  slowestMs: number;
  /** How much more is in use at the end than after the first part, all garbage collected. */
  grownBytes: number;
  seconds: number;
}

/** A line of what is printed: that it is there, that a batch begins, … */
export type Line =
  | { ready: true }
  | { began: number }
  | { case: number }
  | { found: FoundLine }
  | { report: Report };

/** One batch in so many is looked at in a way that takes time. */
const WATCHED_EVERY = 8;
/** A promise that is not settled after so many turns, of a second each, never is. */
const MOST_TURNS = 10;
const TURN_MS = 1000;
const MOST_FINDINGS = 5;
/** How much of the time passes before memory is looked at first. */
const WARM_UP = 0.4;
const LEAST_GROWTH_BYTES = 12 << 20;
/** Before there were so many batches since, what grows is what the runtime learns. */
const LEAST_BATCHES = 20;

function tell(line: Line): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

class Player {
  readonly #order: Order;
  readonly #batch: Batch;
  readonly #tally = new Tally();
  #findings = 0;

  constructor(order: Order, batch: Batch) {
    this.#order = order;
    this.#batch = batch;
  }

  async play(): Promise<void> {
    const { seed, seconds, batches } = this.#order;
    const beganAt = performance.now();
    const passed = () => (performance.now() - beganAt) / 1000;
    let first: number | null = null;
    let firstAt = 0;
    let played = 0;
    while (played < batches && (played === 0 || passed() < seconds)) {
      if (this.#findings >= MOST_FINDINGS) break;
      await this.#playOne((seed + played) >>> 0);
      played++;
      if (first === null && (passed() >= seconds * WARM_UP || played >= batches * WARM_UP)) {
        first = await usedBytes();
        firstAt = played;
      }
    }
    const grownBytes = await usedBytes() - (first ?? 0);
    if (grownBytes > LEAST_GROWTH_BYTES && played - firstAt >= LEAST_BATCHES) {
      this.#found({ seed, case: -1, what: `${grownBytes} bytes more are in use at the end` });
    }
    const { cases, bytes, messages, refused, slowestMs } = this.#tally;
    tell({
      report: {
        batches: played,
        cases,
        bytes,
        messages,
        refused: Object.fromEntries(refused),
        slowestMs,
        grownBytes,
        seconds: passed(),
      },
    });
  }

  async #playOne(seed: number): Promise<void> {
    tell({ began: seed });
    const tally = this.#tally;
    if (this.#order.trace) tally.onCase = (index) => tell({ case: index });
    const failure = await playBatch(this.#batch, seed, tally);
    if (failure !== null) this.#found(failure);
    for (const { index, ms } of tally.slow) {
      const again = await this.#cpuMs(seed, index);
      tally.slowestMs = Math.max(tally.slowestMs, again);
      if (again <= HANG_MS) continue;
      const what = `It took ${Math.round(ms)} ms, and ${
        Math.round(again)
      } ms of CPU when played again`;
      this.#found({ seed, case: index, what });
    }
  }

  /** How much of the processor one case takes: slow once may be the machine, which has other things to do. */
  async #cpuMs(seed: number, slowCase: number): Promise<number> {
    tell({ began: seed });
    const tally = new Tally();
    let before: NodeJS.CpuUsage | null = null;
    let after: NodeJS.CpuUsage | null = null;
    tally.onCase = (index) => {
      if (index === slowCase) before = process.cpuUsage();
      if (index === slowCase + 1) after = process.cpuUsage(before ?? undefined);
    };
    await playBatch(this.#batch, seed, tally);
    const { user, system } = after ?? process.cpuUsage(before ?? undefined);
    return (user + system) / 1000;
  }

  #found(found: FoundLine): void {
    this.#findings++;
    tell({ found });
  }
}

async function playBatch(batch: Batch, seed: number, tally: Tally): Promise<FoundLine | null> {
  const dice = new Dice(seed);
  const stage = {
    dice,
    mutator: new Mutator(dice),
    spare: new Mutator(dice),
    tally,
    watched: seed % WATCHED_EVERY === 0,
  };
  tally.beginBatch();
  // A nonce of chance would be another one when the batch is played again.
  const nonces = new Dice(~seed);
  crypto.getRandomValues = (array) => {
    (array as unknown as Uint8Array).forEach((_byte, i, bytes) => bytes[i] = nonces.below(256));
    return array;
  };
  try {
    const playing = batch(stage);
    if (playing !== undefined) await inTime(playing, tally);
    tally.endBatch();
    return null;
  } catch (error) {
    return { seed, case: tally.index, what: shown(error) };
  }
}

/** Waits for a batch, as long as its cases come to an end. */
async function inTime(playing: Promise<void>, tally: Tally): Promise<void> {
  const controller = new AbortController();
  const late = async () => {
    let seen = -1;
    // Not by the clock alone: a process that was not let run has done nothing either.
    for (let turns = 0; turns < MOST_TURNS; turns++) {
      await delay(TURN_MS, undefined, controller);
      if (tally.index !== seen) turns = 0;
      seen = tally.index;
    }
    throw new Error(`Nothing has come of it in ${MOST_TURNS * TURN_MS} ms`);
  };
  try {
    await Promise.race([playing, late()]);
  } finally {
    controller.abort();
  }
}

async function usedBytes(): Promise<number> {
  await collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const order = JSON.parse(process.argv[2]!) as Order;
const load = TARGETS[order.target] ?? FAULTY[order.target];
if (load === undefined) throw new Error(`There is no target ${order.target}`);
const { batch } = await load();
tell({ ready: true });
await new Player(order, batch).play();
process.exit(0);
