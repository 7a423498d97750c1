import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { test } from "node:test";
import { ByteWriter } from "../../../src/bytes.ts";
import { ReplicationError } from "../../../src/replication/errors.ts";
import { ReplicationStream } from "../../../src/replication/replication_stream.ts";
import { Inbox } from "../../../src/stream/inbox.ts";
import { type Peer, say } from "../../support/scripted_server.ts";
import { sleep, until, within } from "../../support/streams.ts";
import { keepalive, startWalsender } from "../replication/scripted_walsender.ts";

/** XLogData whose data is one number. */
function data(number: number): Uint8Array {
  return say.copyData(
    new ByteWriter(29).writeUint8(0x77).writeUint64(BigInt(number)).writeUint64(0n).writeInt64(0n)
      .writeInt32(number).finish(),
  );
}

/** What the message at hand is: the number of its data, or the position of a keepalive. */
function atHand({ message }: Inbox): number | string {
  const { bytes, start, keepalive } = message;
  if (keepalive !== null) return `at ${keepalive.walEnd}`;
  return new DataView(bytes.buffer, bytes.byteOffset + start).getInt32(0);
}

/** All that is here. */
function take(inbox: Inbox): (number | string)[] {
  const messages: (number | string)[] = [];
  while (inbox.advance()) messages.push(atHand(inbox));
  return messages;
}

async function withInbox(
  script: (peer: Peer) => Promise<void>,
  use: (inbox: Inbox, stream: ReplicationStream) => Promise<void>,
): Promise<void> {
  const server = await startWalsender(async (peer) => {
    await peer.send(say.copyBoth);
    await script(peer);
  });
  try {
    const stream = await ReplicationStream.open({ dsn: server.dsn, logger: false });
    await use(new Inbox(stream), stream).finally(() => stream.close({ timeoutMs: 0 }));
    assertEquals(server.failures, []);
  } finally {
    await server.stop();
  }
}

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

test("everything comes once and in order, read ahead or not, wherever the one changes to the other", async () => {
  const LAST = 30_000;
  const script = async (peer: Peer) => {
    for (let number = 1; number <= LAST; number += 100) {
      await peer.send(...numbers(number, number + 99).map(data), keepalive(BigInt(number)));
      if (number % 1000 === 1) await sleep(1);
    }
    await peer.closed();
  };
  await withInbox(script, async (inbox) => {
    const seen: (number | string)[] = [];
    while (seen.at(-1) !== `at ${LAST - 99}`) {
      while (inbox.advance()) {
        seen.push(atHand(inbox));
        if (seen.length % 77 > 0) continue;
        // As a handler does that is busy: for nothing, for a moment, for long.
        void inbox.readAhead(seen.length % 5 * 20_000);
        await sleep(seen.length % 4 === 0 ? 2 : 0);
      }
      if (seen.at(-1) !== `at ${LAST - 99}`) assert(await within("more", inbox.more()));
    }
    assertEquals(seen.filter((message) => typeof message === "number"), numbers(1, LAST));
    for (const [index, message] of seen.entries()) {
      if (typeof message === "string") assertStrictEquals(seen[index - 100], +message.slice(3));
    }
  });
});

test("what is read ahead is received, costs what was allowed and one message, and then nothing", async () => {
  const script = async (peer: Peer) => {
    await peer.send(...numbers(1, 5000).map(data));
    await peer.closed();
  };
  await withInbox(script, async (inbox, stream) => {
    void inbox.readAhead(10_000);
    await until("the bound", () => inbox.waitingBytes >= 10_000);
    await sleep(20);
    const waiting = inbox.waitingBytes;
    assert(waiting < 10_000 + 200, `${waiting}`);
    assert(stream.receivedLsn >= 100n && stream.receivedLsn < 5000n);
    const emptied = inbox.emptied();
    const seen: (number | string)[] = take(inbox);
    await within("the last", emptied);
    while (seen.length < 5000) {
      await within("more", inbox.more());
      seen.push(...take(inbox));
    }
    assertEquals(seen, numbers(1, 5000));
    assertEquals(inbox.waitingBytes, 0);
  });
});

test("a connection that is lost is told at once to who reads ahead, and behind all that wait", async () => {
  const script = async (peer: Peer) => {
    await peer.send(data(1), data(2));
    peer.socket.end();
  };
  await withInbox(script, async (inbox) => {
    const lost = await assertRejects(() => within("the end", inbox.readAhead(10_000)));
    assertEquals(take(inbox), [1, 2]);
    assertStrictEquals(await assertRejects(() => inbox.more()), lost);
    assertStrictEquals(await assertRejects(() => inbox.more()), lost);
    assertEquals(take(inbox), []);
  });
});

test("a copy that ends is told the same way", async () => {
  const script = async (peer: Peer) => {
    await peer.send(data(1), say.copyDone);
    await peer.closed();
  };
  await withInbox(script, async (inbox) => {
    assertEquals(await within("the end", inbox.readAhead(10_000)), false);
    assertEquals(take(inbox), [1]);
    assertEquals(await inbox.more(), false);
  });
});

test("nothing is handed out that came behind a message that does not parse", async () => {
  const script = async (peer: Peer) => {
    await peer.send(data(1), say.copyData("?"), data(2));
    await peer.closed();
  };
  await withInbox(script, async (inbox) => {
    await assertRejects(() => within("the error", inbox.readAhead(10_000)), ReplicationError);
    assertEquals(take(inbox), [1]);
    await assertRejects(() => inbox.more(), ReplicationError);
    await assertRejects(() => inbox.readAhead(10_000), ReplicationError);
    assertEquals(take(inbox), []);
  });
});
