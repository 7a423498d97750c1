/**
 * Connections that are taken for encrypted ones: what the handshake came to is said by the test, and the bytes
 * go to a scripted server in the clear. For what is decided above the handshake.
 */
import { connect as connectPlain } from "../../src/transport/node.ts";
import {
  type Address,
  type Connect,
  type EncryptedTransport,
  formatAddress,
  type TlsOptions,
  type Transport,
} from "../../src/transport/transport.ts";

/** What every handshake comes to. */
export interface Handshake {
  /** Thrown in place of an encrypted connection. */
  failure?: unknown;
  tlsVersion?: string | null;
  alpnProtocol?: string | null;
  peerCertificate?: Uint8Array | null;
}

/** What was asked for. */
export interface PretendedTls {
  connect: Connect;
  /** Where connections were to go. */
  addresses: string[];
  /** One for each handshake. */
  handshakes: TlsOptions[];
}

/** @param port where all connections go, whatever their address; else where they are to go. */
export function pretendTls(handshake: Handshake = {}, port?: number): PretendedTls {
  const addresses: string[] = [];
  const handshakes: TlsOptions[] = [];
  const connect = async (
    address: Address,
    options: { signal?: AbortSignal | undefined },
  ): Promise<Transport> => {
    addresses.push(formatAddress(address));
    const target = port === undefined ? address : { host: "127.0.0.1", port };
    const transport = await connectPlain(target, options);
    const carried = {
      read: () => transport.read(),
      write: (bytes: Uint8Array) => transport.write(bytes),
      close: () => transport.close(),
      startTls: () => Promise.reject(new Error("It is encrypted already")),
    };
    const startTls = (options: TlsOptions): Promise<EncryptedTransport> => {
      handshakes.push(options);
      if (handshake.failure !== undefined) {
        transport.close();
        return Promise.reject(handshake.failure);
      }
      const { tlsVersion = "TLSv1.3", alpnProtocol = "postgresql" } = handshake;
      const { peerCertificate = null } = handshake;
      return Promise.resolve({ ...carried, tlsVersion, alpnProtocol, peerCertificate });
    };
    return { ...carried, startTls };
  };
  return { connect, addresses, handshakes };
}
