import { assertEquals, assertRejects } from "@std/assert";
import { test } from "node:test";
import { batchEmbedder } from "../../../src/sync/batched_embedder.ts";
import { KeptVectors, TextVectors } from "../../../src/sync/text_vectors.ts";
import { RecordingEmbedder } from "./synced.ts";

const pointsOf = (...texts: string[]) =>
  texts.map((text) => ({ id: `id ${text}`, text, fingerprint: `of ${text}`, payload: {} }));

test("what failed calls leave to be used again is bounded, and the newest of it stays", () => {
  const kept = new KeptVectors(6);
  for (const name of ["a", "b", "c", "a"]) kept.keep(name, [1, 2]);
  kept.keep("d", [1, 2]);
  assertEquals(["a", "b", "c", "d"].filter((name) => kept.get(name) !== undefined), [
    "a",
    "c",
    "d",
  ]);
  kept.drop("c");
  kept.drop("c");
  kept.keep("e", [1, 2]);
  assertEquals(["a", "d", "e"].every((name) => kept.get(name) !== undefined), true);
  kept.keep("f", [1, 2, 3, 4, 5, 6, 7]);
  assertEquals(kept.get("f"), undefined);
});

test("a text that is asked for at several places of a call is embedded once", async () => {
  const embedder = new RecordingEmbedder();
  const embed = batchEmbedder(embedder.embed, { maxDelayMs: 1 });
  const vectors = new TextVectors(embed, new KeptVectors(), new AbortController().signal);
  await Promise.all([vectors.embed(pointsOf("a", "b")), vectors.embed(pointsOf("b"))]);
  // As of a sink that is slower than the others.
  await vectors.embed(pointsOf("a", "c"));
  assertEquals(embedder.take(), ["a", "b", "c"]);
});

test("vectors are kept from a call that failed until one succeeds, and no longer", async () => {
  const embedder = new RecordingEmbedder();
  embedder.refuse = (texts) => {
    if (texts.includes("bad")) throw Object.assign(new Error(), { status: 400 });
  };
  const embed = batchEmbedder(embedder.embed, { maxDelayMs: 1 });
  const kept = new KeptVectors();
  const call = async (texts: string[]) => {
    const vectors = new TextVectors(embed, kept, new AbortController().signal);
    let failed = true;
    try {
      await vectors.embed(pointsOf(...texts));
      failed = false;
    } finally {
      vectors.end(failed);
    }
  };
  await assertRejects(() => call(["a", "bad", "b", "a"]));
  assertEquals(embedder.take(), ["a", "b"]);
  await call(["a"]);
  assertEquals(embedder.take(), []);
  await call(["a", "b"]);
  assertEquals(embedder.take(), ["a"]);
});
