/**
 * The library as files that need nothing else, for who pastes, serves or deploys it without a package
 * manager: `deno task bundle` writes them to `dist/`, each readable and minified, and tells their sizes.
 *
 * What a stream needs only when it is asked for has a file of its own beside the first one,
 * `pgstream-*.js`, and is loaded when it is asked for. `deno task bundle --modules` tells what each source
 * costs the first file, `--modules setup` what it costs the part of that name.
 */

import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { type OutputChunk, type Plugin, rolldown, type SourceMap } from "rolldown";
import { weightsOf } from "./weights.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const KB = 1000;

/** What Workers have not: who asks for it gets an error. */
const NOT_IN_WORKERS = /^node:|\/(?:node|state_file)\.ts$/;

/** Parts that are loaded at the same time, or that are small, in one file: by name, whose sources. */
const PARTS: Record<string, RegExp> = {
  // What every stream asks the server before it begins, and what may be wrong with it.
  start:
    /\/replication\/(?:start|\w+_refused|slot\w*|tables|publication|standby|liveness|timeline)\.ts$|\/stream\/(?:continuation|promotion)\.ts$/,
  values: /\/(?:values\/\w+|replication\/types|delivery\/row_values|stream\/type_look_up)\.ts$/,
  wire: /\/wire\/\w+\.ts$/,
  events: /\/delivery\/(?:transaction_queue|schema_changes)\.ts$/,
};

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
    mostBytes: 45.4 * KB,
    targetBytes: 40 * KB,
  },
  {
    name: "pgstream.workers",
    inputs: ["mod.ts", "src/workers.ts"],
    workers: true,
    mostBytes: 100 * KB,
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
  /** Where it was asked for. */
  map: SourceMap | null;
}

/** How bundles are made. */
export interface BundleOptions {
  minify: boolean;
  /** Not of the bundle for Workers. Default: false. */
  sourceMap?: boolean;
}

/** Makes one. @returns its files, the first one first. */
export async function makeBundle(
  { name, inputs, workers }: Bundle,
  { minify, sourceMap = false }: BundleOptions,
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
    plugins: [entryOf(inputs), ...workers ? [absent, atOnce] : []],
    onLog: (level, log) => {
      throw new Error(`${level}: ${log.message}`);
    },
  });
  try {
    const { output } = await build.generate({
      format: "esm",
      minify,
      // What is loaded before anything runs is one file, the entry's own.
      codeSplitting: workers ? false : {
        groups: [
          { name, tags: ["$initial"], priority: 1 },
          ...Object.entries(PARTS).map(([name, test]) => ({ name, test })),
        ],
      },
      entryFileNames: `[name]${end}`,
      chunkFileNames: `${name}-[name]${end}`,
      comments: { legal: false },
      sourcemap: sourceMap && "hidden",
    });
    return output.filter((file) => file.type === "chunk").map(toFile);
  } finally {
    await build.close();
  }
}

function toFile(
  { fileName, code, map, imports, dynamicImports, moduleIds }: OutputChunk,
): BundleFile {
  return {
    name: fileName,
    code,
    imports,
    dynamicImports,
    sources: moduleIds.filter(existsSync).map((id) => relative(root, id)),
    gzipBytes: gzipSync(code, { level: 9 }).length,
    map,
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
const absent: Plugin = {
  name: "absent",
  resolveId: (id) => NOT_IN_WORKERS.test(id) ? "\0absent" : null,
  load: (id) =>
    id === "\0absent" ? 'throw new Error("The build for Workers has no such module");' : null,
};

/** In a file that holds everything, parts that run only when they are asked for cost more than they save. */
const atOnce: Plugin = {
  name: "at once",
  transform: (code, id) => {
    if (!id.startsWith(join(root, "src"))) return null;
    const imports: string[] = [];
    const inlined = code.replace(/\bimport\("(\.[^"]+)"\)/g, (call, path) => {
      if (NOT_IN_WORKERS.test(path)) return call;
      imports.push(`import * as part${imports.length} from "${path}";`);
      return `Promise.resolve(part${imports.length - 1})`;
    });
    return imports.length === 0 ? null : { code: imports.join("") + inlined };
  },
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

/** What each source costs a file of the first bundle. @param part its name; default: the first file */
async function reportModules(part: string | undefined): Promise<void> {
  const [bundle] = BUNDLES;
  const files = await makeBundle(bundle!, { minify: true, sourceMap: true });
  const end = part === undefined ? "" : `-${part}`;
  const file = files.find(({ name }) => name === `${bundle!.name}${end}.min.js`);
  if (file === undefined) throw new Error(`There is no part "${part}"`);
  for (const { source, gzipBytes } of weightsOf(file.code, file.map!)) {
    console.log(`${kilobytes(gzipBytes)}  ${relative(root, join(root, "dist", source))}`);
  }
}

async function main(): Promise<void> {
  const [option, part] = process.argv.slice(2);
  if (option === "--modules") return await reportModules(part);
  const bundles = await writeBundles(join(root, "dist"));
  for (const [bundle, files] of bundles) console.log(report(bundle, files).join("\n"));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
