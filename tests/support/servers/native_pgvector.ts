/**
 * A real pgvector on a real server, both native code: many sessions at once, `COPY`, indexes that are built while
 * others write. The server is the one of the other tests, from npm; the extension is a Debian package, as is the C
 * library that it was built for, which the server is started with. Nothing is installed into the system.
 */

import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { cacheFolder, exists, withLock } from "../install.ts";
import { type PostgresOptions, type PostgresServer, startPostgres } from "./postgres.ts";
import { postgresFiles } from "./postgres_files.ts";

const run = promisify(execFile);

/** Of the server: the one for which Debian's release has the extension. */
const MAJOR = 17;
const RELEASE = "trixie";
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const PACKAGES = [`postgresql-${MAJOR}-pgvector`, "libc6"];
const APT_TIMEOUT_MS = 60_000;

/** Where Debian keeps libraries, and the loader among them. */
const PLATFORMS: Record<string, { libraries: string; loader: string }> = {
  x64: { libraries: "usr/lib/x86_64-linux-gnu", loader: "ld-linux-x86-64.so.2" },
  arm64: { libraries: "usr/lib/aarch64-linux-gnu", loader: "ld-linux-aarch64.so.1" },
};

/**
 * Starts an empty server with the extension `vector` at hand, but not yet created.
 *
 * @throws where it cannot be had: the message says why.
 */
export async function startNativePgvector(
  options: Omit<PostgresOptions, "major" | "program"> = {},
): Promise<PostgresServer> {
  const platform = process.platform === "linux" ? PLATFORMS[process.arch] : undefined;
  if (platform === undefined) {
    throw new Error(
      `No native pgvector for ${process.platform}-${process.arch}: Debian's is for linux, x64 and arm64`,
    );
  }
  const root = await programs();
  const libraries = join(root, platform.libraries);
  const native = join(root, "native");
  return await startPostgres({
    ...options,
    major: MAJOR,
    program: [
      join(libraries, platform.loader),
      "--library-path",
      `${libraries}:${join(native, "lib")}`,
      join(native, "bin", "postgres"),
    ],
    settings: { shared_buffers: "256MB", ...options.settings },
  });
}

/** The server's files with those of the extension among them in `native/`, and the C library in `usr/`. */
async function programs(): Promise<string> {
  const { bin, version } = await postgresFiles(MAJOR);
  const root = join(cacheFolder, `native-pgvector-${process.arch}-${version}`);
  await withLock(`${root}.lock`, async () => {
    if (await exists(root)) return;
    const building = await mkdtemp(join(cacheFolder, "native-pgvector.building-"));
    try {
      await chmod(building, 0o755);
      await fetchPackages(building);
      const native = join(building, "native");
      await run("cp", ["-R", dirname(bin), native]);
      const ofPackage = join(building, "usr");
      const places = [
        [join(ofPackage, `lib/postgresql/${MAJOR}/lib`), join(native, "lib/postgresql")],
        [
          join(ofPackage, `share/postgresql/${MAJOR}/extension`),
          join(native, "share/postgresql/extension"),
        ],
      ];
      for (const [from, to] of places) await run("cp", ["-R", `${from}/.`, to!]);
      await rename(building, root);
    } finally {
      await rm(building, { recursive: true, force: true });
    }
  });
  return root;
}

/** Unpacks the packages of another release than the system's, by lists of their own. */
async function fetchPackages(folder: string): Promise<void> {
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
    await run("apt-get", [...settings, "download", ...PACKAGES], options);
  } catch (error) {
    const { code, stderr = "", message } = error as Error & { code?: unknown; stderr?: string };
    const said = stderr.split("\n").find((line) => line.startsWith("E:")) ?? message;
    throw new Error(
      `No native pgvector: ${code === "ENOENT" ? "there is no apt-get here" : said.trim()}`,
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
