/**
 * The library as files that need nothing else, for who pastes, serves or deploys it without a package
 * manager: `deno task bundle` writes them to `dist/`, each readable and minified, and tells their sizes.
 *
 * What a stream needs only when it is asked for has a file of its own beside the first one,
 * `pgstream-*.js`, and is loaded when it is asked for.
 */

import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { type OutputChunk, type Plugin, rolldown } from "rolldown";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const KB = 1000;

/** What to make of which sources. */
export interface Bundle {
  /** In `dist/`, without `.js`. */
  name: string;
  /** Entry points whose exports it has; one that is not there is left out. */
  inputs: readonly string[];
  /** True: one file, in which every `node:` module is one that cannot be loaded. */
  workers: boolean;
  /** What its first file has to stay below, minified and gzipped. */
  mostBytes: number;
  /** What it should stay below. */
  targetBytes: number;
}

/** All of them. */
export const BUNDLES: readonly Bundle[] = [
  {
    name: "pgstream",
    inputs: ["mod.ts"],
    workers: false,
    mostBytes: 54.5 * KB,
    targetBytes: 40 * KB,
  },
  {
    name: "pgstream.workers",
    inputs: ["mod.ts", "src/workers.ts"],
    workers: true,
    mostBytes: 83 * KB,
    targetBytes: 40 * KB,
  },
  {
    name: "pgoutput",
    inputs: ["src/pgoutput/mod.ts"],
    workers: false,
    mostBytes: 5 * KB,
    targetBytes: 5 * KB,
  },
];

/** A file of a bundle. */
export interface BundleFile {
  name: string;
  code: string;
  /** What it imports before it runs. */
  imports: readonly string[];
  /** What it imports when that is needed. */
  dynamicImports: readonly string[];
  /** The sources that are in it, from the checkout. */
  sources: readonly string[];
  /** Of `code`, gzipped. */
  gzipBytes: number;
}

/** Makes one. @returns its files, the first one first. */
export async function makeBundle(
  { name, inputs, workers }: Bundle,
  { minify }: { minify: boolean },
): Promise<BundleFile[]> {
  const end = minify ? ".min.js" : ".js";
  const build = await rolldown({
    input: { [name]: "entry" },
    cwd: root,
    platform: "neutral",
    external: workers ? [] : /^node:/,
    // Else a third file would hold what the first one shares with the others.
    preserveEntrySignatures: "allow-extension",
    treeshake: { moduleSideEffects: false },
    plugins: [entryOf(inputs), ...workers ? [withoutNode] : []],
    onLog: (level, log) => {
      throw new Error(`${level}: ${log.message}`);
    },
  });
  try {
    const { output } = await build.generate({
      format: "esm",
      minify,
      // What is loaded before anything runs is one file, the entry's own.
      codeSplitting: workers ? false : { groups: [{ name, tags: ["$initial"] }] },
      entryFileNames: `[name]${end}`,
      chunkFileNames: `${name}-[name]${end}`,
      comments: { legal: false },
    });
    return output.filter((file) => file.type === "chunk").map(toFile);
  } finally {
    await build.close();
  }
}

function toFile({ fileName, code, imports, dynamicImports, moduleIds }: OutputChunk): BundleFile {
  return {
    name: fileName,
    code,
    imports,
    dynamicImports,
    sources: moduleIds.filter(existsSync).map((id) => relative(root, id)),
    gzipBytes: gzipSync(code, { level: 9 }).length,
  };
}

/** Exports what all of the inputs export. */
function entryOf(inputs: readonly string[]): Plugin {
  const paths = inputs.map((input) => join(root, input)).filter(existsSync);
  return {
    name: "entry",
    resolveId: (id) => id === "entry" ? "\0entry" : null,
    load: (id) =>
      id === "\0entry"
        ? paths.map((path) => `export * from ${JSON.stringify(path)};`).join("\n")
        : null,
  };
}

/** Who imports a runtime's own module gets an error, as where the runtime does not have it. */
const withoutNode: Plugin = {
  name: "without node",
  resolveId: (id) => id.startsWith("node:") || id.endsWith("/node.ts") ? "\0absent" : null,
  load: (id) =>
    id === "\0absent" ? 'throw new Error("The build for Workers has no such module");' : null,
};

/** Writes all of them to a folder, which is emptied first, each readable and minified. */
export async function writeBundles(folder: string): Promise<Map<Bundle, BundleFile[]>> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const minified = new Map<Bundle, BundleFile[]>();
  for (const bundle of BUNDLES) {
    for (const minify of [false, true]) {
      const files = await makeBundle(bundle, { minify });
      for (const { name, code } of files) await writeFile(join(folder, name), code);
      if (minify) minified.set(bundle, files);
    }
  }
  return minified;
}

function kilobytes(bytes: number): string {
  return `${(bytes / KB).toFixed(1).padStart(6)} KB`;
}

function report(bundle: Bundle, files: readonly BundleFile[]): string[] {
  const lines = files.map(({ name, code, gzipBytes, sources }) =>
    `${name.padEnd(36)} ${kilobytes(code.length)} minified, ${kilobytes(gzipBytes)} gzipped, ` +
    `${sources.length} files of the sources`
  );
  const { gzipBytes } = files[0]!;
  const target = gzipBytes <= bundle.targetBytes ? "reached" : "MISSED";
  lines.push(`  target ${kilobytes(bundle.targetBytes).trim()}: ${target}`);
  return lines;
}

async function main(): Promise<void> {
  const bundles = await writeBundles(join(root, "dist"));
  for (const [bundle, files] of bundles) console.log(report(bundle, files).join("\n"));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
