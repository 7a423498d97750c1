/** What every state store does: one suite for all of them. */

import { afterEach, beforeEach, describe, test } from "node:test";
import { assertEquals } from "@std/assert";
import type { StateStore } from "../../src/backfill/state_store.ts";

/** A store that nobody else uses. */
export interface StateStoreUnderTest {
  store: StateStore;
  /** What a process finds that starts now; null where the state ends with its process. */
  reopen: (() => Promise<StateStore>) | null;
  release(): Promise<void>;
}

const ODD_KEYS = ["", " ", "a'b\\c", 'quote " {}', "Ünïcödé 🐘", "line\nbreak", "__proto__", "%_"];

export function stateStoreContract(
  name: string,
  makeStore: () => Promise<StateStoreUnderTest>,
): void {
  describe(`state store contract: ${name}`, () => {
    let made: StateStoreUnderTest;
    beforeEach(async () => {
      made = await makeStore();
    });
    afterEach(() => made.release());

    test("a key that was never set is null", async () => {
      assertEquals(await made.store.get("missing"), null);
      for (const key of ["__proto__", "constructor", "toString"]) {
        assertEquals(await made.store.get(key), null);
      }
    });

    test("gives what was set last, and leaves the other keys alone", async () => {
      const { store } = made;
      await store.set("one", "1");
      await store.set("two", "2");
      await store.set("one", "");
      assertEquals([await store.get("one"), await store.get("two")], ["", "2"]);
    });

    test("keys and values come back as they went, whatever is in them", async () => {
      const { store } = made;
      for (const [index, key] of ODD_KEYS.entries()) {
        await store.set(key, JSON.stringify({ key, index }));
      }
      for (const [index, key] of ODD_KEYS.entries()) {
        assertEquals(await store.get(key), JSON.stringify({ key, index }), JSON.stringify(key));
      }
    });

    test("holds values of some kB", async () => {
      const value = JSON.stringify({ key: "é\\'\"\n🐘".repeat(2000) });
      await made.store.set("large", value);
      assertEquals(await made.store.get("large"), value);
    });

    test("of calls that overlap, none is lost and the last one wins", async () => {
      const { store } = made;
      await Promise.all(
        Array.from({ length: 20 }, (_, index) => store.set(`${index % 4}`, `${index}`)),
      );
      const values = await Promise.all(["0", "1", "2", "3"].map((key) => store.get(key)));
      assertEquals(values, ["16", "17", "18", "19"]);
    });

    test("keeps its state where another process finds it, if it keeps it at all", async () => {
      await made.store.set("kept", "value");
      if (made.reopen === null) return;
      const reopened = await made.reopen();
      assertEquals(await reopened.get("kept"), "value");
      await reopened.set("kept", "newer");
      assertEquals(await made.store.get("kept"), "newer");
      await reopened.close?.();
    });

    test("can be closed twice, and used again", async () => {
      await made.store.set("kept", "value");
      await made.store.close?.();
      await made.store.close?.();
      assertEquals(await made.store.get("kept"), "value");
    });
  });
}
