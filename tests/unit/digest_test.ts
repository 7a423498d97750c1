import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { hexDigest, webDigest } from "../../src/digest.ts";

test("a store that one runtime filled is known to another: digests are the same by both ways", async () => {
  // FIPS 180-4, its example of one block.
  const abc = new TextEncoder().encode("abc");
  assertEquals(await hexDigest("SHA-1", abc), "a9993e364706816aba3e25717850c26c9cd0d89d");
  for (const length of [0, 1, 63, 64, 65, 10_000]) {
    const bytes = Uint8Array.from({ length }, (_, at) => at * 7);
    for (const name of ["SHA-1", "SHA-256"] as const) {
      assertEquals(await hexDigest(name, bytes), await webDigest(name, bytes));
    }
  }
});

test("rows do not wait for another thread: digests are there at once where the runtime has node:crypto", () => {
  assertEquals(typeof hexDigest("SHA-256", new Uint8Array(1)), "string");
});
