/**
 * How large the library is where it is one file: minified and gzipped, in kB of 1,000 bytes, of what is loaded before
 * anything runs. `deno task bundle` writes these files, by the same code; `--modules` of it tells what each source costs.
 * Beside it the core with all parts that are loaded when they are asked for: what moves from the one to the other makes
 * the first file smaller, and nothing else.
 *
 * ```sh
 * deno task bench size [--json]
 * ```
 */
import { parseArgs } from "node:util";
import {
  type Bundle,
  type BundleFile,
  BUNDLES,
  makeBundle,
} from "../tests/support/package/bundle.ts";
import { machine, print, rounded } from "./support/report.ts";

const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } });

function makeNamed(name: Bundle["name"]): Promise<BundleFile[]> {
  return makeBundle(BUNDLES.find((bundle) => bundle.name === name)!, { minify: true });
}

function gzippedKb(files: readonly BundleFile[]): number {
  return rounded(files.reduce((bytes, { gzipBytes }) => bytes + gzipBytes, 0) / 1000, 1);
}

const core = await makeNamed("pgstream");
print({
  ...machine(),
  core_bundle_gzip_kb: gzippedKb(core.slice(0, 1)),
  core_with_parts_gzip_kb: gzippedKb(core),
  pgoutput_bundle_gzip_kb: gzippedKb(await makeNamed("pgoutput")),
  workers_bundle_gzip_kb: gzippedKb(await makeNamed("pgstream.workers")),
}, values.json);
