/** Files that connection options name: read here, and nowhere else. */
import type { Environment } from "./environment.ts";
import { WireError } from "./errors.ts";

/** A file that was read. */
export interface TextFile {
  /** All of it, as UTF-8. */
  readonly text: string;
  /** Who may do what with it, as in `chmod`; 0 on Windows, which says it otherwise. */
  readonly mode: number;
  /** Whose it is; 0: root's. */
  readonly uid: number;
}

/** A file that was not read. */
export interface UnreadFile {
  /** Why not; goes on from "Cannot read …: ". */
  readonly reason: string;
  /** The way out. */
  readonly hint?: string;
}

/** Reads a file, or says why not. Asks nobody and throws nothing. */
export type ReadFile = (path: string) => TextFile | UnreadFile;

interface Runtime {
  readonly process?: {
    readonly platform?: string;
    getBuiltinModule?(name: "node:fs"): {
      statSync(path: string): { readonly mode: number; readonly uid: number; isFile(): boolean };
      readFileSync(path: string, encoding: "utf8"): string;
    } | undefined;
  };
  readonly Deno?: {
    readonly permissions: {
      querySync(descriptor: { name: "read"; path: string }): { readonly state: string };
    };
  };
}

/** Where there are no files. */
export const readNoFile: ReadFile = () => ({
  reason: "there are no files here",
  hint: "Give what the file would say; a certificate and a key may be PEM text in place of a path.",
});

/**
 * Reads a file of the file system, where the runtime has one. On Deno only with a permission that
 * was granted before.
 */
export const readTextFile: ReadFile = (path) => {
  const { process, Deno } = globalThis as Runtime;
  const fs = process?.getBuiltinModule?.("node:fs");
  if (fs === undefined) return readNoFile(path);
  if (Deno && Deno.permissions.querySync({ name: "read", path }).state !== "granted") {
    return { reason: "reading it is not allowed", hint: `Run with --allow-read=${path}.` };
  }
  try {
    const stat = fs.statSync(path);
    // A pipe that nobody writes to would be waited for for ever.
    if (!stat.isFile()) return { reason: "it is not a plain file" };
    return {
      text: fs.readFileSync(path, "utf8"),
      mode: process?.platform === "win32" ? 0 : stat.mode,
      uid: stat.uid,
    };
  } catch (error) {
    const { code } = error as { code?: unknown };
    return { reason: code === "ENOENT" ? "it does not exist" : `the system says ${code}` };
  }
};

/**
 * Reads a file that was asked for by name.
 *
 * @throws {WireError} `"file-unreadable"`.
 */
export function readNamedFile(readFile: ReadFile, parameter: string, path: string): TextFile {
  const file = readFile(path);
  if ("text" in file) return file;
  throw unreadable(parameter, path, file);
}

/** A file cannot be used. */
export function unreadable(
  parameter: string,
  path: string,
  { reason, hint }: UnreadFile,
): WireError {
  // What was meant as PEM and came without its first line is no path: it may be the key.
  const shown = /[\r\n]|BEGIN|^M[\w+/=]{40,}/.test(path) ? "whose path is none" : `"${path}"`;
  return new WireError(`Cannot use ${parameter} ${shown}: ${reason}`, {
    kind: "file-unreadable",
    ...(hint === undefined || !shown.startsWith('"') ? {} : { hint }),
  });
}

/**
 * Where libpq looks for a file of the user's own; undefined where there is no home.
 *
 * @param unixName in `$HOME`.
 * @param windowsName in `%APPDATA%\postgresql`.
 */
export function ownFile(
  env: Environment,
  unixName: string,
  windowsName: string,
): string | undefined {
  if (env["APPDATA"]) return `${env["APPDATA"]}/postgresql/${windowsName}`;
  return env["HOME"] ? `${env["HOME"]}/${unixName}` : undefined;
}
