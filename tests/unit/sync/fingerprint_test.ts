import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { test } from "node:test";
import { EmbedError } from "../../../src/sync/embedder.ts";
import { fingerprint } from "../../../src/sync/fingerprint.ts";

test("a fingerprint is what it was: another would embed every row of every user anew", async () => {
  // printf 'model@1\0chunkText@1(2000,200)\0a text: é' | sha256sum | head -c 32
  const made = { text: "a text: é", model: "model@1" };
  assertEquals(
    await fingerprint({ ...made, chunker: "chunkText@1(2000,200)" }),
    "9635e404dbb71a0de8d2dd3776ec4a3c",
  );
  // printf 'model@1\0\0a text: é' | sha256sum | head -c 32
  assertEquals(await fingerprint(made), "cbfb142678a80a9198c72365374e0115");
});

test("what moves from one part into another makes another fingerprint", async () => {
  const inputs = [
    { model: "ab", chunker: "c", text: "d" },
    { model: "a", chunker: "bc", text: "d" },
    { model: "ab", chunker: "", text: "cd" },
    { model: "ab", chunker: "", text: "c\0d" },
    { model: "", chunker: "ab", text: "cd" },
    { model: "ab", text: "\0cd" },
  ];
  const prints = await Promise.all(inputs.map(fingerprint));
  assertEquals(new Set(prints).size, inputs.length);
  assertNotEquals(prints[0], prints[1]);
});

test("a model or chunker that holds the separator is refused", async () => {
  for (const part of [{ model: "a\0b" }, { model: "a", chunker: "b\0" }]) {
    const error = await assertRejects(() => fingerprint({ text: "t", ...part }), EmbedError);
    assertEquals(error.kind, "embed-options");
  }
});
