/** `pgstream tail`. */

import type { Command } from "../command.ts";

/** `pgstream tail`. */
export const tail: Command = {
  summary: "not there yet",
  operands: "",
  options: {},
  examples: [["pgstream tail", "not there yet"]],
  run: () => Promise.resolve(1),
};
