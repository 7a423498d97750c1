/** From what was typed to a command, and from its end to an exit status. */

import process from "node:process";
import { parseArgs } from "node:util";
import { HandlerError } from "../delivery/errors.ts";
import { PgStreamError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { type Command, COMMON_OPTIONS, type Invocation } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { usageError } from "./errors.ts";
import { helpOf, overview } from "./help.ts";
import { causeOf, messageOf } from "./message.ts";
import { nearest } from "./nearest.ts";
import { readSettings, type Settings } from "./settings.ts";
import { printable, Terminal } from "./terminal.ts";
import { VERSION } from "./version.ts";

/** What was typed, or a file, cannot be. */
const USAGE_STATUS = 2;

/**
 * Runs a command line, and sets `process.exitCode`.
 *
 * @param args without the program's own name. Default: those of this process.
 */
export async function main(args: readonly string[] = process.argv.slice(2)): Promise<void> {
  const terminal = new Terminal();
  const verbose = args.includes("--verbose") || args.includes("-v");
  try {
    process.exitCode = await run(args, terminal, verbose);
  } catch (error) {
    process.exitCode = fail(error, terminal, verbose);
  }
}

async function run(
  args: readonly string[],
  terminal: Terminal,
  verbose: boolean,
): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    const about = name === "help" ? rest[0] : undefined;
    if (about === undefined) await terminal.print(await overview(terminal));
    else await terminal.print(helpOf(about, await load(about), terminal));
    return name === undefined ? USAGE_STATUS : 0;
  }
  if (name === "--version") {
    await terminal.print(VERSION);
    return 0;
  }
  const command = await load(name);
  const { values, positionals } = parse(name, command, rest);
  if (values.help === true) {
    await terminal.print(helpOf(name, command, terminal));
    return 0;
  }
  const { signal, release } = signals(terminal);
  let settings: Promise<Settings> | undefined;
  const text = (option: string) => values[option] as string | undefined;
  const flags = {
    dsn: text("dsn"),
    slot: text("slot"),
    publication: text("publication"),
    config: text("config"),
  };
  try {
    const status = await command.run({
      values,
      positionals,
      settings: () => settings ??= readSettings(flags, loggerFor(terminal, verbose)),
      terminal,
      signal,
    });
    return status ?? 0;
  } catch (error) {
    // Told to stop, and it did.
    if (signal.aborted && error === signal.reason) return signal.reason.status;
    throw error;
  } finally {
    release();
  }
}

async function load(name: string): Promise<Command> {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command !== undefined) return await command();
  const meant = nearest(name, Object.keys(COMMANDS));
  throw usageError(
    `There is no command "${printable(name)}"`,
    meant === null ? "pgstream --help names them all" : `Did you mean pgstream ${meant}?`,
  );
}

function parse(
  name: string,
  command: Command,
  args: string[],
): Pick<Invocation, "values" | "positionals"> {
  const options = Object.fromEntries(
    Object.entries({ ...command.options, ...COMMON_OPTIONS }).map((
      [name, { type, short, multiple }],
    ) => [name, { type, ...short === undefined ? {} : { short }, multiple: multiple === true }]),
  );
  let parsed: Pick<Invocation, "values" | "positionals">;
  try {
    parsed = parseArgs({ args, options, allowPositionals: true });
  } catch (error) {
    const [message] = (error as Error).message.split(/\. |\n/);
    throw usageError(message!, `pgstream ${name} --help tells its options`);
  }
  if (command.operands === "" && parsed.positionals.length > 0) {
    throw usageError(
      `pgstream ${name} takes no "${parsed.positionals[0]}"`,
      `pgstream ${name} --help tells what it takes`,
    );
  }
  return parsed;
}

/** What the signal of a command is aborted with. */
class Interrupted extends Error {
  /** 128 and the signal's number, as shells have it. */
  readonly status: number;

  constructor(status: number) {
    super("interrupted");
    this.status = status;
  }
}

function signals(terminal: Terminal): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const listen = (name: "SIGINT" | "SIGTERM", status: number) => {
    const listener = () => {
      if (controller.signal.aborted) process.exit(status);
      if (process.stderr.isTTY) terminal.note("Stopping; once more ends it at once");
      controller.abort(new Interrupted(status));
    };
    process.on(name, listener);
    return () => process.off(name, listener);
  };
  const releases = [listen("SIGINT", 130), listen("SIGTERM", 143)];
  return { signal: controller.signal, release: () => releases.forEach((release) => release()) };
}

/** What the library has to say, a line each, on stderr. */
function loggerFor(terminal: Terminal, verbose: boolean): Logger {
  const say = (mark: string) => (message: string, ...details: unknown[]) => {
    terminal.endProgress();
    const causes = details.map(messageOf).filter((text) => text !== "");
    terminal.note(
      [mark, message, ...causes.length > 0 ? [`(${causes.join("; ")})`] : []].join(" "),
    );
  };
  const nothing = () => {};
  return {
    debug: verbose ? say(terminal.errorTone("faint", "debug")) : nothing,
    info: verbose ? say(terminal.errorTone("faint", "info")) : nothing,
    warn: say(terminal.errorTone("warning", "warning")),
    error: say(terminal.errorTone("bad", "error")),
  };
}

/** One line with the way out; the causes where they were asked for. */
function fail(error: unknown, terminal: Terminal, verbose: boolean): number {
  terminal.endProgress();
  // What a store or a model failed by says more than where that was.
  const told = error instanceof HandlerError && error.cause instanceof PgStreamError
    ? error.cause
    : error;
  terminal.note(`${terminal.errorTone("bad", "error:")} ${messageOf(told)}`);
  if (told !== error) terminal.note(`       ${(error as HandlerError).summary}`);
  if (verbose) {
    for (let cause = causeOf(told); cause !== undefined; cause = causeOf(cause)) {
      terminal.note(`  because: ${messageOf(cause)}`);
    }
  } else if (causeOf(told) !== undefined) {
    terminal.note(terminal.errorTone("faint", "       (--verbose tells the cause)"));
  }
  const usage = error instanceof PgStreamError &&
    (error.kind === "usage" || error.kind === "config");
  return usage ? USAGE_STATUS : 1;
}
