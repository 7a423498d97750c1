/** The file of a `FileStateStore`: loaded when it is first used, and `node:fs` with it. */
import { BackfillError } from "./errors.ts";

/** Its texts; none where there is no file. @throws {BackfillError} of kind `state-store`. */
export async function readValues(path: string): Promise<Map<string, string>> {
  const { readFile } = await import("node:fs/promises");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return new Map();
    throw failed(path, "read", error);
  }
  const values = parseValues(text);
  if (values !== null) return values;
  throw new BackfillError(`The state file "${path}" is not a JSON object of texts`, {
    kind: "state-store",
    hint: "It was left as it is. Mend it, or remove it to begin all backfills again.",
  });
}

/** Puts a file with these texts in its place, on the disk when it resolves. @throws {BackfillError} of kind `state-store`. */
export async function writeValues(
  path: string,
  values: ReadonlyMap<string, string>,
): Promise<void> {
  const { open, rename, rm } = await import("node:fs/promises");
  // Named by chance: another process may be writing, though then the last one wins.
  const temporary = `${path}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(`${JSON.stringify(Object.fromEntries(values), null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw failed(path, "written", error);
  }
  await syncFolder(path);
}

function failed(path: string, what: string, cause: unknown): BackfillError {
  return new BackfillError(`The state file "${path}" cannot be ${what}: ${codeOf(cause)}`, {
    kind: "state-store",
    hint: "Its folder must be there, and this process must be able to make files in it.",
    cause,
  });
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
