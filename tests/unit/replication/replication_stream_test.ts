import { assert, assertEquals, assertGreater, assertLess, assertRejects } from "@std/assert";
import { test } from "node:test";
import {
  ReplicationStream,
  type ReplicationStreamOptions,
} from "../../../src/replication/replication_stream.ts";
import { connectDefault } from "../../../src/transport/default.ts";
import type { Connect } from "../../../src/transport/transport.ts";
import { SlotError } from "../../../src/replication/errors.ts";
import { type Peer, say } from "../../support/scripted_server.ts";
import { sleep, until, within } from "../../support/streams.ts";
import {
  keepalive,
  type ScriptedWalsender,
  startWalsender,
  statusUpdate,
} from "./scripted_walsender.ts";

/** A status update every 50 ms. */
const walSenderTimeoutMs = 150;

/** Streams from a server that does `script` once it streams. */
async function streaming(
  script: (peer: Peer) => Promise<void>,
  use: (stream: ReplicationStream, server: ScriptedWalsender) => Promise<void>,
  options: ReplicationStreamOptions = {},
): Promise<void> {
  const server = await startWalsender(async (peer) => {
    await peer.send(say.copyBoth);
    await script(peer);
    await peer.closed();
  }, { walSenderTimeoutMs });
  try {
    const stream = await ReplicationStream.open({ dsn: server.dsn, logger: false, ...options });
    await use(stream, server).finally(() => stream.close({ timeoutMs: 0 }));
    assertEquals(server.failures, []);
  } finally {
    await server.stop();
  }
}

test("a server that falls silent while we listen is asked, and what it owes is counted", async () => {
  const asked: boolean[] = [];
  const counted: number[] = [];
  const script = async (peer: Peer) => {
    for (;;) {
      const { replyRequested } = await statusUpdate(peer);
      asked.push(replyRequested!);
      // It comes back to life for a moment.
      if (asked.length === 6) await peer.send(keepalive(7n));
    }
  };
  await streaming(script, async (stream) => {
    assertEquals((await within("the keepalive", stream.read()))?.length, 1);
    const before = counted.splice(0);
    const reading = stream.read();
    await until("the count to begin again", () => counted.length >= 3);
    await stream.close({ timeoutMs: 0 });
    assertEquals(await within("read()", reading), null);
    // Nothing to ask for before we listened in vain; from then on each is asked for, and then missed.
    const asking = asked.slice(0, 6).lastIndexOf(false) + 1;
    assertGreater(asking, 0);
    assertLess(asking, 4);
    assertEquals(before, Array.from({ length: 5 - asking }, (_, index) => index + 1));
    assertEquals(counted.slice(0, 3), [1, 2, 3]);
  }, { onUnanswered: (requests) => counted.push(requests) });
});

test("a server that answers owes nothing, however long it has no data", async () => {
  const counted: number[] = [];
  let asked = 0;
  const script = async (peer: Peer) => {
    for (;;) {
      const { replyRequested } = await statusUpdate(peer);
      if (!replyRequested) continue;
      asked++;
      await peer.send(keepalive(7n));
    }
  };
  await streaming(script, async (stream) => {
    void (async () => {
      while (await stream.read() !== null);
    })();
    await until("some replies", () => asked >= 5);
    assertEquals(counted, []);
  }, { onUnanswered: (requests) => counted.push(requests) });
});

test("while nobody listens, nothing is owed, and the server hears from us all the same", async () => {
  const counted: number[] = [];
  const asked: boolean[] = [];
  const script = async (peer: Peer) => {
    for (;;) asked.push((await statusUpdate(peer)).replyRequested!);
  };
  await streaming(script, async () => {
    await until("status updates", () => asked.length > 10);
    assert(!asked.includes(true));
    assertEquals(counted, []);
  }, { onUnanswered: (requests) => counted.push(requests) });
});

test("requestReply() asks at once, but no faster than the server can bear", async () => {
  const asked: number[] = [];
  const script = async (peer: Peer) => {
    for (;;) if ((await statusUpdate(peer)).replyRequested) asked.push(performance.now());
  };
  await streaming(script, async (stream) => {
    const startedAt = performance.now();
    for (let times = 0; times < 100; times++) {
      for (let more = 0; more < 10; more++) stream.requestReply();
      await sleep(3);
    }
    assertGreater(asked.length, 1);
    // Every 5 ms: whoever asks waits for it.
    assertLess(asked.length, 2 + (performance.now() - startedAt) / 5);
  });
});

test("what the consumer knows to be received can be acknowledged, and is told", async () => {
  let last: { writtenLsn: bigint; flushedLsn: bigint } = { writtenLsn: 0n, flushedLsn: 0n };
  const script = async (peer: Peer) => {
    for (;;) last = await statusUpdate(peer);
  };
  await streaming(script, async (stream) => {
    stream.noteReceived(70n);
    stream.noteReceived(60n);
    assertEquals(stream.receivedLsn, 70n);
    stream.acknowledge(65n);
    await until("the server to know", () => last.flushedLsn === 65n);
    assertEquals(last.writtenLsn, 70n);
  });
});

test("a connection that takes no more bytes is cut at once", async () => {
  let stuck = false;
  const connect: Connect = async (address, options) => {
    const transport = await connectDefault(address, options);
    const closed = Promise.withResolvers<never>();
    closed.promise.catch(() => {});
    return {
      read: () => transport.read(),
      write: (bytes) => stuck ? closed.promise : transport.write(bytes),
      startTls: (options) => transport.startTls(options),
      close: () => {
        closed.reject(new Error("closed"));
        transport.close();
      },
    };
  };
  await streaming(() => Promise.resolve(), async (stream) => {
    const reading = stream.read();
    stuck = true;
    assertEquals(await within("close()", stream.close({ timeoutMs: 0 })), false);
    assertEquals(await within("read()", reading), null);
  }, { connect });
});

test("prepare() has the stream's own connection, and says where to start", async () => {
  let start = "";
  const server = await startWalsender((peer) => peer.send(say.copyBoth));
  try {
    const stream = await ReplicationStream.open({
      dsn: server.dsn,
      logger: false,
      startLsn: "0/1",
      prepare: async (connection, identity) => {
        assertEquals(identity, { systemId: "7", timeline: 1, walLsn: 0x100n, database: "db" });
        start = (await connection.query("SET x = 1")).command;
        return 0x80n;
      },
    });
    assertEquals(start, "SET");
    assertEquals(stream.acknowledgedLsn, 0x80n);
    assertEquals(stream.identity.systemId, "7");
    assertEquals(stream.backend, { processId: 77, startedAt: "then" });
    assertEquals(stream.processId, 77);
    await stream.close({ timeoutMs: 0 });
  } finally {
    await server.stop();
  }
});

test("what prepare() throws ends the opening and the connection, and so does a start beyond the server", async () => {
  const server = await startWalsender((peer) => peer.send(say.copyBoth));
  try {
    const open = (prepare: () => Promise<bigint>) =>
      ReplicationStream.open({ dsn: server.dsn, logger: false, prepare });
    const cause = new Error("the caller's own");
    assertEquals(await open(() => Promise.reject(cause)).catch((error) => error), cause);
    const error = await assertRejects(() => open(() => Promise.resolve(0x101n)), SlotError);
    assertEquals([error.kind, error.retryable], ["lsn-beyond-server", false]);
    await until("the connections to be closed", () => server.open() === 0);
  } finally {
    await server.stop();
  }
});
