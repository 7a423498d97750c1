/** `pgstream sync`. */

import type { Command } from "../command.ts";

/** `pgstream sync`. */
export const sync: Command = {
  summary: "not there yet",
  operands: "",
  options: {},
  examples: [["pgstream sync", "not there yet"]],
  run: () => Promise.resolve(1),
};
