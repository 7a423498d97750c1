/** One file of JavaScript for Cloudflare Workers, with nothing of Node's in it. */

import * as esbuild from "esbuild";
import { root } from "./run/job.ts";

/** What is built. */
export interface WorkersBundleOptions {
  /** Path of a module from the checkout's folder. */
  entry: string;
  /** Default: false. */
  minify?: boolean;
}

/**
 * Leaves out Node's modules and the adapter that is made of them: importing them fails at run time, as it
 * does on Workers, and what asked for them says what to do.
 */
export const withoutNode: esbuild.Plugin = {
  name: "without-node",
  setup(build) {
    build.onResolve({ filter: /^node:|^\.\/node\.ts$/ }, ({ path }) => ({
      path,
      namespace: "missing",
    }));
    build.onLoad({ filter: /.*/, namespace: "missing" }, ({ path }) => ({
      contents: `throw new Error("${path.replace(/^node:/, "Node's ")} is not built for Workers");`,
    }));
  },
};

/** Bundles a Worker, or what it imports. @returns the code. */
export async function bundleForWorkers(
  { entry, minify = false }: WorkersBundleOptions,
): Promise<string> {
  try {
    const { outputFiles } = await esbuild.build({
      absWorkingDir: root,
      entryPoints: [entry],
      bundle: true,
      write: false,
      minify,
      format: "esm",
      target: "es2022",
      conditions: ["workerd", "worker", "browser"],
      external: ["cloudflare:*"],
      plugins: [withoutNode],
      legalComments: "none",
      logLevel: "silent",
    });
    return outputFiles[0]!.text;
  } finally {
    // Its program would keep this one alive.
    await esbuild.stop();
  }
}
