/** From what a configuration says of a model to its embedder. */

import type { Embedder } from "../sync/embedder.ts";
import { openAiEmbedder } from "../sync/open_ai_embedder.ts";
import type { EmbedderConfig } from "./config.ts";
import { sameKey } from "./same_key.ts";
import { inPlace } from "./stores.ts";

/** Tables that say the same share an embedder, and its limits. */
export class Embedders {
  readonly #made = new Map<string, Embedder>();

  /** The embedder. @param place in the file, for errors @throws {CliError} of kind `config` */
  of(embedder: EmbedderConfig | Embedder, place: string): Embedder {
    if (typeof embedder === "function") return embedder;
    const key = sameKey(embedder);
    const { batch: _, ...options } = embedder;
    try {
      const made = this.#made.get(key) ?? openAiEmbedder(options);
      this.#made.set(key, made);
      return made;
    } catch (error) {
      throw inPlace(place, error);
    }
  }
}
