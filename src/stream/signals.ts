/** Ctrl+C and its kin, where the runtime has processes. */

/** What is used of the `process` that Node, Deno and Bun have as a global. */
interface ProcessLike {
  on(signal: string, listener: () => void): unknown;
  off(signal: string, listener: () => void): unknown;
  exit(code: number): void;
}

/** Exit status by signal: 128 and the signal's number, as shells do. */
const EXIT_STATUS = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Calls `stop` at the first SIGINT or SIGTERM; a second one ends the process at once. No effect where
 * there is no process, as in Workers.
 *
 * @returns what takes the listeners away again
 */
export function onSignals(stop: (signal: string) => void): () => void {
  const { process } = globalThis as { process?: ProcessLike };
  if (typeof process?.on !== "function") return () => {};
  let told = false;
  const listeners = Object.entries(EXIT_STATUS).map(([signal, status]) => {
    const listener = () => {
      if (told) process.exit(status);
      told = true;
      stop(signal);
    };
    process.on(signal, listener);
    return () => process.off(signal, listener);
  });
  return () => {
    for (const remove of listeners) remove();
  };
}
