/** `pgstream doctor`. */

import type { Command } from "../command.ts";

/** `pgstream doctor`. */
export const doctor: Command = {
  summary: "not there yet",
  operands: "",
  options: {},
  examples: [["pgstream doctor", "not there yet"]],
  run: () => Promise.resolve(1),
};
