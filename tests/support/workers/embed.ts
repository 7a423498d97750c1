/** A Worker that embeds texts when it is asked to, and says what it was given. */

import {
  batchEmbedder,
  chunkText,
  EmbedError,
  openAiEmbedder,
  type OpenAiEmbedderOptions,
} from "../../../src/sync/mod.ts";
import { fingerprint } from "../../../src/sync/fingerprint.ts";

/** What is asked for. */
export interface EmbedOrder {
  text: string;
  maxChars: number;
  embedder: Omit<OpenAiEmbedderOptions, "fetch" | "apiKey"> & { apiKey: string };
}

/** What came of it. */
export interface EmbedAnswer {
  chunks: string[];
  vectors: number[][];
  fingerprint: string;
  error: { kind: string; message: string } | null;
}

export default {
  async fetch(request: Request): Promise<Response> {
    const { text, maxChars, embedder } = await request.json() as EmbedOrder;
    const chunks = chunkText({ maxChars })(text);
    const answer: EmbedAnswer = {
      chunks,
      vectors: [],
      fingerprint: await fingerprint({ text, model: embedder.model }),
      error: null,
    };
    try {
      const embed = batchEmbedder(openAiEmbedder(embedder), {
        maxTexts: 2,
        retry: { attempts: 2, minDelayMs: 1, maxDelayMs: 5 },
      });
      answer.vectors = (await embed(chunks)).map((vector) => Array.from(vector));
    } catch (error) {
      if (!(error instanceof EmbedError)) throw error;
      answer.error = { kind: error.kind, message: error.message };
    }
    return Response.json(answer);
  },
};
