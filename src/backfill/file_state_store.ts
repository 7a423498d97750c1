/** The progress of a backfill in a file. */
import { BackfillError } from "./errors.ts";
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
    return this.#turns.take(async () => (await this.#read()).get(key) ?? null);
  }

  /**
   * Puts a value in place of the key's last one, on the disk when it resolves.
   *
   * @throws {BackfillError} of kind `state-store`: the file cannot be written, or is none of ours,
   * and then stays as it is.
   */
  set(key: string, value: string): Promise<void> {
    return this.#turns.take(async () => {
      const values = await this.#read();
      await this.#write(values.set(key, value));
    });
  }

  async #read(): Promise<Map<string, string>> {
    const { readFile } = await import("node:fs/promises");
    let text: string;
    try {
      text = await readFile(this.path, "utf8");
    } catch (error) {
      if (codeOf(error) === "ENOENT") return new Map();
      throw this.#failed("read", error);
    }
    const values = parseValues(text);
    if (values !== null) return values;
    throw new BackfillError(`The state file "${this.path}" is not a JSON object of texts`, {
      kind: "state-store",
      hint: "It was left as it is. Mend it, or remove it to begin all backfills again.",
    });
  }

  async #write(values: ReadonlyMap<string, string>): Promise<void> {
    const { open, rename, rm } = await import("node:fs/promises");
    // Named by chance: another process may be writing, though then the last one wins.
    const temporary = `${this.path}.${crypto.randomUUID().slice(0, 8)}.tmp`;
    try {
      const file = await open(temporary, "wx", 0o600);
      try {
        await file.writeFile(`${JSON.stringify(Object.fromEntries(values), null, 2)}\n`);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, this.path);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {});
      throw this.#failed("written", error);
    }
    await syncFolder(this.path);
  }

  #failed(what: string, cause: unknown): BackfillError {
    return new BackfillError(`The state file "${this.path}" cannot be ${what}: ${codeOf(cause)}`, {
      kind: "state-store",
      hint: "Its folder must be there, and this process must be able to make files in it.",
      cause,
    });
  }
}

/** A rename lasts once its folder is on the disk. Where folders cannot be opened, it lasts by itself. */
async function syncFolder(path: string): Promise<void> {
  const [{ open }, { dirname }] = await Promise.all([
    import("node:fs/promises"),
    import("node:path"),
  ]);
  const folder = await open(dirname(path), "r").catch(() => null);
  await folder?.sync().catch(() => {});
  await folder?.close();
}

function parseValues(text: string): Map<string, string> | null {
  try {
    const values: unknown = JSON.parse(text);
    if (typeof values !== "object" || values === null || Array.isArray(values)) return null;
    const entries = Object.entries(values);
    return entries.every(([, value]) => typeof value === "string") ? new Map(entries) : null;
  } catch {
    return null;
  }
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : `${error}`;
}
