/**
 * A short version of `deno task chaos sync`: one round for each store. The seed is the time's, and printed;
 * `CHAOS_SEED` repeats it.
 */

import { assertEquals, assertGreater } from "@std/assert";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { type PostgresServer, startPostgres } from "../../support/servers/postgres.ts";
import { needsOwnServer } from "../../support/servers/test_postgres.ts";
import { ownRuntime } from "./process.ts";
import { syncInto } from "./sync.ts";

const seed = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);
const SHORT = { writingMs: 0, faultyEvents: 0, unwatchedMb: 0, syncedRows: 2000 };

describe(
  `a store that is kept in step by who is killed, CHAOS_SEED=${seed}:`,
  { skip: needsOwnServer },
  () => {
    let server: PostgresServer;
    before(async () => {
      server = await startPostgres();
    });
    after(() => server?.stop("immediate"));

    for (const kind of ["pgvector", "qdrant"] as const) {
      test(`${kind} ends as the tables do, no row goes back, nothing is embedded twice but what was in hand (5) (32)`, async () => {
        const stage = { server, runtimes: [ownRuntime], ...SHORT };
        const { complaints, faults, verdicts } = await syncInto(kind, stage, seed);
        assertEquals(complaints, [], `CHAOS_SEED=${seed}, ${kind}`);
        assertGreater((faults["kill -9"] ?? 0) + (faults.SIGTERM ?? 0), 0, "nobody was killed");
        assertGreater(verdicts[0]!.committed, 2000);
      });
    }
  },
);
