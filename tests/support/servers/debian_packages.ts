/**
 * Programs that only Debian has, unpacked into a folder of ours: nothing is installed into the system. They are built
 * for a C library that the system need not have, so it is unpacked beside them, and they are started with it.
 */

import { execFile } from "node:child_process";
import { chmod, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";

const run = promisify(execFile);

const RELEASE = "trixie";
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const APT_TIMEOUT_MS = 60_000;

/** Where Debian keeps libraries, and the loader among them. */
const PLATFORMS: Record<string, { libraries: string; loader: string }> = {
  x64: { libraries: "usr/lib/x86_64-linux-gnu", loader: "ld-linux-x86-64.so.2" },
  arm64: { libraries: "usr/lib/aarch64-linux-gnu", loader: "ld-linux-aarch64.so.1" },
};

/** @throws where Debian has nothing for this platform. @param what to be had, for the message */
export function checkDebianPlatform(what: string): void {
  if (platform() !== undefined) return;
  throw new Error(
    `No ${what} for ${process.platform}-${process.arch}: Debian's is for linux, x64 and arm64`,
  );
}

/**
 * What starts a program of an unpacked folder, before its own arguments: Debian's loader, which is told where libraries
 * are.
 *
 * @param root where the packages, `libc6` among them, were unpacked
 * @param path of the program in `root`
 * @param libraries further folders of libraries in `root`
 */
export function debianProgram(root: string, path: string, ...libraries: string[]): string[] {
  const { libraries: own, loader } = platform()!;
  const folders = [own, ...libraries].map((folder) => join(root, folder));
  return [join(root, own, loader), "--library-path", folders.join(":"), join(root, path)];
}

function platform() {
  return process.platform === "linux" ? PLATFORMS[process.arch] : undefined;
}

/**
 * Unpacks packages of another release than the system's, by lists of their own.
 *
 * @param folder is there, and gets what is in them: `usr/…`
 * @throws where they cannot be had. @param what they are for, for the message
 */
export async function unpackDebianPackages(
  what: string,
  packages: readonly string[],
  folder: string,
): Promise<void> {
  const apt = join(folder, "apt");
  await mkdir(join(apt, "lists/partial"), { recursive: true });
  await mkdir(join(apt, "cache/archives/partial"), { recursive: true });
  const sources = join(apt, "sources.list");
  const settings = [
    `Dir::Etc::sourcelist=${sources}`,
    "Dir::Etc::sourceparts=-",
    `Dir::State::lists=${join(apt, "lists")}`,
    `Dir::Cache=${join(apt, "cache")}`,
    // Of 40 MB of lists, the 10 that are needed.
    "Acquire::Languages=none",
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
    // Else a server that cannot be reached is no error to it.
    "APT::Update::Error-Mode=any",
  ].flatMap((setting) => ["-o", setting]);
  const options = { cwd: apt, timeout: APT_TIMEOUT_MS };
  try {
    const archive = await archiveOfSystem();
    await writeFile(sources, `deb [signed-by=${KEYRING}] ${archive} ${RELEASE} main\n`);
    await run("apt-get", [...settings, "update"], options);
    await run("apt-get", [...settings, "download", ...packages], options);
  } catch (error) {
    const { code, stderr = "", message } = error as Error & { code?: unknown; stderr?: string };
    const said = stderr.split("\n").find((line) => line.startsWith("E:")) ?? message;
    throw new Error(
      `No ${what}: ${code === "ENOENT" ? "there is no apt-get here" : said.trim()}`,
      { cause: error },
    );
  }
  for (const file of await readdir(apt)) {
    if (file.endsWith(".deb")) await run("dpkg-deb", ["-x", join(apt, file), folder]);
  }
  // dpkg-deb gives the folder the mode that the package has for the root of a system.
  await chmod(folder, 0o755);
  await rm(apt, { recursive: true });
}

/** Where the system has its own packages from: another release lies beside them. */
async function archiveOfSystem(): Promise<string> {
  const { stdout } = await run("apt-get", ["indextargets", "--format", "$(REPO_URI)"]);
  const archive = stdout.split("\n").find((uri) => /\/debian\/?$/.test(uri));
  if (archive === undefined) throw new Error("the system's packages are not Debian's");
  return archive;
}
