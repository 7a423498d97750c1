/**
 * The handler of pgvector.ts and qdrant.ts, in a file of its own, so that it can be tested with no server:
 * tests/unit/examples/in_step_test.ts does.
 */
import type { ChangeEvent, Sink } from "@pgstream/pgstream";

/** Keeps a store in step with a table of texts. @param embed a text to its vector */
export function keepInStep(
  embed: (text: string) => Promise<number[]>,
): (event: ChangeEvent, sink: Sink) => Promise<void> {
  return async (event, sink) => {
    if (event.operation === "insert" || event.operation === "update") {
      if (event.oldKey !== null) await sink.delete(event.oldKey); // the key itself was changed
      if (event.unchanged.includes("content")) return; // the embedded text is what it was
      const { content } = event.row;
      if (content) {
        await sink.upsert({ id: event.key, vector: await embed(content), payload: { content } });
      } else await sink.delete(event.key); // NULL or empty: no vector
    } else if (event.operation === "delete") {
      await sink.delete(event.key);
    }
  };
}
