/**
 * A real pgvector on a real server, both native code: many sessions at once, `COPY`, indexes that are built while
 * others write. The server is the one of the other tests, from npm; the extension is a Debian package, as is the C
 * library that it was built for, which the server is started with. Nothing is installed into the system.
 */

import { execFile } from "node:child_process";
import { chmod, mkdtemp, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { cacheFolder, exists, withLock } from "../install.ts";
import { checkDebianPlatform, debianProgram, unpackDebianPackages } from "./debian_packages.ts";
import { type PostgresOptions, type PostgresServer, startPostgres } from "./postgres.ts";
import { postgresFiles } from "./postgres_files.ts";

const run = promisify(execFile);

/** Of the server: the one for which Debian's release has the extension. */
const MAJOR = 17;
const PACKAGES = [`postgresql-${MAJOR}-pgvector`, "libc6"];

/**
 * Starts an empty server with the extension `vector` at hand, but not yet created.
 *
 * @throws where it cannot be had: the message says why.
 */
export async function startNativePgvector(
  options: Omit<PostgresOptions, "major" | "program"> = {},
): Promise<PostgresServer> {
  checkDebianPlatform("native pgvector");
  return await startPostgres({
    ...options,
    major: MAJOR,
    program: debianProgram(await programs(), "native/bin/postgres", "native/lib"),
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
      await unpackDebianPackages("native pgvector", PACKAGES, building);
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
