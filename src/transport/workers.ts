/**
 * The adapter on `connect` of `cloudflare:sockets`, which is passed in: this module imports nothing of the
 * platform, and type-checks everywhere.
 * https://developers.cloudflare.com/workers/runtime-apis/tcp-sockets/
 */
import {
  type Address,
  type Connect,
  type EncryptedTransport,
  formatAddress,
  type TlsOptions,
  type Transport,
  TransportError,
} from "./transport.ts";

/** What is used of a `Socket` of `cloudflare:sockets`. */
export interface WorkersSocket {
  /** What the peer sends. */
  readonly readable: {
    getReader(): {
      read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
      cancel(reason?: unknown): Promise<void>;
      releaseLock(): void;
    };
  };
  /** What is sent to it. */
  readonly writable: {
    getWriter(): {
      write(chunk: Uint8Array): Promise<void>;
      releaseLock(): void;
    };
  };
  /** Settles once it is connected; after `startTls()` once the handshake is done. */
  readonly opened: Promise<unknown>;
  /** Settles once it is closed. */
  readonly closed: Promise<unknown>;
  /** Closes it. */
  close(): Promise<unknown>;
  /** Another socket, which is encrypted. */
  startTls(options: { expectedServerHostname: string }): WorkersSocket;
}

/** `connect` of `cloudflare:sockets`. */
export type WorkersSocketConnect = (
  address: { hostname: string; port: number },
  options: { secureTransport: "starttls"; allowHalfOpen: boolean },
) => WorkersSocket;

/**
 * Connects through `cloudflare:sockets`.
 *
 * - There are no unix sockets (`"host-unreachable"`), and `keepaliveMs` has no effect.
 * - The runtime does not say why it cannot connect: a name that nobody knows is `"connection-refused"` too.
 * - TLS is the runtime's own. It checks the certificate and the host's name by the authorities that it trusts,
 *   under every `sslmode` but `disable`, and does not say what is wrong with a certificate (`"tls-failed"`).
 * - `sslrootcert=FILE`, `sslcert`, `sslsni=0` and `sslnegotiation=direct` are `"tls-unavailable"`; and so no
 *   certificate is shown that SCRAM could be bound to.
 * - Whoever ends an encrypted connection in between seems to be the server that ends it.
 * - What connects belongs to one request, as all sockets there: make a stream in each.
 *
 * @example
 * ```ts ignore
 * import { connect } from "cloudflare:sockets";
 *
 * const stream = new PgStream({ dsn: env.DATABASE_URL, connect: workersConnect(connect) });
 * ```
 *
 * @param connect of `cloudflare:sockets`.
 */
export function workersConnect(connect: WorkersSocketConnect): Connect {
  return async (address, { signal }) => {
    signal?.throwIfAborted();
    if ("path" in address) throw noUnixSockets(address);
    let socket: WorkersSocket | null = null;
    try {
      socket = connect(
        { hostname: address.host, port: address.port },
        // What the peer has ended can still be written to.
        { secureTransport: "starttls", allowHalfOpen: true },
      );
      await opened(socket, signal);
    } catch (error) {
      if (socket !== null) close(socket);
      throw signal?.aborted ? signal.reason : connectError(error, address);
    }
    return new PlainTransport(socket, address);
  };
}

/** All of a `Transport` but `startTls()`. It is read only when asked for: nothing is read ahead. */
class SocketTransport {
  readonly address: Address;
  readonly #socket: WorkersSocket;
  readonly #reader: ReturnType<WorkersSocket["readable"]["getReader"]>;
  readonly #writer: ReturnType<WorkersSocket["writable"]["getWriter"]>;
  readonly #writes = new Set<(error: TransportError) => void>();
  readonly #earlyHint: string | undefined;
  #isReading = false;
  #hasRead = false;
  #hasWritten = false;
  #over: TransportError | null = null;

  /** @param earlyHint what to do where it is lost before anything has come. */
  constructor(socket: WorkersSocket, address: Address, earlyHint?: string) {
    this.address = address;
    this.#earlyHint = earlyHint;
    this.#socket = socket;
    this.#reader = socket.readable.getReader();
    this.#writer = socket.writable.getWriter();
    // Where it fails, who reads or writes is told.
    socket.closed.catch(() => {});
  }

  /** True once something was sent. */
  get hasWritten(): boolean {
    return this.#hasWritten;
  }

