/**
 * Where the processor's time of a benchmark went, on Node, each process by itself:
 *
 * ```sh
 * node --cpu-prof --cpu-prof-dir=/tmp/profiles bench/main.ts decode
 * node bench/support/profile.ts /tmp/profiles [--top 20] [--with /src/]
 * ```
 *
 * `--with` leaves out processes, and of the others all time, in which no function of such a path was at work, itself
 * or by what it called: what loading a program takes, for one, and its peers.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";

/** As the inspector of V8 writes it. */
interface Profile {
  nodes: {
    id: number;
    callFrame: { functionName: string; url: string };
    children?: number[];
  }[];
  samples: number[];
  /** In microseconds, before each sample. */
  timeDeltas: number[];
}

const { values, positionals } = parseArgs({
  options: { top: { type: "string", default: "20" }, with: { type: "string", default: "" } },
  allowPositionals: true,
});
const [folder = "."] = positionals;
for (const file of (await readdir(folder)).filter((name) => name.endsWith(".cpuprofile"))) {
  show(file, JSON.parse(await readFile(join(folder, file), "utf8")));
}

function show(file: string, { nodes, samples, timeDeltas }: Profile): void {
  const named = new Map(nodes.map(({ id, callFrame: { functionName, url } }) => {
    const where = url.split("/").slice(-2).join("/");
    return [id, `${functionName || "(anonymous)"} ${where}`.trim()];
  }));
  const parents = new Map(
    nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])),
  );
  const urls = new Map(nodes.map(({ id, callFrame: { url } }) => [id, url]));
  const isWanted = (node: number): boolean => {
    for (let at: number | undefined = node; at !== undefined; at = parents.get(at)) {
      if (urls.get(at)!.includes(values.with)) return true;
    }
    // A collection has no caller, and belongs to whoever makes garbage.
    return named.get(node)!.startsWith("(garbage collector)");
  };
  const wanted = new Set(nodes.map(({ id }) => id).filter(isWanted));
  const self = new Map<string, number>();
  let all = 0;
  samples.forEach((node, at) => {
    const name = named.get(node)!;
    // A sample lasts until the next one.
    const us = timeDeltas[at + 1] ?? 0;
    if (!wanted.has(node) || name.startsWith("(idle)")) return;
    self.set(name, (self.get(name) ?? 0) + us);
    all += us;
  });
  const top = [...self].sort(([, a], [, b]) => b - a).slice(0, Number(values.top));
  if (top.every(([name]) => name.startsWith("("))) return;
  console.log(`${file}: ${(all / 1e6).toFixed(2)} s`);
  for (const [name, us] of top) {
    console.log(`${(us / all * 100).toFixed(1).padStart(6)} %  ${name}`);
  }
}
