import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { PostgresError } from "../../../mod.ts";

test("values of rows in a server's error can be read, and are in nothing that is printed", () => {
  const fields = {
    detail: "Key (content)=(a value) already exists.",
    where: "INSERT INTO documents VALUES ('a value')",
    internalQuery: "SELECT 'a value'",
  };
  const error = new PostgresError({
    severity: "ERROR",
    code: "23505",
    message: "duplicate key value violates unique constraint",
    ...fields,
  });
  const { detail, where, internalQuery } = error;
  assertEquals({ detail, where, internalQuery }, fields);

  // The consoles of the runtimes print errors each in a way of their own.
  const program = fileURLToPath(new URL("../../support/print_error.ts", import.meta.url));
  const args = [program, "c4nary"];
  if (process.versions.deno !== undefined) args.unshift("run", "-A", "--no-check");
  const { stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    timeout: 20_000,
  });
  for (const printed of [stdout, stderr]) {
    assertStringIncludes(printed, "23505");
    assert(!printed.includes("c4nary"), printed);
  }
});
