/** What every transport does: one suite for all adapters, and for what they encrypt. */

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  type Address,
  formatAddress,
  type Transport,
  type TransportConnectOptions,
  TransportError,
} from "../../src/transport/transport.ts";

/** The other end of a connection. */
export interface Peer {
  /** Resolves when the bytes have left it: not before the one under test has room for them. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends its side in an orderly way; it goes on receiving. */
  end(): void;
  /** Breaks the connection off, with no end of anything. */
  reset(): void;
  /** Receives nothing more, so that the one under test is held back. */
  pause(): void;
  /** Told what it receives. */
  onBytes(listener: (bytes: Uint8Array) => void): void;
  /** The one under test has ended its side, or closed the connection. */
  readonly ended: Promise<void>;
}

/** An adapter, and what it can connect to. */
export interface TransportUnderTest {
  /** Connects, and encrypts the connection where that is what is tested. */
  connect(address: Address, options?: TransportConnectOptions): Promise<Transport>;
  /** Listens for connections that this adapter can make. */
  listen(onPeer: (peer: Peer) => void): Promise<Address>;
  /** An address where nobody listens. */
  closedAddress(): Promise<Address>;
  /**
   * Connects in a process of its own: `"idle"` reads and prints what came of it, `"closed"` closes at once.
   *
   * @returns what it printed, when it has ended by itself.
   */
  runClient(address: Address, mode: "idle" | "closed"): Promise<string>;
  /** False: on such a socket nothing tells a peer that died from one that closed. */
  canBeReset: boolean;
  /** False: the end of the peer's side is that of both, as where TLS answers it by itself. */
  canBeHalfOpen: boolean;
  /** Ends all that listens. */
  release(): void | Promise<void>;
}

const MIB = 1024 * 1024;

/** Byte `i` of what the tests send: 251 is prime, so that no block looks like its neighbour. */
function patternByte(i: number): number {
  return i * 31 % 251;
}

function pattern(length: number, from = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = patternByte(from + i);
  return bytes;
}

/** Checks bytes against `pattern()` as they come. */
class PatternCheck {
  /** How many were right. */
  length = 0;

  add(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) {
      const at = this.length + i;
      if (bytes[i] !== patternByte(at)) throw new Error(`Byte ${at} is wrong`);
    }
    this.length += bytes.length;
  }
}

async function readAll(transport: Transport): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  for (let chunk = await transport.read(); chunk !== null; chunk = await transport.read()) {
    chunks.push(chunk);
  }
  return chunks;
}

