import { assert, assertEquals, assertRejects } from "@std/assert";
import { readFile } from "node:fs/promises";
import process from "node:process";
import { test } from "node:test";
import { connect } from "../../../src/transport/node.ts";
import { formatAddress, TransportError } from "../../../src/transport/transport.ts";
import { transportContract } from "../../contract/transport_contract.ts";
import { peerOf, Peers, runIdleProcess } from "./peers.ts";

const tcp = new Peers();
transportContract("node:net over TCP", {
  connect,
  listen: (onPeer) => tcp.tcp((socket) => onPeer(peerOf(socket))),
  closedAddress: () => tcp.closedPort(),
  runClient: runIdleProcess,
  canBeReset: true,
  canBeHalfOpen: true,
  release: () => tcp.release(),
});

const unix = new Peers();
transportContract("node:net over a unix socket", {
  connect,
  listen: (onPeer) => unix.unix((socket) => onPeer(peerOf(socket))),
  closedAddress: () => Promise.resolve(unix.closedPath()),
  runClient: runIdleProcess,
  canBeReset: false,
  canBeHalfOpen: true,
  release: () => unix.release(),
});

const onLinux = { skip: process.platform === "linux" ? false : "only Linux tells it" };
test(
  "the system asks whether the other side is there, after 30 seconds or as told, or never",
  onLinux,
  async () => {
    const peers = new Peers();
    for (
      const [keepaliveMs, expected] of [[undefined, [20, 30]], [5000, [3, 5]], [0, null]] as const
    ) {
      const { promise, resolve } = Promise.withResolvers<number>();
      const address = await peers.tcp((socket) => resolve(socket.remotePort!));
      const transport = await connect(address, { keepaliveMs });
      const seconds = await keepaliveTimer(await promise);
      if (expected === null) assertEquals(seconds, null);
      else {assert(
          seconds !== null && seconds > expected[0] && seconds <= expected[1],
          `${seconds}`,
        );}
      transport.close();
    }
    peers.release();
  },
);

/** In how many seconds the system asks. https://docs.kernel.org/networking/proc_net_tcp.html */
async function keepaliveTimer(localPort: number): Promise<number | null> {
  const local = `0100007F:${localPort.toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = (await readFile("/proc/net/tcp", "utf8")).split("\n");
  // 01 is established: others had the same port before.
  const fields = lines.map((line) => line.trim().split(/\s+/))
    .find(([, address, , state]) => address === local && state === "01");
  const [kind, jiffies] = fields![5]!.split(":");
  return kind === "02" ? parseInt(jiffies!, 16) / 100 : null;
}

test("an unknown host says so, and may be known a moment later", async () => {
  const error = await assertRejects(
    () => connect({ host: "no-such-host.invalid", port: 5432 }),
    TransportError,
  );
  assertEquals([error.kind, error.retryable], ["host-not-found", true]);
  assertEquals(error.message.includes("no-such-host.invalid:5432"), true);
});

test("an address is shown as people write it", () => {
  assertEquals(formatAddress({ host: "db", port: 1 }), "db:1");
  assertEquals(formatAddress({ host: "::1", port: 5432 }), "[::1]:5432");
  assertEquals(formatAddress({ path: "/run/.s.PGSQL.5432" }), "/run/.s.PGSQL.5432");
});
