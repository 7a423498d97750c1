/** The progress of a backfill in a file. */
import type { StateStore } from "./state_store.ts";
import { Turns } from "./turns.ts";

/**
 * Keeps state in one JSON file, an object of texts, for one process. Written whole each time, into a
 * file beside it that then takes its place. Needs `node:fs`, which Node, Deno and Bun have, and loads
 * it when it is first used.
 *
 * @example
 * ```ts
 * const store = new FileStateStore("./pgstream-state.json");
 * ```
 */
export class FileStateStore implements StateStore {
  /** The file. */
  readonly path: string;
  readonly #turns = new Turns();

  /**
   * Opens nothing yet. A file that is not there is made by the first `set`; its folder must be there.
   *
   * @param path of the file, relative to the working directory of the process.
   */
  constructor(path: string) {
    this.path = path;
  }

  /**
   * What was last set under the key; null where nothing was, or where there is no file.
   *
   * @throws {BackfillError} of kind `state-store`: the file cannot be read, or is none of ours.
   */
  get(key: string): Promise<string | null> {
    return this.#turns.take(async () => {
      const { readValues } = await import("./state_file.ts");
      return (await readValues(this.path)).get(key) ?? null;
    });
  }

  /**
   * Puts a value in place of the key's last one, on the disk when it resolves.
   *
   * @throws {BackfillError} of kind `state-store`: the file cannot be written, or is none of ours,
   * and then stays as it is.
   */
  set(key: string, value: string): Promise<void> {
    return this.#turns.take(async () => {
      const { readValues, writeValues } = await import("./state_file.ts");
      const values = await readValues(this.path);
      await writeValues(this.path, values.set(key, value));
    });
  }
}
