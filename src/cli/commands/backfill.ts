/** `pgstream backfill`. */

import type { Command } from "../command.ts";

/** `pgstream backfill`. */
export const backfill: Command = {
  summary: "not there yet",
  operands: "",
  options: {},
  examples: [["pgstream backfill", "not there yet"]],
  run: () => Promise.resolve(1),
};
