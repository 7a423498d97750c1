/** `pgstream setup`. */

import type { Command } from "../command.ts";

/** `pgstream setup`. */
export const setup: Command = {
  summary: "not there yet",
  operands: "",
  options: {},
  examples: [["pgstream setup", "not there yet"]],
  run: () => Promise.resolve(1),
};
