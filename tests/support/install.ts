/**
 * Installs what is large and seldom needed, on first use: servers and runtimes that npm carries as
 * one package for each platform. The versions stand in `packages/<name>/package.json`, the files go
 * to `.cache/`, so that the first command downloads nothing that it does not run.
 */

import { execFile } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { mkdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const INSTALL_TIMEOUT_MS = 300_000;
const LOCK_BEAT_MS = 2_000;
const LOCK_STALE_MS = 15_000;

/** Where downloads and templates are kept: `.cache/` of the checkout, where the server can read it. */
export const cacheFolder: string = chooseCacheFolder();

/** A package that is installed. */
export interface InstalledPackage {
  /** The package's own folder. */
  folder: string;
  /** Of the package, as npm has it. */
  version: string;
}

interface Manifest {
  description: string;
  /** One package, for any platform. */
  dependencies?: Record<string, string>;
  /** One package a platform. */
  optionalDependencies?: Record<string, string>;
}

/**
 * Installs the package that `packages/<name>/package.json` names, for this platform where there is one
 * for each, unless it is there. Processes that ask at the same time wait for one download.
 *
 * @param prepare run once in the package's folder, before anybody else sees it.
 */
export async function install(
  name: string,
  prepare?: (folder: string) => Promise<void>,
): Promise<InstalledPackage> {
  const manifest = JSON.parse(
    await readFile(new URL(`./packages/${name}/package.json`, import.meta.url), "utf8"),
  ) as Manifest;
  const { dependencies = {}, optionalDependencies = {} } = manifest;
  const platform = `${process.platform}-${process.arch}`;
  const found = Object.entries(dependencies)[0] ?? Object.entries(optionalDependencies)
    .find(([name]) => name.replace("aarch64", "arm64").replace(/-64$/, "-x64").endsWith(platform));
  if (found === undefined) {
    throw new Error(`${manifest.description} is not packaged for ${platform} on npm`);
  }
  const [dependency, version] = found;
  const target = join(cacheFolder, `${name}-${platform}-${version}`);
  const installed = { folder: join(target, "node_modules", dependency), version };
  if (await exists(target)) return installed;

  await withLock(`${target}.lock`, async () => {
    if (await exists(target)) return;
    process.stderr.write(`installing ${manifest.description} …\n`);
    const building = `${target}.building`;
    await rm(building, { recursive: true, force: true });
    await mkdir(building, { mode: 0o755 });
    try {
      await writeFile(join(building, "deno.json"), `{ "nodeModulesDir": "auto" }\n`);
      await writeFile(
        join(building, "package.json"),
        JSON.stringify({ private: true, dependencies: { [dependency]: version } }),
      );
      await runInstaller(building, manifest.description);
      await prepare?.(join(building, "node_modules", dependency));
      await rename(building, target);
    } catch (error) {
      await rm(building, { recursive: true, force: true });
      throw error;
    }
  });
  return installed;
}

/** Runs `work` while no other process runs work under the same lock. */
export async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  while (!await mkdir(path).then(() => true, (error) => unless(error, "EEXIST"))) {
    const beat = await stat(path).then((found) => found.mtimeMs, () => Date.now());
    // The holder died. That two waiters find this out at once does no harm: work ends in a rename.
    if (Date.now() - beat > LOCK_STALE_MS) await rm(path, { recursive: true, force: true });
    await delay(50);
  }
  const beating = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  }, LOCK_BEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(beating);
    await rm(path, { recursive: true, force: true });
  }
}

/** Whether there is something at `path`. */
export function exists(path: string): Promise<boolean> {
  return stat(path).then(() => true, (error) => unless(error, "ENOENT"));
}

function unless(error: NodeJS.ErrnoException, expected: string): false {
  if (error.code === expected) return false;
  throw error;
}

async function runInstaller(folder: string, description: string): Promise<void> {
  const [command, args] = installer();
  await new Promise<void>((resolve, reject) => {
    const options = {
      cwd: folder,
      timeout: INSTALL_TIMEOUT_MS,
      env: { ...process.env, NO_COLOR: "1" },
    };
    execFile(command, args, options, (error, stdout, stderr) => {
      if (error === null) return resolve();
      const said = `${stdout}\n${stderr}`.split("\n").find((line) => /err/i.test(line));
      reject(
        new Error(
          `Cannot install ${description}: ${said?.trim() ?? error.message}. ` +
            "It comes from the npm registry: check the network, a proxy, and .npmrc.",
        ),
      );
    });
  });
}

// Whoever has only Deno has no npm, not even beside the Node that the test runner installed.
function installer(): [command: string, args: string[]] {
  const deno = process.versions.deno === undefined ? process.env.PGSTREAM_DENO : process.execPath;
  if (deno !== undefined) return [deno, ["install", "--no-lock", "--quiet"]];
  if (process.versions.bun !== undefined) {
    return [process.execPath, ["install", "--ignore-scripts", "--no-save"]];
  }
  return ["npm", ["install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]];
}

// Root runs PostgreSQL as somebody else, who cannot read a checkout under /root, for example.
function chooseCacheFolder(): string {
  const own = fileURLToPath(new URL("../../.cache", import.meta.url));
  mkdirSync(own, { recursive: true });
  if (process.getuid?.() !== 0 || isOpen(own)) return own;
  const shared = join(tmpdir(), "pgstream-cache");
  mkdirSync(shared, { recursive: true, mode: 0o755 });
  if (statSync(shared).uid !== 0) throw new Error(`${shared} belongs to another user: remove it`);
  return shared;
}

function isOpen(folder: string): boolean {
  if ((statSync(folder).mode & 0o001) === 0) return false;
  return folder === dirname(folder) || isOpen(dirname(folder));
}
