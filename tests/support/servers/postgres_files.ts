/** What a PostgreSQL server is made from: its programs, and a data folder that is ready to be copied. */

import { execFile, execFileSync } from "node:child_process";
import { chmod, chown, mkdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { cacheFolder, exists, install, withLock } from "../install.ts";

const run = promisify(execFile);

/** The user that every server is set up with. */
export const SUPERUSER = "postgres";
/** Its password, which TCP asks for. The servers listen on the loopback interface alone. */
export const PASSWORD = "postgres";

/** Who runs the server: PostgreSQL refuses to run as root. Empty where we are not root. */
export const runAs: { uid: number; gid: number } | Record<never, never> = process.getuid?.() === 0
  ? { uid: idOf("-u"), gid: idOf("-g") }
  : {};

function idOf(flag: "-u" | "-g"): number {
  return Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
}

/** Hands a file or folder to the user that runs the server. */
export async function giveToServer(path: string): Promise<void> {
  if ("uid" in runAs) await chown(path, runAs.uid, runAs.gid);
}

/** The files of one version of PostgreSQL. */
export interface PostgresFiles {
  /** Folder of `postgres`, `initdb` and `pg_ctl`. */
  bin: string;
  /** A data folder as `initdb` made it; copied, never started. */
  template: string;
  /** As the server reports it, e.g. "18.4". */
  version: string;
}

/** Installs a major version and runs its `initdb`, each on first use. */
export async function postgresFiles(major: number): Promise<PostgresFiles> {
  const { folder, version } = await install(`postgres-${major}`, linkLibraries);
  const bin = join(folder, "native", "bin");
  const template = join(cacheFolder, `postgres-${version}-data-${process.getuid?.() ?? 0}`);
  await withLock(`${template}.lock`, async () => {
    if (!await exists(template)) await initialise(bin, template);
  });
  return { bin, template, version: version.split(".").slice(0, 2).join(".") };
}

// npm packages hold no symbolic links; the package's own install script would make these.
async function linkLibraries(folder: string): Promise<void> {
  const list = await readFile(join(folder, "native", "pg-symlinks.json"), "utf8");
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    await rm(join(folder, target), { force: true });
    if (dirname(source) !== dirname(target)) throw new Error(`Unexpected link: ${target}`);
    await symlink(basename(source), join(folder, target));
  }
}

async function initialise(bin: string, template: string): Promise<void> {
  const building = `${template}.building`;
  const password = `${template}.password`;
  await rm(building, { recursive: true, force: true });
  await mkdir(building, { mode: 0o700 });
  await giveToServer(building);
  await writeFile(password, PASSWORD);
  await chmod(password, 0o644);
  try {
    const args = ["--pgdata", building, "--username", SUPERUSER, "--pwfile", password];
    args.push("--encoding", "UTF8", "--locale", "C", "--no-sync");
    args.push("--auth-local", "trust", "--auth-host", "scram-sha-256");
    await run(join(bin, "initdb"), args, { ...runAs, cwd: "/", timeout: 120_000 });
    await rename(building, template);
  } finally {
    await rm(building, { recursive: true, force: true });
    await rm(password, { force: true });
  }
}

/** Copies the template to `target`, which belongs to whoever runs the server. */
export async function copyTemplate(template: string, target: string): Promise<void> {
  await run("cp", ["-Rp", template, target], { ...runAs, cwd: "/", timeout: 60_000 });
}
