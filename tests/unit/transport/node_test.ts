import { assertEquals, assertRejects } from "@std/assert";
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
