/** The adapter for Cloudflare Workers, in the real workerd, against a peer that is scripted here. */

import { assert, assertEquals, assertLess } from "@std/assert";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createServer as createTlsServer } from "node:tls";
import { type Certificate, CertificateAuthority } from "../../support/certificates.ts";
import { startWorker, type Worker } from "../../support/workerd.ts";
import type { Outcome, TransportOrder } from "../../support/workers/transport.ts";

const MIB = 1024 * 1024;

let worker: Worker;
let certificate: Certificate;
const servers: Server[] = [];
const sockets: Socket[] = [];

before(async () => {
  const authority = await CertificateAuthority.create();
  certificate = await authority.issue();
  worker = await startWorker("tests/support/workers/transport.ts", { trusted: [authority.cert] });
});
after(async () => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
  await worker?.stop();
});

function pattern(length: number, from = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (from + i) * 31 % 251;
  return bytes;
}

/** @returns the port. */
async function listen(tls: boolean, onPeer: (peer: Socket) => void): Promise<number> {
  const accept = (socket: Socket) => {
    socket.on("error", () => {});
    sockets.push(socket);
    onPeer(socket);
  };
  const options = { allowHalfOpen: true };
  const server = tls
    ? createTlsServer({ ...options, cert: certificate.cert, key: certificate.key }, accept)
    : createServer(options, accept);
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** Has the Worker connect in one way, to a port where somebody listens. */
function runTo(port: number, way: TransportOrder["way"], tls: boolean): Promise<Outcome[]> {
  return worker.call<Outcome[]>({ way, port, tls });
}

/** Listens, and has the Worker connect in one way. */
async function run(
  way: TransportOrder["way"],
  tls: boolean,
  onPeer: (peer: Socket) => void = () => {},
): Promise<Outcome[]> {
  return await runTo(await listen(tls, onPeer), way, tls);
}

for (const tls of [false, true]) {
  describe(`a transport on Workers, ${tls ? "encrypted" : "in the clear"}`, () => {
    test("fragments arrive whole and in order, are not overwritten, and end", async () => {
      const sizes = [1, 2, 3, 1000, 16_383, 16_384, 16_385, 65_536, 100_000, 1, 700_001];
      const found = await run("read", tls, (peer) => {
        let at = 0;
        for (const size of [...sizes, ...sizes]) {
          peer.write(pattern(size, at));
          at += size;
        }
        peer.end();
      });
      assertEquals(found, [2 * sizes.reduce((sum, size) => sum + size), null]);
    });

    test("one that is not read holds the sender back, and goes on where it was", async () => {
      let taken = 0;
      let takenUnread = -1;
      const found = await run("readLate", tls, async (peer) => {
        peer.once("data", () => takenUnread = taken);
        for (let i = 0; i < 64; i++) {
          await new Promise((resolve) => peer.write(new Uint8Array(MIB), resolve));
          taken++;
        }
        peer.end();
      });
      assertEquals(found, [64 * MIB]);
      assert(takenUnread >= 0 && takenUnread < 32, `${takenUnread} MiB`);
    });

    test("what is written at once arrives in order, large or small, though it is closed then", async () => {
      let received = 0;
      let wrong = 0;
      const found = await run("write", tls, (peer) => {
        peer.on("data", (bytes: Uint8Array) => {
          for (const byte of bytes) if (byte !== received++ * 31 % 251) wrong++;
        });
      });
      assertEquals(found, [400_000]);
      assertEquals([received, wrong], [400_000 + 32 * MIB, 0]);
    });

    test("one that is closed rejects what is pending, and its peer sees the end at once", async () => {
      let endedAt = Infinity;
      const found = await run("close", tls, (peer) => {
        peer.resume();
        for (const event of ["end", "close"]) {
          peer.on(event, () => endedAt = Math.min(endedAt, performance.now()));
        }
      });
      const answeredAt = performance.now();
      assertEquals(found, ["connection-closed", "connection-closed", "connection-closed"]);
      // The request goes on for half a second, and with it ends whatever it has left open.
      assertLess(endedAt, answeredAt - 250);
    });

    test("close() rejects writes that wait for a peer that takes nothing", async () => {
      const port = await listen(tls, () => {});
      // In between, since Deno does not pause what is encrypted.
      const between = await listen(false, (client) => {
        const server = connect(port, "127.0.0.1").on("error", () => {});
        let taken = 0;
        client.on("data", (bytes) => {
          server.write(bytes);
          taken += bytes.length;
          if (taken > 100_000) client.pause();
        });
        server.pipe(client);
      });
      const startedAt = performance.now();
      assertEquals(await runTo(between, "closeWriting", tls), ["connection-closed"]);
      assertLess(performance.now() - startedAt, 10_000);
    });

    test("one that is cut is lost, after what had arrived, and stays so", async () => {
      const port = await listen(tls, (peer) => void peer.write(pattern(1000)));
      const between = await listen(false, async (client) => {
        const server = connect(port, "127.0.0.1").on("error", () => {});
        client.pipe(server).pipe(client);
        await delay(300);
        client.resetAndDestroy();
        server.destroy();
      });
      const lost = "connection-lost";
      assertEquals(await runTo(between, "readCut", tls), [1000, lost, lost, lost]);
    });

    test("a second read while one is pending is refused, and the first goes on", async () => {
      const found = await run("readTwice", tls, (peer) => {
        peer.once("data", () => peer.write(pattern(5)));
      });
      assertEquals(found, ["TypeError: A read is already pending", 5]);
    });
  });
}

test("a peer that has ended its side can still be written to", async () => {
  let received = 0;
  const found = await run("writeAfterEnd", false, (peer) => {
    peer.on("data", (bytes: Uint8Array) => received += bytes.length);
    peer.end();
  });
  assertEquals(found, [null, "done"]);
  for (let tries = 0; received < 1000 && tries < 50; tries++) await delay(20);
  assertEquals(received, 1000);
});

test("a plain transport is used up by the encryption", async () => {
  assertEquals(await run("usedUp", true), ["connection-closed", "connection-closed"]);
});

test("an abort rejects with its reason and closes, before, during and after the connection", async () => {
  const ended: Promise<unknown>[] = [];
  const found = await run("aborted", false, (peer) => {
    peer.resume();
    ended.push(once(peer, "end"));
  });
  const [before, during, alive, handshake, read] = found;
  assertEquals([before, during, alive], ["Error: enough", "Error: enough", "done"]);
  assert(String(handshake).startsWith("TimeoutError"), String(handshake));
  assertEquals(read, "connection-closed");
  await Promise.all(ended);
});
