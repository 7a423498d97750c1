/** `pgstream init`. */

import type { Command } from "../command.ts";

/** `pgstream init`. */
export const init: Command = {
  summary: "not there yet",
  operands: "",
  options: {},
  examples: [["pgstream init", "not there yet"]],
  run: () => Promise.resolve(1),
};