  async read(): Promise<Uint8Array | null> {
    if (this.#over !== null) throw this.#over;
    if (this.#isReading) throw new TypeError("A read is already pending");
    this.#isReading = true;
    try {
      const { done, value = null } = await this.#reader.read();
      // A read that is cancelled need not reject.
      if (this.#over !== null) throw this.#over;
      if (done) return null;
      this.#hasRead = true;
      return value;
    } catch (error) {
      throw this.#over ?? this.#lost(error);
    } finally {
      this.#isReading = false;
    }
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#over !== null) return Promise.reject(this.#over);
    this.#hasWritten = true;
    return new Promise((resolve, reject) => {
      this.#writes.add(reject);
      this.#writer.write(bytes)
        .then(resolve, (error) => reject(this.#lost(error)))
        .finally(() => this.#writes.delete(reject));
    });
  }

  close(): void {
    if (this.#over !== null) return;
    this.#over = closedHere(this.address);
    // Not by aborting the writer, which keeps the connection open for as long as the request takes.
    for (const reject of this.#writes) reject(this.#over);
    this.#writes.clear();
    this.#reader.cancel(this.#over).catch(() => {});
    close(this.#socket);
  }

  /** Gives up the socket to whoever goes on with it. */
  handOver(): WorkersSocket {
    if (this.#over !== null) throw this.#over;
    if (this.#isReading) throw new TypeError("A read is pending");
    this.#over = closedHere(this.address);
    this.#reader.releaseLock();
    this.#writer.releaseLock();
    return this.#socket;
  }

  #lost(cause: unknown): TransportError {
    const hint = this.#hasRead ? undefined : this.#earlyHint;
    return new TransportError(`The connection to ${formatAddress(this.address)} was lost`, {
      kind: "connection-lost",
      address: this.address,
      retryable: true,
      cause,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

class PlainTransport extends SocketTransport implements Transport {
  async startTls(options: TlsOptions): Promise<EncryptedTransport> {
    const { host, signal } = options;
    let socket: WorkersSocket | null = null;
    try {
      signal?.throwIfAborted();
      this.#refuseWhatCannotBe(options);
      socket = this.handOver();
      socket = socket.startTls({ expectedServerHostname: host });
      await opened(socket, signal);
      return new TlsTransport(socket, this.address);
    } catch (error) {
      if (socket === null) this.close();
      else close(socket);
      if (signal?.aborted) throw signal.reason;
      if (socket === null) throw error;
      throw handshakeError(error, this.address, host);
    }
  }

  #refuseWhatCannotBe({ ca, cert, key, sendName, alpnProtocols }: TlsOptions): void {
    const trust = "The server's certificate has to be of an authority that the runtime trusts.";
    if (ca !== undefined) throw this.#unavailable("trust what sslrootcert names", trust);
    if (cert !== undefined || key !== undefined) {
      throw this.#unavailable("show a client certificate (sslcert)", "Use a password.");
    }
    if (sendName === false) {
      throw this.#unavailable("keep back the host's name (sslsni=0)", "Leave out sslsni.");
    }
    // What begins with the handshake has to say by ALPN what it is: PostgreSQL insists on it.
    if (!this.hasWritten && (alpnProtocols?.length ?? 0) > 0) {
      throw this.#unavailable(
        "offer a protocol (ALPN), as sslnegotiation=direct needs it",
        "Use sslnegotiation=postgres.",
      );
    }
  }

  #unavailable(what: string, hint: string): TransportError {
    return new TransportError(
      `Cannot encrypt the connection to ${formatAddress(this.address)}: Workers cannot ${what}`,
      { kind: "tls-unavailable", address: this.address, hint },
    );
  }
}

class TlsTransport extends SocketTransport implements EncryptedTransport {
  readonly tlsVersion = null;
  readonly alpnProtocol = null;
  readonly peerCertificate = null;

  constructor(socket: WorkersSocket, address: Address) {
    // Runtimes of 2025 call a socket open before the handshake is done.
    super(
      socket,
      address,
      `Where this comes each time, look at the certificate. ${CERTIFICATE_HINT}`,
    );
  }

  startTls(): Promise<EncryptedTransport> {
    this.close();
    return Promise.reject(
      new TransportError(`The connection to ${formatAddress(this.address)} is encrypted already`, {
        kind: "tls-failed",
        address: this.address,
      }),
    );
  }
}

/** Waits for a socket to be open. */
async function opened(socket: WorkersSocket, signal: AbortSignal | undefined): Promise<void> {
  // Is told by `opened` too.
  socket.closed.catch(() => {});
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
  try {
    await Promise.race([socket.opened, aborted]);
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

function close(socket: WorkersSocket): void {
  socket.opened.catch(() => {});
  socket.close().catch(() => {});
}

function closedHere(address: Address): TransportError {
  return new TransportError(`The connection to ${formatAddress(address)} was closed here`, {
    kind: "connection-closed",
    address,
  });
}

function noUnixSockets(address: Address): TransportError {
  return new TransportError(
    `Cannot connect to ${formatAddress(address)}: Workers have no unix sockets`,
    { kind: "host-unreachable", address, hint: "Connect by TCP: host=NAME and port=NUMBER." },
  );
}

function connectError(cause: unknown, address: Address): TransportError {
  const failed = `Cannot connect to ${formatAddress(address)}`;
  // It did not even try.
  if (cause instanceof TypeError) {
    return new TransportError(`${failed}: that is no address to the runtime`, {
      kind: "host-not-found",
      address,
      hint: "Are host and port right?",
      cause,
    });
  }
  return new TransportError(`${failed}: the runtime gets no connection, and does not say why`, {
    kind: "connection-refused",
    address,
    hint: "Is the server running, are host and port right, and may the public reach it?",
    retryable: true,
    cause,
  });
}

const CERTIFICATE_HINT =
  "An authority that the runtime trusts has to vouch for it, and for this host. " +
  "sslmode=disable is for a network that you trust.";

function handshakeError(cause: unknown, address: Address, host: string): TransportError {
  return new TransportError(
    `Encryption of the connection to ${formatAddress(address)} failed: the runtime rejects the ` +
      `certificate, as one for ${host}, or there is no TLS; it does not say which`,
    // A network that failed in the middle looks the same, and passes.
    { kind: "tls-failed", address, hint: CERTIFICATE_HINT, retryable: true, cause },
  );
}
