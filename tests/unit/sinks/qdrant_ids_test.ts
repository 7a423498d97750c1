import { describe, test } from "node:test";
import { assertEquals, assertMatch } from "@std/assert";
import { qdrantId, uuidv5 } from "../../../src/sinks/qdrant_ids.ts";

describe("ids for Qdrant", () => {
  test("UUIDv5 is the one of RFC 9562, appendix A.4", async () => {
    const dns = Uint8Array.from(
      "6ba7b8109dad11d180b400c04fd430c8".match(/../g)!,
      (byte) => parseInt(byte, 16),
    );
    assertEquals(await uuidv5(dns, "www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
  });

  test("a UUID stays, in lower case", async () => {
    const id = "550e8400-e29b-41d4-a716-446655440000";
    assertEquals(await qdrantId(id), { id, derived: false });
    assertEquals(await qdrantId(id.toUpperCase()), { id, derived: false });
  });

  test("a whole number that JavaScript can hold stays a number", async () => {
    assertEquals(await qdrantId("0"), { id: 0, derived: false });
    assertEquals(await qdrantId("9007199254740991"), { id: 2 ** 53 - 1, derived: false });
  });

  test("every other text becomes a UUID of its own", async () => {
    const texts = [
      "9007199254740992",
      "007",
      "-1",
      "1.0",
      "1e3",
      " 1",
      "",
      "a",
      "A",
      "é",
      "e\u0301",
    ];
    const ids = await Promise.all(texts.map(qdrantId));
    for (const { id, derived } of ids) {
      assertEquals(derived, true);
      assertMatch(
        String(id),
        /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
      );
    }
    assertEquals(new Set(ids.map(({ id }) => id)).size, texts.length);
  });

  test("derived ids are the same in every version: stores in use depend on it", async () => {
    assertEquals((await qdrantId("user@example.com")).id, "149670d2-a38a-5b94-8076-acf1ea5ebc22");
  });
});
