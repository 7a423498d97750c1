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
}

/** What may be said about connecting. */
export interface TransportConnectOptions {
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
  | "permission-denied";

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
