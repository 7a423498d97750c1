/** What a command line is told where it cannot be. */

import { PgStreamError, type PgStreamErrorOptions } from "../errors.ts";

/** The command line, or its configuration file, cannot be. Kinds: `usage`, `config`. */
export class CliError extends PgStreamError {
  /** `"CliError"`. */
  override name = "CliError";

  /** The message names the thing; the way out goes into `options.hint`. */
  constructor(message: string, options: PgStreamErrorOptions) {
    super(message, options);
  }
}

/** The error for what was typed. */
export function usageError(message: string, hint: string): CliError {
  return new CliError(message, { kind: "usage", hint });
}
