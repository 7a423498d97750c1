/** What a command is: its words, its options, and what it does. */

import type { Settings } from "./settings.ts";
import type { Terminal } from "./terminal.ts";

/** An option of a command. */
export interface Option {
  type: "string" | "boolean";
  /** One letter. */
  short?: string;
  /** True: it may be given several times, and its value is an array. */
  multiple?: boolean;
  /** Of a string, what stands for its value in the help: `"DSN"`. */
  value?: string;
  /** What it does, in a few words; its default, where it has one. */
  help: string;
}

/** How a command was called. */
export interface Invocation {
  /** Options by name, as far as they were given. */
  values: Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;
  /** What is no option. */
  positionals: readonly string[];
  /** What flags, environment and file say of the server and of what is kept in step. Read when it is first asked for. */
  settings(): Promise<Settings>;
  /** Where it prints. */
  terminal: Terminal;
  /** Aborted by the first Ctrl+C or SIGTERM; the second ends the process. */
  signal: AbortSignal;
}

/** A command of `pgstream`. */
export interface Command {
  /** What it does, in one line, without a full stop. */
  summary: string;
  /** What follows its name, without options: `"TABLE…"`; empty where nothing does. */
  operands: string;
  /** A paragraph or two, where the summary does not say all that one should know. */
  description?: string;
  /** Its own; all commands have `COMMON_OPTIONS` beside them. */
  options: Readonly<Record<string, Option>>;
  /** What to type, and what comes of it; at least one. */
  examples: readonly (readonly [command: string, effect: string])[];
  /** @returns the exit status; 0 where it returns nothing. */
  run(invocation: Invocation): Promise<number | void>;
}

/** Options that all commands have. */
export const COMMON_OPTIONS: Readonly<Record<string, Option>> = {
  dsn: {
    type: "string",
    value: "DSN",
    help: "the database, postgresql://user@host/db. Default: DATABASE_URL, PG*, then the file",
  },
  slot: {
    type: "string",
    value: "NAME",
    help: "the replication slot. Default: PGSTREAM_SLOT, the file's, pgstream",
  },
  publication: {
    type: "string",
    value: "NAME",
    help: "Default: PGSTREAM_PUBLICATION, the file's, the slot's name",
  },
  config: {
    type: "string",
    short: "c",
    value: "FILE",
    help: "Default: pgstream.json or pgstream.config.ts in this folder, where there is one",
  },
  verbose: { type: "boolean", short: "v", help: "details as it works; of an error, its cause too" },
  help: { type: "boolean", short: "h", help: "print this" },
};
