/** How long things took, in buckets. */

/** Seconds: from a handler that does next to nothing to a model that is overloaded. */
export const DURATION_BUCKETS: readonly number[] = [
  ...[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
];

/** Counts values by the least of the buckets that holds them. */
export class Histogram {
  readonly #counts = new Array<number>(DURATION_BUCKETS.length + 1).fill(0);
  #sum = 0;

  /** Adds one. */
  add(seconds: number): void {
    const at = DURATION_BUCKETS.findIndex((most) => seconds <= most);
    this.#counts[at === -1 ? DURATION_BUCKETS.length : at]!++;
    this.#sum += seconds;
  }

  /** All of them, in seconds. */
  get sum(): number {
    return this.#sum;
  }

  /** Upper bounds, the last one infinite, and how many values are not above each. */
  cumulative(): [bound: number, count: number][] {
    let count = 0;
    return this.#counts.map((own, at) => [DURATION_BUCKETS[at] ?? Infinity, count += own]);
  }
}
