/**
 * A connection as the rest of the library sees it: bytes in, bytes out, close. Adapters of one
 * runtime family each implement it.
 */
import { PgStreamError, type PgStreamErrorOptions } from "../errors.ts";

/** Where a server listens: a host and a port, or the path of a unix socket. */
export type Address =
  | { readonly host: string; readonly port: number }
  | { readonly path: string };

/**
 * A connected byte stream. It is pulled: while nobody reads, the peer is held back after a small,
 * bounded read-ahead.
 */
export interface Transport {
  /**
   * The next bytes, or `null` when the peer has ended its side. A chunk is handed over: it is the
   * caller's own and is never overwritten. One read at a time.
   *
   * What arrived before a failure is still handed out; then reads reject.
   *
   * @throws {TransportError} `"connection-lost"`, or `"connection-closed"` after `close()`.
   */
  read(): Promise<Uint8Array | null>;
  /**
   * Sends bytes in the order of the calls; resolves when the runtime has taken them. They are
   * borrowed, and must not change, until then.
   *
   * @throws {TransportError} `"connection-lost"`, or `"connection-closed"` after `close()`.
   */
  write(bytes: Uint8Array): Promise<void>;
  /** Closes at once: pending reads and writes reject. May be called twice. */
  close(): void;
  /**
   * Encrypts the connection. Nothing may wait to be read, and no read be pending: what came before the
   * handshake is not the server's. This transport is used up, whatever comes of it; a failure closes it.
   *
   * @throws {TransportError} `"tls-failed"`, `"certificate-rejected"`, `"tls-unavailable"`,
   * `"connection-lost"`; `signal.reason` where the signal fires.
   */
  startTls(options: TlsOptions): Promise<EncryptedTransport>;
}

/** What an encrypted connection is to be. */
export interface TlsOptions {
  /** Who is expected: a host name, which is also sent (SNI), or an IP address, which is not. */
  readonly host: string;
  /** False: the name is not sent. Default: true. */
  readonly sendName?: boolean | undefined;
  /**
   * What is asked of the server's certificate. `"none"`: nothing, which keeps out listeners, and nobody who
   * can answer in the server's place. `"ca"`: somebody who is trusted has signed it. `"full"`: and for `host`.
   */
  readonly verify: "none" | "ca" | "full";
  /** Whom to trust, as PEM. Default: those whom the runtime trusts. */
  readonly ca?: string | undefined;
  /** Our own certificate with what it hangs on, as PEM. */
  readonly cert?: string | undefined;
  /** Its private key, as PEM. */
  readonly key?: string | undefined;
  /** What the key is encrypted with. */
  readonly passphrase?: string | undefined;
  /** Protocols to offer (ALPN), by preference. */
  readonly alpnProtocols?: readonly string[] | undefined;
  /** Gives up the handshake: the promise rejects with `signal.reason`, and the connection is closed. */
  readonly signal?: AbortSignal | undefined;
}

/** A connection that is encrypted. */
export interface EncryptedTransport extends Transport {
  /** `"TLSv1.3"`; null where the runtime does not tell. */
  readonly tlsVersion: string | null;
  /** What was agreed on by ALPN; null: nothing, or the runtime does not tell. */
  readonly alpnProtocol: string | null;
  /** The server's certificate as DER; null where the runtime does not tell. */
  readonly peerCertificate: Uint8Array | null;
}

/** What may be said about connecting. */
export interface TransportConnectOptions {
  /**
   * After how long a silence of both sides the system asks whether the other one is there (TCP keepalive), in
   * milliseconds; 0: never. Default: 30 seconds. Runtimes that have no say in it ignore it.
   */
  readonly keepaliveMs?: number | undefined;
  /** Gives up: the promise rejects with `signal.reason`, and nothing stays open. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens a transport.
 *
 * @throws {TransportError} where nobody answers; `signal.reason` where the signal fires.
 */
export type Connect = (address: Address, options: TransportConnectOptions) => Promise<Transport>;

/** What can go wrong with a transport. */
export type TransportErrorKind =
  | "connection-refused"
  | "connection-lost"
  | "connection-closed"
  | "connect-timeout"
  | "host-not-found"
  | "host-unreachable"
  | "permission-denied"
  | "tls-failed"
  | "tls-unavailable"
  | "certificate-rejected";

/** What a `TransportError` is made of, beside its message. */
export interface TransportErrorOptions extends PgStreamErrorOptions {
  /** For programs. */
  kind: TransportErrorKind;
  /** Who was to be reached. */
  address: Address;
}

/** A connection could not be made, or was lost. */
export class TransportError extends PgStreamError {
  /** `"TransportError"` */
  override name = "TransportError";
  /** What went wrong, for programs. */
  declare readonly kind: TransportErrorKind;
  /** Who was to be reached. */
  readonly address: Address;

  /**
   * Made where it is thrown.
   *
   * @param message names the address; the way out goes into `options.hint`.
   */
  constructor(message: string, options: TransportErrorOptions) {
    super(message, options);
    this.address = options.address;
  }
}

/**
 * An address as text, for messages.
 *
 * @example
 * ```ts
 * formatAddress({ host: "::1", port: 5432 }); // "[::1]:5432"
 * ```
 */
export function formatAddress(address: Address): string {
  if ("path" in address) return address.path;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `${host}:${address.port}`;
}
