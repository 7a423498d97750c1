/** `pgstream status`. */

import type { Command } from "../command.ts";

/** `pgstream status`. */
export const status: Command = {
  summary: "not there yet",
  operands: "",
  options: {},
  examples: [["pgstream status", "not there yet"]],
  run: () => Promise.resolve(1),
};
