/** Reads a configuration file: JSON with comments, or a module. */

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import type { Config } from "./config.ts";
import { checkConfig } from "./config_check.ts";
import { CliError } from "./errors.ts";

const VARIABLE = /\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g;

/**
 * Reads it.
 *
 * @param environment variables by name. Default: those of this process
 * @throws {CliError} of kind `config`, naming the place in the file; it holds none of its texts.
 */
export async function readConfig(
  path: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<Config> {
  let config: unknown;
  try {
    config = /\.[cm]?[jt]s$/.test(path)
      ? await fromModule(path)
      : withVariables(await fromJson(path), "", environment);
    checkConfig(config);
  } catch (error) {
    if (!(error instanceof CliError)) throw unreadable(path, error);
    throw new CliError(`${path}: ${error.summary}`, {
      kind: error.kind,
      ...error.hint === undefined ? {} : { hint: error.hint },
      cause: error.cause,
    });
  }
  return config as Config;
}

async function fromJson(path: string): Promise<unknown> {
  const text = await readFile(path, "utf8");
  const { default: JSON5 } = await import("json5");
  try {
    return JSON5.parse(text);
  } catch (error) {
    // Its words repeat no more than a character.
    const { message, lineNumber, columnNumber } = error as Error & Record<string, unknown>;
    throw new CliError(
      `line ${lineNumber}, column ${columnNumber}: ${
        message.replace(/^JSON5: /, "").replace(/ at \d+:\d+$/, "")
      }`,
      { kind: "config", hint: "It is JSON, with comments and trailing commas where one likes" },
    );
  }
}

async function fromModule(path: string): Promise<unknown> {
  const module = await import(pathToFileURL(resolve(path)).href) as { default?: unknown };
  const given = module.default;
  if (given === undefined) {
    throw new CliError("it has no default export", {
      kind: "config",
      hint: "export default defineConfig({ … })",
    });
  }
  return typeof given === "function" ? await given() : given;
}

/** A copy in which texts have the variables' values. */
function withVariables(
  value: unknown,
  path: string,
  environment: Readonly<Record<string, string | undefined>>,
): unknown {
  if (typeof value === "string") {
    return value.replaceAll(VARIABLE, (_, name: string, otherwise: string | undefined) => {
      const found = environment[name] ?? otherwise;
      if (found !== undefined) return found;
      throw new CliError(`${path} needs the variable ${name}, which is not set`, {
        kind: "config",
        hint: `Set it, or write \${${name}:-a default}`,
      });
    });
  }
  if (Array.isArray(value)) {
    return value.map((item, index) => withVariables(item, `${path}[${index}]`, environment));
  }
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      withVariables(item, path === "" ? key : `${path}.${key}`, environment),
    ]),
  );
}

function unreadable(path: string, cause: unknown): CliError {
  const { code, message } = cause as { code?: unknown; message: string };
  if (code === "ENOENT") {
    return new CliError(`There is no file ${path}`, {
      kind: "config",
      hint: "pgstream init writes one to begin with",
    });
  }
  return new CliError(`Cannot read ${path}: ${message}`, { kind: "config", cause });
}
