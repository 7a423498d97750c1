/** `pgstream verify`. */

import type { Command } from "../command.ts";

/** `pgstream verify`. */
export const verify: Command = {
  summary: "not there yet",
  operands: "",
  options: {},
  examples: [["pgstream verify", "not there yet"]],
  run: () => Promise.resolve(1),
};
