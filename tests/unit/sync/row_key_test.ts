import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { tellsKey } from "../../../src/sync/row_key.ts";

test("tables that do not tell which row was changed are known by their catalogue, and no others", () => {
  const said = (
    primaryKey: string[],
    replicaIdentity: "default" | "nothing" | "full" | "index",
    identityIndex: string[] = [],
  ) => tellsKey({ primaryKey, replicaIdentity, identityIndex });
  assertEquals(said(["id"], "default"), true);
  assertEquals(said(["id"], "full"), true);
  // Of the root of partitions: what counts are theirs.
  assertEquals(said(["id"], "nothing"), true);
  assertEquals(said(["a", "b"], "index", ["c", "b", "a"]), true);
  assertEquals(said(["a", "b"], "index", ["a"]), false);
  // Rows that are alike could not be told apart.
  assertEquals(said([], "full"), false);
  assertEquals(said([], "index", ["slug"]), false);
});
