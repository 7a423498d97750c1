/** `pgstream teardown`. */

import type { Command } from "../command.ts";

/** `pgstream teardown`. */
export const teardown: Command = {
  summary: "not there yet",
  operands: "",
  options: {},
  examples: [["pgstream teardown", "not there yet"]],
  run: () => Promise.resolve(1),
};