export function transportContract(name: string, subject: TransportUnderTest): void {
  describe(`transport contract: ${name}`, () => {
    const open = new Set<Transport>();
    after(async () => {
      for (const transport of open) transport.close();
      await subject.release();
    });

    async function connected(
      onPeer: (peer: Peer) => void = () => {},
    ): Promise<{ transport: Transport; peer: Peer; address: Address }> {
      const { promise, resolve } = Promise.withResolvers<Peer>();
      const address = await subject.listen((peer) => {
        onPeer(peer);
        resolve(peer);
      });
      const transport = await subject.connect(address);
      open.add(transport);
      return { transport, peer: await promise, address };
    }

    /** @returns `received`, when the peer has so many bytes of the pattern; it rejects where one is wrong. */
    async function receiving(
      total: number,
      onPeer: (peer: Peer) => void = () => {},
    ): Promise<{ transport: Transport; received: Promise<void> }> {
      const { promise: received, resolve, reject } = Promise.withResolvers<void>();
      const check = new PatternCheck();
      const { transport } = await connected((peer) => {
        peer.onBytes((bytes) => {
          try {
            check.add(bytes);
          } catch (error) {
            reject(error);
          }
          if (check.length === total) resolve();
        });
        onPeer(peer);
      });
      return { transport, received };
    }

    test("fragments of any size arrive whole and in order, and a chunk is never overwritten", async () => {
      const sizes = [1, 2, 3, 1000, 16_383, 16_384, 16_385, 65_536, 100_000, 1, 700_001];
      const { transport } = await connected(async (peer) => {
        let at = 0;
        for (let round = 0; round < 3; round++) {
          for (const size of sizes) {
            await peer.write(pattern(size, at));
            at += size;
          }
        }
        peer.end();
      });
      const chunks = await readAll(transport);
      const check = new PatternCheck();
      for (const chunk of chunks) {
        assertStrictEquals(chunk.constructor, Uint8Array);
        check.add(chunk);
      }
      assertEquals(check.length, 3 * sizes.reduce((sum, size) => sum + size));
      assertStrictEquals(await transport.read(), null);
      transport.close();
    });

    test("one that is not read holds the sender back, and goes on where it was", async () => {
      const blocks = 64;
      let taken = 0;
      const { transport } = await connected(async (peer) => {
        const block = new Uint8Array(MIB).fill(7);
        for (let i = 0; i < blocks; i++) {
          await peer.write(block);
          taken++;
        }
        peer.end();
      });
      let before = -1;
      while (before !== taken) {
        before = taken;
        await delay(300);
      }
      assert(taken < blocks / 2, `${taken} of ${blocks} MiB went to one that read nothing`);
      let received = 0;
      for (let chunk = await transport.read(); chunk !== null; chunk = await transport.read()) {
        received += chunk.length;
      }
      assertEquals(received, blocks * MIB);
      transport.close();
    });

    test("what is written at once arrives in the order of the calls, large or small", async () => {
      const sizes = [3, 300_000, 1, 16_384, 1, 1, 70_000, 5];
      const total = sizes.reduce((sum, size) => sum + size);
      const { transport, received } = await receiving(total);
      const writes: Promise<void>[] = [];
      let at = 0;
      for (const size of sizes) {
        writes.push(transport.write(pattern(size, at)));
        at += size;
      }
      await Promise.all(writes);
      await received;
      transport.close();
    });

    test("a last word that is written before the close arrives", async () => {
      const check = new PatternCheck();
      const { transport, peer } = await connected((peer) => {
        peer.onBytes((bytes) => check.add(bytes));
      });
      await transport.write(pattern(1000));
      await transport.write(pattern(5, 1000));
      transport.close();
      await peer.ended;
      assertEquals(check.length, 1005);
    });

    test("64 MiB in one write arrive in order", async () => {
      const { transport, received } = await receiving(64 * MIB);
      await transport.write(pattern(64 * MIB));
      await received;
      transport.close();
    });

    test("reading and writing do not wait for each other", async () => {
      const { transport, peer } = await connected((peer) => {
        // An echo: it takes no more than it can send back.
        let sent = Promise.resolve();
        peer.onBytes((bytes) => sent = sent.then(() => peer.write(Uint8Array.from(bytes))));
      });
      const total = 4 * MIB;
      const check = new PatternCheck();
      const writing = transport.write(pattern(total));
      while (check.length < total) check.add((await transport.read())!);
      await writing;
      transport.close();
      await peer.ended;
    });

    test("a peer that ends its side is null, after its last word, and ever after", async () => {
      const { transport } = await connected(async (peer) => {
        await peer.write(pattern(1000));
        peer.end();
      });
      const check = new PatternCheck();
      for (const chunk of await readAll(transport)) check.add(chunk);
      assertEquals(check.length, 1000);
      assertStrictEquals(await transport.read(), null);
      transport.close();
    });

    const halfOpen = { skip: subject.canBeHalfOpen ? false : "an end ends both sides here" };
    test("a peer that has ended its side can still be written to", halfOpen, async () => {
      const { transport, received } = await receiving(2000, (peer) => peer.end());
      assertStrictEquals(await transport.read(), null);
      await transport.write(pattern(1000));
      await transport.write(pattern(1000, 1000));
      await received;
      transport.close();
    });

    const cut = { skip: subject.canBeReset ? false : "there is no reset on such a socket" };
    test("one that is cut rejects the pending read, after what had arrived", cut, async () => {
      const { transport, peer, address } = await connected();
      await peer.write(pattern(1000));
      const check = new PatternCheck();
      while (check.length < 1000) check.add((await transport.read())!);
      setTimeout(() => peer.reset(), 100);
      const error = await assertRejects(() => transport.read(), TransportError);
      assertEquals([error.kind, error.retryable], ["connection-lost", true]);
      assertEquals(error.address, address);
      assert(error.message.includes(formatAddress(address)), error.message);
      for (const call of [() => transport.write(pattern(1)), () => transport.read()]) {
        assertEquals((await assertRejects(call, TransportError)).kind, "connection-lost");
      }
      transport.close();
    });

    test("one that is cut unread still hands out what had arrived", cut, async () => {
      const sent = 400_000;
      const { transport, peer } = await connected((peer) => void peer.write(pattern(sent)));
      await delay(200);
      peer.reset();
      await delay(50);
      // Nobody reads, so only who writes learns of it, and not by the first write.
      const writing = await assertRejects(async () => {
        for (;;) await transport.write(pattern(1000));
      }, TransportError);
      assertEquals(writing.kind, "connection-lost");
      const check = new PatternCheck();
      const reading = await assertRejects(async () => {
        for (;;) check.add((await transport.read())!);
      }, TransportError);
      assertEquals(reading.kind, "connection-lost");
      assert(check.length >= 64 * 1024, `${check.length} bytes`);
      transport.close();
    });

    test("nobody listening is a retryable error that names the address and keeps the cause", async () => {
      const address = await subject.closedAddress();
      const error = await assertRejects(() => subject.connect(address), TransportError);
      assertEquals([error.kind, error.retryable], ["connection-refused", true]);
      assertEquals(error.address, address);
      assert(error.message.includes(formatAddress(address)), error.message);
      assert(error.cause instanceof Error);
      assert(error.hint !== undefined);
    });

    test("an abort rejects with its reason, before connecting and at any moment of it", async () => {
      const address = await subject.listen(() => {});
      const reason = new Error("enough");
      const caught = await subject.connect(address, { signal: AbortSignal.abort(reason) })
        .catch((error) => error);
      assertStrictEquals(caught, reason);

      for (const afterMs of [0, 0, 1, 2, 4, 8]) {
        const controller = new AbortController();
        const connecting = subject.connect(address, { signal: controller.signal })
          .then((transport) => transport.close(), (error) => error);
        if (afterMs > 0) await delay(afterMs);
        controller.abort(reason);
        const outcome = await connecting;
        assert(outcome === reason || outcome === undefined, String(outcome));
        if (afterMs === 0) assertStrictEquals(outcome, reason);
      }
    });

    test("a signal that fires after connecting is no longer listened to", async () => {
      const address = await subject.listen((peer) => void peer.write(pattern(10)));
      const controller = new AbortController();
      const transport = await subject.connect(address, { signal: controller.signal });
      controller.abort(new Error("late"));
      assertEquals((await transport.read())![1], 31);
      transport.close();
    });

    test("close rejects the pending read and later calls, and the peer sees the end", async () => {
      const { transport, peer } = await connected((peer) => peer.onBytes(() => {}));
      const reading = transport.read().catch((error) => error);
      transport.close();
      transport.close();
      const error = await reading;
      assert(error instanceof TransportError);
      assertEquals([error.kind, error.retryable], ["connection-closed", false]);
      for (const call of [() => transport.read(), () => transport.write(pattern(1))]) {
        assertEquals((await assertRejects(call, TransportError)).kind, "connection-closed");
      }
      await peer.ended;
    });

    test("close rejects writes that wait for a peer that takes nothing", async () => {
      const { transport } = await connected((peer) => peer.pause());
      const outcomes: Promise<unknown>[] = [];
      for (let i = 0; i < 32; i++) {
        outcomes.push(transport.write(new Uint8Array(MIB)).catch((error) => error));
      }
      await delay(200);
      transport.close();
      const last = (await Promise.all(outcomes)).at(-1);
      assert(last instanceof TransportError, String(last));
      assertEquals(last.kind, "connection-closed");
    });

    test("close drops what had arrived and was not read", async () => {
      const { transport, peer } = await connected();
      await peer.write(pattern(1000));
      await delay(100);
      transport.close();
      const error = await assertRejects(() => transport.read(), TransportError);
      assertEquals(error.kind, "connection-closed");
    });

    test("a second read while one is pending is refused, and the first goes on", async () => {
      const { transport, peer } = await connected();
      const first = transport.read();
      await assertRejects(() => transport.read(), TypeError);
      await peer.write(pattern(1));
      assertEquals(await first, pattern(1));
      transport.close();
    });

    test("an idle connection keeps its process alive", async () => {
      const address = await subject.listen((peer) => setTimeout(() => peer.end(), 500));
      assertEquals(await subject.runClient(address, "idle"), "ended");
    });

    test("a closed connection does not", async () => {
      const address = await subject.listen((peer) => peer.onBytes(() => {}));
      assertEquals(await subject.runClient(address, "closed"), "");
    });
  });
}
