/**
 * A connection to one host, encrypted as was asked.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
 */
import {
  type Address,
  type Connect,
  type EncryptedTransport,
  formatAddress,
  type Transport,
} from "../transport/transport.ts";
import { ProtocolError, WireError } from "./errors.ts";
import { encodeSslRequest } from "./frontend.ts";
import { addressOf, type ConnectionOptions, type HostOptions, type SslOptions } from "./options.ts";

/** A transport that nothing of the protocol was sent over yet. */
export interface Link {
  /** What carries the bytes. */
  readonly transport: Transport;
  /** The same, where it is encrypted. */
  readonly tls: EncryptedTransport | null;
  /** Where it leads. */
  readonly address: Address;
  /** Opens another one to the same address; what is encrypted stays so. */
  readonly again: (signal: AbortSignal) => Promise<Transport>;
}

/** What a link is opened with. */
export interface LinkSettings {
  /** How bytes are carried. */
  readonly connect: Connect;
  /** Gives up: rejects with its reason, and nothing stays open. */
  readonly signal: AbortSignal;
  /** Told where the connection stays in the clear and that was not asked for. */
  readonly warnOnce: (message: string) => void;
}

type LinkOptions = Pick<ConnectionOptions, "ssl" | "keepaliveMs">;

/** The protocol's name for ALPN; a server that speaks another one is not meant. */
const ALPN = "postgresql";

const YES = 0x53; // S
const NO = 0x4e; // N
const ERROR = 0x45; // E

/**
 * Connects, and encrypts the connection as the options say. Under `prefer` a server that answers that it does
 * not encrypt is spoken to in the clear: a failed handshake is a failure under every mode.
 *
 * @throws {TransportError} nobody answers; `"tls-failed"`, `"certificate-rejected"`, `"tls-unavailable"`.
 * @throws {WireError} `"tls-refused"`, `"connection-lost"`, `"protocol-violation"`.
 */
export async function openLink(
  host: HostOptions,
  options: LinkOptions,
  settings: LinkSettings,
): Promise<Link> {
  const { connect, signal } = settings;
  const { keepaliveMs, ssl } = options;
  const address = addressOf(host);
  const transport = await connect(address, { signal, keepaliveMs });
  const close = () => transport.close();
  // It may come too late: nobody waits for it any more.
  if (signal.aborted) close();
  signal.throwIfAborted();
  signal.addEventListener("abort", close, { once: true });
  try {
    const tls = await encrypt(transport, address, host.host, ssl, settings);
    const mode = tls === null ? "disable" : ssl.mode === "prefer" ? "require" : ssl.mode;
    const again = async (signal: AbortSignal): Promise<Transport> => {
      const likewise = { ...options, ssl: { ...ssl, mode } };
      return (await openLink(host, likewise, { ...settings, signal })).transport;
    };
    return { transport: tls ?? transport, tls, address, again };
  } catch (error) {
    close();
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", close);
  }
}

/** True where what is sent stays on this machine. */
export function isLocal(address: Address): boolean {
  return "path" in address || address.host === "localhost" || address.host === "::1" ||
    /^127\.[\d.]+$/.test(address.host);
}

async function encrypt(
  transport: Transport,
  address: Address,
  host: string,
  ssl: SslOptions,
  { signal, warnOnce }: LinkSettings,
): Promise<EncryptedTransport | null> {
  if (ssl.mode === "disable" || "path" in address) return null;
  const direct = ssl.negotiation === "direct";
  if (!direct && !await agreesToEncrypt(transport, address)) {
    const refusal = `The server at ${formatAddress(address)} does not encrypt`;
    if (ssl.mode !== "prefer") {
      throw new WireError(`${refusal}, and sslmode is ${ssl.mode}`, {
        kind: "tls-refused",
        hint: "Set ssl = on at the server; sslmode=disable is for a network that you trust.",
      });
    }
    if (!isLocal(address)) {
      warnOnce(
        `${refusal}: the connection is in the clear; sslmode=disable says that this is meant`,
      );
    }
    return null;
  }
  const { rootCert: ca, cert, key, keyPassword: passphrase, sni: sendName } = ssl;
  const tls = await transport.startTls({
    host,
    sendName,
    // As libpq: who names an authority wants it asked.
    verify: ssl.mode === "verify-full"
      ? "full"
      : ssl.mode === "verify-ca" || ca !== undefined
      ? "ca"
      : "none",
    ca,
    cert,
    key,
    passphrase,
    alpnProtocols: [ALPN],
    signal,
  });
  // A runtime that tells no version tells no protocol either.
  if (direct && tls.tlsVersion !== null && tls.alpnProtocol !== ALPN) {
    tls.close();
    throw new WireError(
      `Who answers TLS at ${formatAddress(address)} does not say that it is PostgreSQL`,
      {
        kind: "tls-refused",
        hint: "sslnegotiation=direct needs PostgreSQL 17; use sslnegotiation=postgres.",
      },
    );
  }
  return tls;
}

/** Asks by SSLRequest. */
async function agreesToEncrypt(transport: Transport, address: Address): Promise<boolean> {
  await transport.write(encodeSslRequest());
  const answer = await transport.read();
  if (answer === null) {
    throw new WireError(
      `The server at ${formatAddress(address)} closed the connection when asked to encrypt it`,
      {
        kind: "connection-lost",
        hint: "Its log says why. It stops, or is no PostgreSQL server.",
        retryable: true,
      },
    );
  }
  if (answer[0] === ERROR) {
    // What follows comes from anyone: it is not read, nor shown (CVE-2024-10977).
    throw new WireError(
      `The server at ${formatAddress(address)} answered with an error when asked to encrypt`,
      {
        kind: "tls-refused",
        hint: "Its log says why: it may have no room for another process.",
        retryable: true,
      },
    );
  }
  // Further bytes were put there by somebody who wants them taken for what comes encrypted
  // (CVE-2021-23222).
  if (answer.length !== 1 || (answer[0] !== YES && answer[0] !== NO)) {
    throw new ProtocolError(
      `Who answers at ${
        formatAddress(address)
      } sent something else than S or N when asked to encrypt`,
      { hint: "It is no PostgreSQL server, or somebody is in between." },
    );
  }
  return answer[0] === YES;
}
