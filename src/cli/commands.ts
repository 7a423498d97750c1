/** The commands, each loaded when it is called, or told of. */

import type { Command } from "./command.ts";

/** By name, in the order in which one would need them. */
export const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  doctor: async () => (await import("./commands/doctor.ts")).doctor,
  tail: async () => (await import("./commands/tail.ts")).tail,
  init: async () => (await import("./commands/init.ts")).init,
  setup: async () => (await import("./commands/setup.ts")).setup,
  sync: async () => (await import("./commands/sync.ts")).sync,
  status: async () => (await import("./commands/status.ts")).status,
  verify: async () => (await import("./commands/verify.ts")).verify,
  backfill: async () => (await import("./commands/backfill.ts")).backfill,
  teardown: async () => (await import("./commands/teardown.ts")).teardown,
};
