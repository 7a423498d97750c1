/** The examples in the documentation of `./testing` do what they say. */

import { assertEquals, assertMatch } from "@std/assert";
import { execFile } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const deno = process.versions.deno === undefined ? process.env.PGSTREAM_DENO : process.execPath;

test("they run, with no permission at all", {
  skip: deno ? false : "needs Deno",
}, async () => {
  const { code, stdout, stderr } = await promisify(execFile)(
    deno!,
    ["test", "--doc", "--no-prompt", "src/testing"],
    {
      cwd: fileURLToPath(new URL("../../../", import.meta.url)),
      env: { ...process.env, NO_COLOR: "1" },
    },
  ).then((output) => ({ code: 0, ...output }), (error) => error);
  assertEquals(code, 0, `${stdout}\n${stderr}`);
  assertMatch(stdout, /ok \| 4 passed/);
});
