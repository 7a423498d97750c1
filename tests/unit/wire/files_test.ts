import { assert, assertEquals } from "@std/assert";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { readNoFile, readTextFile } from "../../../src/wire/files.ts";

let folder = "";

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgstream-files-"));
  await writeFile(join(folder, "text"), "é\n");
  await chmod(join(folder, "text"), 0o640);
  await mkdir(join(folder, "folder"));
});

after(() => rm(folder, { recursive: true }));

test("a file is read with who may use it; one that cannot be read has a reason", () => {
  const file = readTextFile(join(folder, "text"));
  assert("text" in file);
  assertEquals([file.text, file.mode & 0o777, file.uid], ["é\n", 0o640, process.getuid?.()]);
  const reason = (path: string) => {
    const unread = readTextFile(path);
    assert("reason" in unread, path);
    return unread.reason;
  };
  assertEquals(reason(join(folder, "gone")), "it does not exist");
  assertEquals(reason(folder), "it is not a plain file");
  assertEquals(reason("/dev/null"), "it is not a plain file");
  assertEquals(reason(join(folder, "text", "below")), "the system says ENOTDIR");
  assert("reason" in readNoFile(join(folder, "text")));
});
