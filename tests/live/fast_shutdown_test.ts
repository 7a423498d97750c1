/** `pg_ctl stop -m fast` beside a stream: the server waits for what it has sent to be confirmed. */

import { assert, assertEquals, assertGreaterOrEqual, assertLess } from "@std/assert";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Lsn, SlotManager } from "../../mod.ts";
import {
  ReplicationStream,
  type ReplicationStreamOptions,
} from "../../src/replication/replication_stream.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { sleep, uniqueName, until, within } from "../support/streams.ts";

/** A slot of its own, and a stream that goes on from its position. */
async function openStream(
  server: PostgresServer,
  options: ReplicationStreamOptions = {},
): Promise<ReplicationStream> {
  const slotName = uniqueName();
  const { dsn } = server;
  await new SlotManager({ dsn, slotName, tables: ["documents"], logger: false }).setup();
  const [slot] = await server.query<{ lsn: string }>(
    `SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots
    WHERE slot_name = '${slotName}'`,
  );
  return await ReplicationStream.open({
    dsn,
    slotName,
    logger: false,
    startLsn: slot!.lsn,
    ...options,
  });
}

/** What was heard of the server. */
interface Heard {
  /** Resolves when the stream has ended, with what it was lost by; null for a proper end. */
  ended: Promise<unknown>;
  /** Where the server asked for a reply. */
  requests: Lsn[];
  rows: number;
}

function listen(
  stream: ReplicationStream,
  { acknowledge, pauseMs = 0 }: { acknowledge: boolean; pauseMs?: number },
): Heard {
  const heard: Heard = { ended: Promise.resolve(), requests: [], rows: 0 };
  const listening = async () => {
    for (let messages = await stream.read(); messages; messages = await stream.read()) {
      for (const message of messages) {
        if (message.type === "xLogData" && message.data[0] === "I".charCodeAt(0)) heard.rows++;
        if (message.type !== "primaryKeepalive") continue;
        if (message.replyRequested) heard.requests.push(message.walEnd);
        if (acknowledge) stream.acknowledge(message.walEnd);
      }
      if (pauseMs > 0) await sleep(pauseMs);
    }
  };
  heard.ended = listening().then(() => null, (error) => error ?? "nothing");
  return heard;
}

/** How many of the requests were made at the same position. The server moves on now and then by itself. */
function mostAtOnePosition(requests: readonly Lsn[]): number {
  return Math.max(0, ...requests.map((lsn) => requests.filter((other) => other === lsn).length));
}

async function isRunning(server: PostgresServer): Promise<boolean> {
  return await readFile(join(server.dataDir, "postmaster.pid")).then(() => true, () => false);
}

for (const major of [18, 17, 14, 13, 10]) {
  describe(`a fast shutdown of PostgreSQL ${major}`, { skip: needsOwnServer }, () => {
    let server: PostgresServer;
    before(async () => {
      server = await startPostgres({ major });
      await server.query("CREATE TABLE documents (id int PRIMARY KEY)");
    });
    after(() => server?.stop("immediate"));

    test("(8) does not wait for a client that acknowledges", async () => {
      let told = 0;
      const stream = await openStream(server, { onServerStopping: () => told++ });
      const heard = listen(stream, { acknowledge: true });
      await server.query("INSERT INTO documents SELECT generate_series(1, 1000)");
      await until("the rows", () => heard.rows === 1000);
      const startedAt = performance.now();
      try {
        await server.shutdown("fast");
        const tookMs = performance.now() - startedAt;
        console.log(`PostgreSQL ${major}: stopped after ${tookMs.toFixed()} ms`);
        assertLess(tookMs, 5000);
        // In order: it says that the copy is over.
        assertEquals(await within("the stream to end", heard.ended), null);
        assertEquals(told, 0);
      } finally {
        await stream.close();
        await server.start();
      }
    });

    test("(8) waits for a client that cannot, which is told once, and can let it go", async () => {
      let told = 0;
      const stream = await openStream(server, { onServerStopping: () => told++ });
      const heard = listen(stream, { acknowledge: false });
      await server.query("INSERT INTO documents SELECT generate_series(1001, 2000)");
      // A walsender that has sent nothing yet may end without a word.
      await until("the rows", () => heard.rows === 1000);
      const startedAt = performance.now();
      let down = false;
      const stopping = server.shutdown("fast").then(() => down = true);
      try {
        await until("the client to be told", () => told > 0);
        const toldMs = performance.now() - startedAt;
        await sleep(500);
        assertEquals(down, false);
        assert(await isRunning(server));
        // Once, though the server goes on asking; and it is not let to ask as fast as it can.
        assertEquals(told, 1);
        assertLess(heard.requests.length, 5 + (performance.now() - startedAt) / 50);
        const closedAt = performance.now();
        await within("close()", stream.close());
        await within("the server to stop", stopping);
        console.log(
          `PostgreSQL ${major}: told after ${toldMs.toFixed()} ms, ` +
            `stopped ${(performance.now() - closedAt).toFixed()} ms after close()`,
        );
        assertEquals(await within("the stream to end", heard.ended), null);
      } finally {
        await stream.close({ timeoutMs: 0 });
        await stopping;
        await server.start();
      }
    });
  });
}

for (const major of [18, 10]) {
  describe(`the life of PostgreSQL ${major}`, { skip: needsOwnServer }, () => {
    let server: PostgresServer;
    before(async () => {
      server = await startPostgres({ major, settings: { wal_sender_timeout: "1500ms" } });
      await server.query(
        "CREATE TABLE documents (id int PRIMARY KEY); CREATE TABLE others (v text)",
      );
    });
    after(() => server?.stop("immediate"));

    test("(8) is not taken for a shutdown, however often the server asks", async () => {
      const told: string[] = [];
      const listeners: Record<string, Parameters<typeof listen>[1]> = {
        "one that acknowledges": { acknowledge: true },
        "one that does not": { acknowledge: false },
        "a slow one": { acknowledge: true, pauseMs: 5 },
        "a slow one that does not": { acknowledge: false, pauseMs: 5 },
      };
      const streams: [string, ReplicationStream, Heard][] = [];
      for (const [name, how] of Object.entries(listeners)) {
        const stream = await openStream(server, { onServerStopping: () => told.push(name) });
        streams.push([name, stream, listen(stream, how)]);
      }
      await sleep(1000);
      // WAL that nobody watches.
      for (let times = 0; times < 50; times++) {
        await server.query(
          "INSERT INTO others SELECT repeat('x', 99) FROM generate_series(1, 500)",
        );
        await sleep(10);
      }
      // WAL that all watch.
      for (let id = 0; id < 100; id++) await server.query(`INSERT INTO documents VALUES (${id})`);
      await until("the rows", () => streams.every(([, , heard]) => heard.rows === 100), 60_000);
      await sleep(500);
      for (const [, , heard] of streams) heard.requests.length = 0;
      // Half of wal_sender_timeout without a word from us, again and again.
      for (let times = 0; times < 7; times++) {
        const blockedUntil = performance.now() + 900;
        while (performance.now() < blockedUntil);
        await sleep(150);
      }
      for (const [name, stream, { ended, requests }] of streams) {
        await stream.close();
        assertEquals(await within("the stream to end", ended), null, name);
        assertGreaterOrEqual(mostAtOnePosition(requests), 4, `${name}: nothing was proved`);
      }
      assertEquals(told, []);
    });
  });
}
