/** What `--help` prints. */

import { type Command, COMMON_OPTIONS, type Option } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import type { Terminal } from "./terminal.ts";

const WIDTH = 80;

/** All commands, a line each. */
export async function overview(terminal: Terminal): Promise<string> {
  const lines = [
    "Keeps a vector store in step with Postgres tables.",
    "",
    terminal.tone("strong", "Usage:") + " pgstream COMMAND [options]",
    "",
    terminal.tone("strong", "Commands:"),
  ];
  for (const [name, load] of Object.entries(COMMANDS)) {
    lines.push(`  ${terminal.tone("accent", name.padEnd(10))} ${(await load()).summary}`);
  }
  lines.push("", "pgstream COMMAND --help tells more, with examples; pgstream --version, which");
  lines.push("release this is. To begin with:", "");
  lines.push("  pgstream doctor --dsn postgresql://user@localhost/app documents");
  return lines.join("\n");
}

/** One command. */
export function helpOf(name: string, command: Command, terminal: Terminal): string {
  const { summary, operands, description, options, examples } = command;
  const strong = (text: string) => terminal.tone("strong", text);
  const usage = ["pgstream", name, operands, "[options]"].filter((part) => part !== "").join(" ");
  return [
    `${summary}.`,
    "",
    `${strong("Usage:")} ${usage}`,
    ...description === undefined ? [] : ["", ...wrapped(description, WIDTH)],
    "",
    strong("Options:"),
    ...Object.entries({ ...options, ...COMMON_OPTIONS }).flatMap(([name, option]) =>
      optionLines(name, option)
    ),
    "",
    strong("Examples:"),
    ...examples.flatMap(([command, effect]) => [
      `  ${terminal.tone("accent", command)}`,
      ...wrapped(effect, WIDTH - 6).map((line) => `      ${line}`),
    ]),
  ].join("\n");
}

function optionLines(name: string, { short, value, help }: Option): string[] {
  const flag = `  ${short === undefined ? "    " : `-${short}, `}--${name}` +
    (value === undefined ? "" : ` ${value}`);
  const [first, ...rest] = wrapped(help, WIDTH - 28);
  const lines = [first!, ...rest].map((line) => `${" ".repeat(28)}${line}`);
  if (flag.length > 26) return [flag, ...lines];
  return [flag.padEnd(28) + first!, ...lines.slice(1)];
}

/** Lines of at most so many characters; paragraphs are kept. */
function wrapped(text: string, width: number): string[] {
  return text.split("\n").flatMap((paragraph) => {
    const lines = [""];
    for (const word of paragraph.split(" ")) {
      const line = lines.at(-1)!;
      if (line !== "" && line.length + 1 + word.length > width) lines.push(word);
      else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
    }
    return lines;
  });
}
