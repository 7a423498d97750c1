/**
 * A short version of what `deno task chaos` does for long: one round of each scenario. The seed is the
 * time's, and printed; `CHAOS_SEED` repeats it.
 */

import { assertEquals, assertGreater } from "@std/assert";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { type PostgresServer, startPostgres } from "../../support/servers/postgres.ts";
import { needsOwnServer } from "../../support/servers/test_postgres.ts";
import { ownRuntime } from "./process.ts";
import type { RoundResult } from "./round.ts";
import { scenarios } from "./scenarios.ts";

const seed = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
const SHORT = { writingMs: 1500, faultyEvents: 20_000, unwatchedMb: 0 };

describe(
  `nothing is lost, nothing overtakes, CHAOS_SEED=${seed}:`,
  { skip: needsOwnServer },
  () => {
    let server: PostgresServer;
    before(async () => {
      server = await startPostgres();
    });
    after(() => server?.stop("immediate"));

    async function play(scenario: string): Promise<RoundResult> {
      const stage = { server, runtimes: [ownRuntime], ...SHORT };
      const result = await scenarios[scenario]!(stage, seed);
      assertEquals(result.complaints, [], `CHAOS_SEED=${seed}, ${scenario}`);
      const faults = Object.values(result.faults).reduce((total, count) => total + count, 0);
      assertGreater(faults, 0, `CHAOS_SEED=${seed}: nothing was broken`);
      assertGreater(result.verdicts[0]!.committed, 0);
      return result;
    }

    test("the client is killed again and again (2) (5) (32)", async () => {
      await play("kill");
    });
    test("the server is stopped at once, and crashes (9)", async () => {
      await play("server-stop");
    });
    test("connections are cut, stall, and lose a direction (44)", async () => {
      await play("cut");
    });
    test("a sink fails, eight lanes go on (33) (43)", async () => {
      await play("faults");
    });
    test("a signal comes at any moment, and what is handled is confirmed (36)", async () => {
      await play("signals");
    });
    test("a stream comes back by itself from a restart and from a frozen session (10)", async () => {
      await play("reconnect");
    });
  },
);
