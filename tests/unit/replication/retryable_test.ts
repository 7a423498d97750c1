/** Which errors a client that reconnects takes for passing ones. */

import { assertEquals, assertInstanceOf } from "@std/assert";
import { test } from "node:test";
import { isRetryable } from "../../../src/errors.ts";
import { ReplicationStream } from "../../../src/replication/replication_stream.ts";
import { PostgresError } from "../../../src/wire/postgres_error.ts";
import { say } from "../../support/scripted_server.ts";
import { startWalsender } from "./scripted_walsender.ts";

const PASSING = [
  // the connection
  "08000 08001 08003 08004 08006 08007",
  // a session, or a transaction, that was idle for too long
  "25P03 25P04 57P05",
  // a transaction that met another one
  "40001 40P01 40003",
  // the server is short of something: memory, disk, connections
  "53000 53100 53200 53300",
  // somebody holds the slot, or a lock
  "55006 55P03",
  // it was cancelled; the server stops, crashed, starts
  "57014 57P01 57P02 57P03",
].join(" ").split(" ");
const LASTING = [
  // a pooler that does not replicate
  "08P01",
  "0A000",
  "22021 22023",
  // user and password, database, rights
  "28000 28P01 3D000 57P04 42501",
  // what is not there: a table, a slot or a publication
  "42P01 42703 42704 42601 42710",
  // a slot that was invalidated; no slot left; WAL that is gone
  "55000 53400 58P01 58P02",
  "XX000 XX001",
].join(" ").split(" ");

for (const [codes, retryable] of [[PASSING, true], [LASTING, false]] as const) {
  test(`SQLSTATEs that ${retryable ? "pass" : "do not pass"}`, () => {
    for (const code of codes) {
      const error = new PostgresError({ severity: "ERROR", code, message: "m" });
      assertEquals(isRetryable(error), retryable, code);
    }
  });
}

/** What the stream is refused with by a server that answers so to START_REPLICATION. */
async function refusal(code: string, slot: Record<string, string | null>): Promise<unknown> {
  const server = await startWalsender(
    (peer) => peer.send(say.error("ERROR", code, "no"), say.ready),
    { slot },
  );
  try {
    return await ReplicationStream.open({ dsn: server.dsn, logger: false })
      .then(() => null, (error) => error);
  } finally {
    await server.stop();
  }
}

const SLOT = { plugin: "pgoutput", database: "db", confirmed_flush_lsn: "0/10", active_pid: "77" };

test("a stream that is refused says whether trying again may help", async () => {
  const known: [code: string, slot: Record<string, string | null>, kind: string, again: boolean][] =
    [
      ["55006", SLOT, "slot-in-use", true],
      ["55006", {}, "slot-in-use", true],
      ["42704", {}, "slot-missing", false],
      ["55000", { ...SLOT, invalidation_reason: "idle_timeout" }, "slot-lost", false],
      ["55000", { ...SLOT, wal_status: "lost" }, "slot-lost", false],
      ["55000", { ...SLOT, wal_status: "reserved" }, "postgres", false],
      ["55000", {}, "postgres", false],
      ["57P01", SLOT, "server-stopped", true],
      ["53300", SLOT, "too-many-connections", true],
      ["42501", SLOT, "privilege-missing", false],
    ];
  for (const [code, slot, kind, again] of known) {
    const error = await refusal(code, slot);
    assertInstanceOf(error, Error, code);
    const { kind: found } = error as { kind?: string };
    assertEquals([found, isRetryable(error)], [kind, again], `${code}: ${error}`);
  }
});
