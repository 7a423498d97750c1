/** Command lines of `pgstream`, in examples, documents and files of deployments: that they would be understood. */

import { parseArgs } from "node:util";
import { COMMON_OPTIONS } from "../../src/cli/command.ts";
import { COMMANDS } from "../../src/cli/commands.ts";

/** How the program is called, by whoever has it. */
const PROGRAM =
  /(?:^|\s)(?:pgstream|(?:npx|bunx)(?: --?[\w-]+)* @pgstream\/pgstream|\S*@pgstream\/pgstream\/cli)(?=\s|$)/;

/** What is typed behind the program's name; null where the line is none of it. What a shell does with its output is left out. */
export function argumentsOf(line: string): string[] | null {
  const match = PROGRAM.exec(line);
  if (match === null || line.trimStart().startsWith("#")) return null;
  return shellWords(line.slice(match.index + match[0].length));
}

/** @returns what the command line would say against them; null: nothing. */
export async function refusalOf(args: readonly string[]): Promise<string | null> {
  const [name, ...rest] = args;
  if (name === undefined) return "there is no command";
  if (["--help", "--version", "help"].includes(name)) return null;
  if (!Object.hasOwn(COMMANDS, name)) return `there is no command ${name}`;
  const command = await COMMANDS[name]!();
  const options = Object.fromEntries(
    Object.entries({ ...command.options, ...COMMON_OPTIONS }).map((
      [name, { type, short, multiple }],
    ) => [name, { type, ...short === undefined ? {} : { short }, multiple: multiple === true }]),
  );
  try {
    const { positionals } = parseArgs({ args: rest, options, allowPositionals: true });
    if (command.operands !== "" || positionals.length === 0) return null;
    return `${name} takes no ${positionals[0]}`;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Words as a shell has them, up to what redirects or ends the command. */
function shellWords(text: string): string[] {
  const words: string[] = [];
  const pattern = /\s*(?:([|;&<>#].*)|((?:"(?:[^"\\]|\\.)*"|'[^']*'|\\.|[^\s|;&<>"'\\])+))/gy;
  for (const [, end, word] of text.matchAll(pattern)) {
    if (end !== undefined) break;
    words.push(word!.replaceAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|\\(.)/g, "$1$2$3"));
  }
  return words;
}
