/**
 * How large the library is where it is one file: minified and gzipped, in kB of 1,000 bytes, of what is loaded before
 * anything runs. `deno task bundle` writes these files, by the same code; `--modules` of it tells what each source costs.
 *
 * ```sh
 * deno task bench size [--json]
 * ```
 */
import { parseArgs } from "node:util";
import { type Bundle, BUNDLES, makeBundle } from "../tests/support/package/bundle.ts";
import { machine, print, rounded } from "./support/report.ts";

const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } });

async function gzippedKb(name: Bundle["name"]): Promise<number> {
  const bundle = BUNDLES.find((bundle) => bundle.name === name)!;
  const [first] = await makeBundle(bundle, { minify: true });
  return rounded(first!.gzipBytes / 1000, 1);
}

print({
  ...machine(),
  core_bundle_gzip_kb: await gzippedKb("pgstream"),
  pgoutput_bundle_gzip_kb: await gzippedKb("pgoutput"),
  workers_bundle_gzip_kb: await gzippedKb("pgstream.workers"),
}, values.json);
