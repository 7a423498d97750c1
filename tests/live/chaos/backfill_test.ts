/**
 * A short version of `deno task chaos backfill`: thirty rounds over four servers. The seed is the
 * time's, and printed; `CHAOS_SEED` repeats it.
 */

import { assertEquals, assertGreater, assertMatch } from "@std/assert";
import process from "node:process";
import { describe, test } from "node:test";
import { startPostgres } from "../../support/servers/postgres.ts";
import { needsOwnServer } from "../../support/servers/test_postgres.ts";
import { backfill, straw, stream } from "./backfill.ts";
import { ownRuntime } from "./process.ts";
import type { RoundResult, Stage } from "./round.ts";
import { type Scenario, servers } from "./scenarios.ts";

const seed = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
const SHORT = { writingMs: 500, faultyEvents: 0, unwatchedMb: 0 };

/** Plays rounds on a server of each major, each server's one after the other. The seed says which. */
async function playAll(scenario: Scenario, rounds: number): Promise<RoundResult[]> {
  const { majors, settings } = servers.backfill!;
  const results: RoundResult[] = [];
  const seeds = Array.from({ length: rounds }, (_, round) => seed + round);
  const onServer = async (major: number, mine: number[]) => {
    const server = await startPostgres({ major, settings });
    try {
      const stage: Stage = { server, runtimes: [ownRuntime], ...SHORT };
      for (const seed of mine) results.push(await scenario(stage, seed));
    } finally {
      await server.stop("immediate");
    }
  };
  await Promise.all(
    majors.map((major, index) =>
      onServer(major, seeds.filter((seed) => seed % majors.length === index))
    ),
  );
  return results;
}

function complaintsOf(results: readonly RoundResult[]): string[] {
  return results.flatMap(({ complaints }) => complaints);
}

function sumOf(results: readonly RoundResult[], fault: string): number {
  return results.reduce((sum, { faults }) => sum + (faults[fault] ?? 0), 0);
}

describe(
  `rows that are there and rows that change, CHAOS_SEED=${seed}:`,
  { skip: needsOwnServer },
  () => {
    test("changes alone, of tables of all kinds, make the tables", async () => {
      const results = await playAll(stream, 4);
      assertEquals(complaintsOf(results), []);
      assertGreater(sumOf(results, "transaction"), 20);
    });

    test("existing rows beside changes make the tables, and nothing goes back in time", async () => {
      const results = await playAll(backfill, 30);
      assertEquals(complaintsOf(results), []);
      // Those that thirty rounds always have.
      for (const fault of ["kill -9", "committers held", "COMMIT PREPARED"]) {
        assertGreater(sumOf(results, fault), 0, `CHAOS_SEED=${seed}: no ${fault}`);
      }
    });

    test("a backfill without any care is found out", async () => {
      assertMatch(
        complaintsOf(await playAll(straw, 4)).join("\n"),
        /back in time|stands before what came before it/,
      );
    });
  },
);
