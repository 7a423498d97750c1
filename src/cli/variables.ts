/** Variables of the environment in texts: `${NAME}`, `${NAME:-a default}`; `$${` is `${` itself. */

import { CliError } from "./errors.ts";

/** Variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

const PLACE = /\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?:(:-)([^}]*))?\})?/g;

/**
 * The text with the variables' values. A default stands for a variable that is empty, too, as in a shell.
 *
 * @param path of the text in its file, for errors, which hold no value
 * @throws {CliError} of kind `config` where a variable is not set, or none is named.
 */
export function withVariables(text: string, path: string, environment: Environment): string {
  return text.replaceAll(PLACE, (place, name?: string, hasDefault?: string, otherwise?: string) => {
    if (place === "$${") return "${";
    if (name === undefined) {
      throw new CliError(`${path} has a \${ that names no variable`, {
        kind: "config",
        hint: "Write ${NAME}, or ${NAME:-a default}; $${ stands for ${ itself",
      });
    }
    const value = environment[name];
    if (hasDefault !== undefined) return value || otherwise!;
    if (value !== undefined) return value;
    throw new CliError(`${path} needs the variable ${name}, which is not set`, {
      kind: "config",
      hint: `Set it, or write \${${name}:-a default}`,
    });
  });
}
