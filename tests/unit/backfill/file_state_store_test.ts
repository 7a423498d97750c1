import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { BackfillError } from "../../../src/backfill/errors.ts";
import { FileStateStore } from "../../../src/backfill/file_state_store.ts";
import { stateStoreContract } from "../../contract/state_store_contract.ts";

stateStoreContract("FileStateStore", async () => {
  const folder = await mkdtemp(join(tmpdir(), "pgstream-state-"));
  const path = join(folder, "state.json");
  return {
    store: new FileStateStore(path),
    reopen: () => Promise.resolve(new FileStateStore(path)),
    release: () => rm(folder, { recursive: true }),
  };
});

describe("a state file", () => {
  let folder: string;
  let path: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "pgstream-state-"));
    path = join(folder, "state.json");
  });
  afterEach(() => rm(folder, { recursive: true }));

  test("is made by the first set, not by reading, and nothing stays beside it", async () => {
    const store = new FileStateStore(path);
    assertEquals(await store.get("a"), null);
    assertEquals(await readdir(folder), []);
    await store.set("a", "1");
    await store.set("b", "2");
    assertEquals(await readdir(folder), ["state.json"]);
    assertEquals(JSON.parse(await readFile(path, "utf8")), { a: "1", b: "2" });
  });

  test("that is no JSON object of texts is named, and never overwritten", async () => {
    for (const text of ["", "{", "[]", "null", '"text"', '{"a":1}', '{"a":"secret"', "secret"]) {
      await writeFile(path, text);
      const store = new FileStateStore(path);
      for (const call of [() => store.get("a"), () => store.set("a", "1")]) {
        const error = await assertRejects(call, BackfillError);
        assertEquals(error.kind, "state-store");
        assertStringIncludes(error.message, path);
        assertEquals(`${error.message}${error.cause}`.includes("secret"), false);
      }
      assertEquals(await readFile(path, "utf8"), text);
    }
    await rm(path);
    const store = new FileStateStore(path);
    await store.set("a", "1");
    assertEquals(await store.get("a"), "1");
  });

  test("that cannot be written leaves the old one, nothing beside it, and the way out", async () => {
    await mkdir(path);
    const store = new FileStateStore(path);
    const read = await assertRejects(() => store.get("a"), BackfillError);
    assertEquals(read.kind, "state-store");
    const missing = new FileStateStore(join(folder, "nowhere", "state.json"));
    assertEquals(await missing.get("a"), null);
    const error = await assertRejects(() => missing.set("a", "1"), BackfillError);
    assertEquals(error.kind, "state-store");
    assertStringIncludes(error.message, "nowhere");
    assertEquals(await readdir(folder), ["state.json"]);
  });
});
