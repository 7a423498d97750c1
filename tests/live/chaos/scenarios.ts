/** All scenarios, by name. */

import { backfill, stream } from "./backfill.ts";
import { cut } from "./cut.ts";
import { faults } from "./faults.ts";
import { kill } from "./kill.ts";
import { blocked, fastStop, memory, retention } from "./limits.ts";
import { reconnect } from "./reconnect.ts";
import type { RoundResult, Stage } from "./round.ts";
import { serverStop } from "./server_stop.ts";
import { signals } from "./signals.ts";
import { sync } from "./sync.ts";

/** Plays one round. */
export type Scenario = (stage: Stage, seed: number) => Promise<RoundResult>;

/** In the order in which they are played. */
export const scenarios: Record<string, Scenario> = {
  kill,
  "server-stop": serverStop,
  cut,
  faults,
  signals,
  reconnect,
  blocked,
  memory,
  "fast-stop": fastStop,
  retention,
  stream,
  backfill,
  sync,
};

/** What servers a scenario needs, where not any will do. */
export const servers: Record<string, { majors: number[]; settings: Record<string, string> }> = {
  sync: { majors: [18, 17, 14, 10], settings: {} },
  stream: { majors: [18, 17, 14, 10], settings: { max_prepared_transactions: "20" } },
  backfill: { majors: [18, 17, 14, 10], settings: { max_prepared_transactions: "20" } },
};
