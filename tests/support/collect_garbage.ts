/** Proof that something is let go of: the runtime's own collector, called by hand. */
import process from "node:process";
import v8 from "node:v8";
import vm from "node:vm";

const bun = (globalThis as { Bun?: { gc(force: boolean): void } }).Bun;

function collector(): () => void {
  if (bun !== undefined) return () => bun.gc(true);
  v8.setFlagsFromString("--expose-gc");
  return vm.runInNewContext("gc");
}

/** Collects all garbage. Asynchronous: a `WeakRef` holds its target until the current turn ends. */
export async function collectGarbage(): Promise<void> {
  const collect = collector();
  for (let turn = 0; turn < 3; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    collect();
  }
}

/** Bytes of the heap that are in use once all garbage is collected. */
export async function heapBytes(): Promise<number> {
  await collectGarbage();
  return process.memoryUsage().heapUsed;
}
