import process from "node:process";
import { connect } from "../../../src/transport/node.ts";
import { transportContract } from "../../contract/transport_contract.ts";
import { CertificateAuthority } from "../../support/certificates.ts";
import { peerOf, Peers, runIdleProcess } from "./peers.ts";

const authority = await CertificateAuthority.create();
const good = await authority.issue();

const peers = new Peers();
transportContract("node:tls", {
  connect: async (address, options = {}) => {
    const transport = await connect(address, options);
    const { signal } = options;
    return await transport.startTls({
      host: "localhost",
      verify: "full",
      ca: authority.cert,
      signal,
    });
  },
  listen: (onPeer) => peers.tls(good, (socket, plain) => onPeer(peerOf(socket, plain))),
  closedAddress: () => peers.closedPort(),
  runClient: (address, mode) => runIdleProcess(address, mode, authority.cert),
  canBeReset: true,
  // Bun's TLS answers the end of the other side with its own.
  canBeHalfOpen: process.versions.bun === undefined,
  release: () => peers.release(),
});
