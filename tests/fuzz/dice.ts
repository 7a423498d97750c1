/** Choices that come again with their seed. */
import { seededRandom } from "../support/random.ts";

/** Draws numbers, from a seed. */
export class Dice {
  readonly #random: () => number;

  /** @param seed an unsigned 32-bit number. */
  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  /** From 0 up to, not including, 1. */
  unit(): number {
    return this.#random();
  }

  /** A whole number from 0 up to, not including, `end`. */
  below(end: number): number {
    return Math.floor(this.#random() * end);
  }

  /** A whole number from `first` to `last`. */
  between(first: number, last: number): number {
    return first + this.below(last - first + 1);
  }

  /** From 1 to `most`, small ones far more often than large ones. */
  size(most: number): number {
    return Math.max(1, Math.floor(most ** this.#random()));
  }

  /** True in this share of the calls. */
  chance(share: number): boolean {
    return this.#random() < share;
  }

  /** One of them. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

/** Bytes of chance, the same in every run: to be copied out of, which is quicker than to draw them. */
export const NOISE: Uint8Array = makeNoise(1 << 20);

function makeNoise(length: number): Uint8Array {
  const random = seededRandom(4711);
  const noise = new Uint8Array(length);
  for (let at = 0; at < length; at++) noise[at] = random() * 256;
  return noise;
}
