/**
 * The package for npm, `dist/pgstream.tgz`: what `deno pack` makes, and the command that it knows nothing of, as
 * `package.json` of the checkout names it.
 *
 * ```sh
 * deno task pack [FILE]
 * ```
 */

import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const run = promisify(execFile);

const tarball = resolve(process.argv[2] ?? join(root, "dist/pgstream.tgz"));
const folder = await mkdtemp(join(tmpdir(), "pgstream-pack-"));
try {
  await mkdir(dirname(tarball), { recursive: true });
  const args = ["pack", "--allow-dirty", "--no-source-maps", `--output=${tarball}`];
  await run(process.execPath, args, { cwd: root, maxBuffer: 16 * 1024 * 1024 });
  await run("tar", ["-xzf", tarball, "-C", folder]);
  await addCommand(join(folder, "package"));
  await run("tar", ["-czf", tarball, "-C", folder, "package"]);
} finally {
  await rm(folder, { recursive: true, force: true });
}
console.log(tarball);

/** The file that is run is no module that others import: as JavaScript it is the same but for their endings. */
async function addCommand(target: string): Promise<void> {
  const read = async (path: string) => JSON.parse(await readFile(path, "utf8"));
  const { bin } = await read(join(root, "package.json")) as { bin: Record<string, string> };
  const commands: Record<string, string> = {};
  for (const [name, source] of Object.entries(bin)) {
    const path = source.replace(/\.ts$/, ".js");
    const text = (await readFile(join(root, source), "utf8")).replaceAll(/\.ts(?=";)/g, ".js");
    await writeFile(join(target, path), text);
    await chmod(join(target, path), 0o755);
    await rm(join(target, source), { force: true });
    commands[name] = path;
  }
  const manifest = join(target, "package.json");
  const packed = { ...await read(manifest), bin: commands };
  await writeFile(manifest, `${JSON.stringify(packed, null, 2)}\n`);
}
