/**
 * A command in a real terminal: tmux's, with a server of its own. What a person sees is what `screen()` gives, and
 * keys arrive as from a keyboard: Ctrl+C is a signal to whoever is in the foreground.
 */

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { cliEnvironment, pgstreamCommand } from "./cli.ts";
import { tmuxProgram } from "./servers/tmux.ts";
import { until } from "./streams.ts";

const run = promisify(execFile);

/** No server is to outlive a test that hangs, or is killed. */
const LIFETIME_S = 100;

const program = await tmuxProgram().catch((error: Error) => error);

/**
 * Keeps the process id and the exit status in files: tmux 3.3 now and then has no status of what has ended. A signal
 * of the terminal is for the command; the shell around it outlives it.
 */
const SHELL = `trap : INT QUIT
sh -c 'echo $$ >"$0/pid"; exec "$@"' "$0" "$@"
echo $? >"$0/status"`;

/** For `test(name, { skip: needsTerminal }, …)`: false where there is a terminal, else why there is none. */
export const needsTerminal: string | false = program instanceof Error ? program.message : false;

/** How a command is run. */
export interface CliTerminalOptions {
  /** Default: 100. */
  columns?: number;
  /** Default: 30. */
  rows?: number;
  /** Variables beside, or in place of, those of the test; colours are on. */
  env?: Record<string, string>;
  /** Default: the test's. */
  cwd?: string;
}

/** Those that have not been ended. */
const open = new Set<CliTerminal>();

/** For `afterEach`: ends all terminals of a test. */
export async function endTerminals(): Promise<void> {
  await Promise.all([...open].map((terminal) => terminal.end()));
}

/** A command in a terminal. `end()` has to be called, or `endTerminals()`. */
export class CliTerminal {
  readonly #tmux: string[];
  readonly #folder: string;
  readonly #environment: NodeJS.ProcessEnv;
  #ended: Promise<void> | null = null;

  private constructor(folder: string, environment: NodeJS.ProcessEnv) {
    const name = `pgstream-${crypto.randomUUID().slice(0, 8)}`;
    this.#tmux = [...program as string[], "-u", "-L", name, "-f", "/dev/null"];
    this.#folder = folder;
    this.#environment = environment;
  }

  /** Runs `pgstream` on the runtime of the test. @param args without the program's name */
  static async pgstream(
    args: readonly string[],
    options: CliTerminalOptions = {},
  ): Promise<CliTerminal> {
    return await CliTerminal.start([...pgstreamCommand(), ...args], options);
  }

  /** Runs any program. @throws where `needsTerminal` is not false */
  static async start(
    command: readonly string[],
    { columns = 100, rows = 30, env, cwd }: CliTerminalOptions = {},
  ): Promise<CliTerminal> {
    if (program instanceof Error) throw program;
    const folder = await mkdtemp(join(tmpdir(), "pgstream-terminal-"));
    const { TMUX: _, NO_COLOR: __, ...environment } = cliEnvironment(env);
    const terminal = new CliTerminal(folder, { ...environment, TMUX_TMPDIR: folder });
    open.add(terminal);
    try {
      await terminal.#run(
        ...["start-server", ";", "set-option", "-g", "remain-on-exit", "on", ";"],
        ...["set-option", "-g", "remain-on-exit-format", "", ";"],
        ...["set-option", "-g", "status", "off", ";"],
        ...["run-shell", "-b", "-d", `${LIFETIME_S}`, "-C", "kill-server", ";"],
        ...["new-session", "-d", "-x", `${columns}`, "-y", `${rows}`],
        ...cwd === undefined ? [] : ["-c", cwd],
        ...["--", "sh", "-c", SHELL, folder, ...command.map(escaped)],
      );
    } catch (error) {
      await terminal.end();
      throw error;
    }
    return terminal;
  }

  /**
   * What a person sees, without spaces at the ends of lines, and without empty lines at its end.
   *
   * @param options.colours true: with the escape sequences of colours
   * @param options.history true: what has moved out at the top, too
   */
  async screen(
    { colours = false, history = false }: { colours?: boolean; history?: boolean } = {},
  ): Promise<string> {
    const text = await this.#run(
      ...["capture-pane", "-p", "-N", ...colours ? ["-e"] : [], ...history ? ["-S", "-"] : []],
    );
    return text.split("\n").map((line) => line.trimEnd()).join("\n").trimEnd();
  }

  /** Waits until the screen shows something; fails, with what it shows, where it does not. @returns the screen */
  async shows(what: RegExp, timeoutMs = 30_000): Promise<string> {
    let screen = "";
    try {
      await until(`${what} on the screen`, async () => {
        screen = await this.screen();
        return what.test(screen);
      }, timeoutMs);
    } catch (error) {
      throw new Error(`${(error as Error).message}. It shows:\n${screen}`, { cause: error });
    }
    return screen;
  }

  /** Presses keys, by tmux's names: `"C-c"`, `"Enter"`, `"y"`, `"Up"`. */
  async send(...keys: string[]): Promise<void> {
    await this.#run("send-keys", ...keys.map(escaped));
  }

  /** Makes the window so large; whoever runs in it is told. */
  async resize(columns: number, rows: number): Promise<void> {
    await this.#run("resize-window", "-x", `${columns}`, "-y", `${rows}`);
  }

  /** The exit status, once the command has ended; 128 and the number of a signal that ended it. */
  async status(timeoutMs = 30_000): Promise<number> {
    return await this.#kept("status", timeoutMs);
  }

  /** The process that runs in it. */
  async pid(): Promise<number> {
    return await this.#kept("pid", 10_000);
  }

  /** Ends the command and the terminal; nothing of them is left when it resolves. */
  end(): Promise<void> {
    return this.#ended ??= this.#end();
  }

  async #end(): Promise<void> {
    // Where it never was, or has ended by itself, there is nothing to be ended.
    const server = await this.#run("display-message", "-p", "#{pid}").then(Number, () => 0);
    const pid = await this.#kept("pid", 0).catch(() => 0);
    if (pid > 0 && !existsSync(join(this.#folder, "status"))) kill(pid);
    await this.#run("kill-server").catch(() => {});
    if (server > 0) {
      await until("the terminal to be gone", () => !isThere(server));
    }
    await rm(this.#folder, { recursive: true, force: true });
    open.delete(this);
  }

  /** The number in one of the shell's files. */
  async #kept(file: string, timeoutMs: number): Promise<number> {
    let text = "";
    await until(`the ${file} of the command`, async () => {
      text = await readFile(join(this.#folder, file), "utf8").catch(() => "");
      return text.endsWith("\n");
    }, timeoutMs);
    return Number(text);
  }

  async #run(...args: string[]): Promise<string> {
    const [program, ...before] = this.#tmux;
    const { stdout } = await run(program!, [...before, ...args], {
      env: this.#environment,
      timeout: 20_000,
    });
    return stdout;
  }
}

/** A word that ends in `;` ends a command of tmux's else. */
function escaped(word: string): string {
  return word.replace(/;$/, "\\;");
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
