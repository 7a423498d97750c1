/** Reads a configuration file: JSON with comments, or a module. */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import type { Config } from "./config.ts";
import { checkConfig } from "./config_check.ts";
import { CliError } from "./errors.ts";
import { JsonFault, parseJsonText } from "./json_text.ts";
import { messageOf } from "./message.ts";
import type { Environment } from "./variables.ts";

/** How a file is read. */
export interface ConfigFileOptions {
  /** Variables by name. Default: those of this process. */
  environment?: Environment;
  /** Keys at the top whose values are not wanted: what was typed comes first. They are left out. */
  unwanted?: readonly string[];
}

/** True for the name of a file that is a module. */
export function isModule(path: string): boolean {
  return /\.[cm]?[jt]s$/.test(path);
}

/**
 * Reads it.
 *
 * @throws {CliError} of kind `config`, naming the place in the file; it holds none of its values.
 */
export async function readConfig(
  path: string,
  { environment = process.env, unwanted = [] }: ConfigFileOptions = {},
): Promise<Config> {
  // Each runtime has an error of its own for a module that is not there.
  if (!existsSync(path)) {
    throw refusal(`There is no file ${path}`, "pgstream init writes one to begin with");
  }
  try {
    return (isModule(path)
      ? checkConfig(await fromModule(path), { environment: null, unwanted })
      : checkConfig(parseJsonText(await readFile(path, "utf8")), {
        environment,
        unwanted,
      })) as Config;
  } catch (error) {
    throw refused(path, error);
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
  return typeof given === "function" ? await given() : await given;
}

function refused(path: string, error: unknown): CliError {
  if (error instanceof CliError) return refusal(`${path}: ${error.summary}`, error.hint!);
  if (error instanceof JsonFault) {
    return refusal(
      `${path}: line ${error.line}, column ${error.column}: ${error.message}`,
      "It is JSON; comments and a comma behind the last may stand in it",
    );
  }
  return refusal(
    `Cannot read ${path}: ${messageOf(error)}`,
    isModule(path) ? "It has to run as it stands" : "Look who may read it",
  );
}

function refusal(message: string, hint: string): CliError {
  return new CliError(message, { kind: "config", hint });
}
