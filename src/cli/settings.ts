/** What flags, environment and file say, in this order, of the server and of what is kept in step. */

import { existsSync } from "node:fs";
import process from "node:process";
import type { Logger } from "../logger.ts";
import type { Config } from "./config.ts";
import { readConfig } from "./config_file.ts";

/** Looked for in this order, where no file is named. */
const FILES = ["pgstream.json", "pgstream.config.ts", "pgstream.config.js"];

/** Variables that say which database, each by itself. */
const DATABASE_VARIABLES = ["DATABASE_URL", "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE"];

/** What commands are told. */
export interface Settings {
  /** Undefined: the library looks at the environment itself. */
  dsn: string | undefined;
  slotName: string;
  publicationName: string;
  /** What the file says; empty where there is none. */
  config: Config;
  /** The file; null where there is none. */
  configPath: string | null;
  /** For streams: what the library has to say goes to stderr. */
  logger: Logger;
}

/** What was typed of it. */
export interface SettingFlags {
  dsn?: string | undefined;
  slot?: string | undefined;
  publication?: string | undefined;
  config?: string | undefined;
}

/**
 * Reads them.
 *
 * @throws {CliError} of kind `config` where the file is not there, or cannot be.
 */
export async function readSettings(flags: SettingFlags, logger: Logger): Promise<Settings> {
  const configPath = flags.config ?? foundFile(logger);
  const inEnvironment = DATABASE_VARIABLES.some((name) => process.env[name] !== undefined);
  const slot = flags.slot ?? (process.env.PGSTREAM_SLOT || undefined);
  const publication = flags.publication ?? (process.env.PGSTREAM_PUBLICATION || undefined);
  // What comes first makes variables needless that the file names for it.
  const unwanted = [
    ...flags.dsn !== undefined || inEnvironment ? ["dsn"] : [],
    ...slot === undefined ? [] : ["slotName"],
    ...publication === undefined ? [] : ["publicationName"],
  ];
  const config = configPath === null ? {} : await readConfig(configPath, { unwanted });
  const slotName = slot ?? config.slotName ?? "pgstream";
  return {
    dsn: flags.dsn ?? config.dsn,
    slotName,
    publicationName: publication ?? config.publicationName ?? slotName,
    config,
    configPath,
    logger,
  };
}

function foundFile(logger: Logger): string | null {
  const [file, ...others] = FILES.filter((file) => existsSync(file));
  if (others.length > 0) {
    logger.warn(`${file} is read, and ${others.join(", ")} is not; --config names another`);
  }
  return file ?? null;
}
