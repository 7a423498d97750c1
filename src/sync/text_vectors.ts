/** Vectors of texts, for all that one call needs: none is asked for twice, even where the call fails. */

import type { Vector } from "../values/vector.ts";
import type { BatchEmbedder } from "./batched_embedder.ts";
import { settled } from "./failures.ts";
import type { WantedPoint } from "./row_maker.ts";

/** What failed calls leave to be used again: 5,400 vectors of 1,536 dimensions. */
const MAX_KEPT_ELEMENTS = 8 * 1024 * 1024;

/** Vectors of calls that failed, for those that try again. What was kept first goes first. */
export class KeptVectors {
  readonly #maxElements: number;
  readonly #vectors = new Map<string, Vector>();
  #elements = 0;

  /** @param maxElements numbers in all vectors together */
  constructor(maxElements: number = MAX_KEPT_ELEMENTS) {
    this.#maxElements = maxElements;
  }

  get(name: string): Vector | undefined {
    return this.#vectors.get(name);
  }

  keep(name: string, vector: Vector): void {
    this.drop(name);
    this.#vectors.set(name, vector);
    this.#elements += vector.length;
    for (const oldest of this.#vectors.keys()) {
      if (this.#elements <= this.#maxElements) break;
      this.drop(oldest);
    }
  }

  drop(name: string): void {
    this.#elements -= this.#vectors.get(name)?.length ?? 0;
    this.#vectors.delete(name);
  }
}

/** The texts of one call for one embedder, which may be asked for at several places of it. */
export class TextVectors {
  readonly #embedder: BatchEmbedder;
  readonly #kept: KeptVectors;
  readonly #signal: AbortSignal;
  readonly #asked = new Map<string, Promise<Vector>>();
  readonly #found = new Map<string, Vector>();

  /** @param signal aborts what is not embedded yet */
  constructor(embedder: BatchEmbedder, kept: KeptVectors, signal: AbortSignal) {
    this.#embedder = embedder;
    this.#kept = kept;
    this.#signal = signal;
  }

  /** @throws {EmbedError} once all others are there, or have failed, too; the signal's reason */
  async embed(points: readonly WantedPoint[]): Promise<void> {
    await settled(points.map((point) => this.#ask(point)));
  }

  /** A vector that need not be embedded. */
  put(fingerprint: string, vector: Vector): void {
    this.#asked.set(fingerprint, Promise.resolve(vector));
    this.#found.set(fingerprint, vector);
  }

  /** The vector of a text that was embedded. */
  get(fingerprint: string): Vector {
    return this.#found.get(fingerprint)!;
  }

  /** The call is over, and what it asked for is not needed any more, or is needed again. */
  end(failed: boolean): void {
    for (const [fingerprint, vector] of this.#found) {
      if (failed) this.#kept.keep(fingerprint, vector);
      else this.#kept.drop(fingerprint);
    }
  }

  #ask({ text, fingerprint }: WantedPoint): Promise<Vector> {
    let asked = this.#asked.get(fingerprint);
    if (asked === undefined) this.#asked.set(fingerprint, asked = this.#get(text, fingerprint));
    return asked;
  }

  /** Each text is a call of its own: one with others would take them along where it fails. */
  async #get(text: string, fingerprint: string): Promise<Vector> {
    const vector = this.#kept.get(fingerprint) ??
      (await this.#embedder([text], { signal: this.#signal }))[0]!;
    this.#found.set(fingerprint, vector);
    return vector;
  }
}
