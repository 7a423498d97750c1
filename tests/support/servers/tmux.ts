/** tmux: the system's, else Debian's, unpacked into the cache. */

import { execFile } from "node:child_process";
import { chmod, mkdtemp, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { cacheFolder, exists, withLock } from "../install.ts";
import { checkDebianPlatform, debianProgram, unpackDebianPackages } from "./debian_packages.ts";

const run = promisify(execFile);

/** With the libraries that it needs. */
const PACKAGES = [
  "tmux",
  "libc6",
  "libcap2",
  "libevent-core-2.1-7t64",
  "libgcc-s1",
  "libjemalloc2",
  "libstdc++6",
  "libsystemd0",
  "libtinfo6",
  "libutempter0",
];

/** What starts tmux, before its own arguments. @throws where it cannot be had: the message says why. */
export async function tmuxProgram(): Promise<string[]> {
  try {
    await run("tmux", ["-V"]);
    return ["tmux"];
  } catch {
    return await debianTmux();
  }
}

/** The same of Debian's, whatever the system has. */
export async function debianTmux(): Promise<string[]> {
  checkDebianPlatform("tmux");
  const root = join(cacheFolder, `tmux-${process.arch}`);
  await withLock(`${root}.lock`, async () => {
    if (await exists(root)) return;
    const building = await mkdtemp(join(cacheFolder, "tmux.building-"));
    try {
      await chmod(building, 0o755);
      await unpackDebianPackages("tmux", PACKAGES, building);
      const [program, ...args] = debianProgram(building, "usr/bin/tmux");
      // What lacks a library is not to be kept.
      await run(program!, [...args, "-V"]);
      await rename(building, root);
    } finally {
      await rm(building, { recursive: true, force: true });
    }
  });
  return debianProgram(root, "usr/bin/tmux");
}
