/**
 * The adapter on `node:net`, which serves Node, Deno and Bun; on Deno it costs less than
 * `Deno.connect`. Loaded only when a connection is made, so that the core pulls in no runtime.
 */
import { createConnection, type Socket } from "node:net";
import {
  type Address,
  type EncryptedTransport,
  formatAddress,
  type Transport,
  type TransportConnectOptions,
  TransportError,
  type TransportErrorKind,
} from "./transport.ts";

// One read of the runtime's: enough to keep the socket busy while a chunk is being handled, and
// the bound of what an unread connection holds beside one more chunk.
const READ_AHEAD_BYTES = 64 * 1024;
const KEEPALIVE_AFTER_MS = 30_000;

/**
 * Connects through `node:net`, with TCP_NODELAY and keepalive on.
 *
 * @throws {TransportError} `"connection-refused"`, `"host-not-found"`, `"host-unreachable"`,
 * `"permission-denied"`, `"connection-lost"`; `signal.reason` where the signal fires.
 */
export function connect(
  address: Address,
  { signal }: TransportConnectOptions = {},
): Promise<Transport> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    let socket: Socket;
    try {
      socket = createConnection(
        "path" in address ? { path: address.path } : { host: address.host, port: address.port },
      );
    } catch (error) {
      throw connectError(error, address);
    }
    const settle = () => {
      signal?.removeEventListener("abort", onAbort);
      socket.off("connect", onConnect);
      socket.off("close", onClose);
    };
    const onAbort = () => {
      settle();
      socket.destroy();
      reject(signal?.reason);
    };
    const onClose = () => onError(new Error("The socket was closed"));
    const onError = (error: unknown) => {
      settle();
      socket.destroy();
      reject(connectError(error, address));
    };
    const onConnect = () => {
      settle();
      if (!("path" in address)) {
        socket.setNoDelay(true);
        socket.setKeepAlive(true, KEEPALIVE_AFTER_MS);
      }
      resolve(new SocketTransport(socket, address));
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    socket.once("connect", onConnect);
    socket.once("close", onClose);
    // Stays for the socket's life: an "error" that nobody listens for ends the process.
    socket.on("error", onError);
  });
}

class SocketTransport implements Transport {
  readonly #socket: Socket;
  readonly #address: Address;
  readonly #chunks: Uint8Array[] = [];
  readonly #writes = new Set<(error: TransportError) => void>();
  #queuedBytes = 0;
  #paused = false;
  #ended = false;
  #failure: TransportError | null = null;
  #waiting: {
    resolve: (chunk: Uint8Array | null) => void;
    reject: (error: TransportError) => void;
  } | null = null;

  constructor(socket: Socket, address: Address) {
    this.#socket = socket;
    this.#address = address;
    socket.on("data", (chunk: Uint8Array) => this.#receive(chunk));
    socket.on("end", () => this.#end());
    socket.on("error", (error) => this.#fail(lost(address, error)));
    // With no "end" before it, a closed socket is a cut one.
    socket.on("close", () => this.#ended || this.#fail(lost(address)));
  }

  read(): Promise<Uint8Array | null> {
    const chunk = this.#chunks.shift();
    if (chunk !== undefined) {
      this.#queuedBytes -= chunk.length;
      if (this.#paused && this.#queuedBytes < READ_AHEAD_BYTES) {
        this.#paused = false;
        this.#socket.resume();
      }
      return Promise.resolve(chunk);
    }
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.#ended) return Promise.resolve(null);
    if (this.#waiting !== null) return Promise.reject(new TypeError("A read is already pending"));
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#writes.add(reject);
      this.#socket.write(bytes, (error) => {
        this.#writes.delete(reject);
        if (error) reject(this.#failure ?? lost(this.#address, error));
        else resolve();
      });
    });
  }

  close(): void {
    this.#chunks.length = 0;
    this.#queuedBytes = 0;
    this.#fail(
      new TransportError(`The connection to ${formatAddress(this.#address)} was closed here`, {
        kind: "connection-closed",
        address: this.#address,
      }),
    );
  }

  startTls(): Promise<EncryptedTransport> {
    return Promise.reject(
      new TransportError("Encryption is not there yet", {
        kind: "tls-unavailable",
        address: this.#address,
      }),
    );
  }

  #receive(chunk: Uint8Array): void {
    // A plain Uint8Array: `subarray` of a Buffer makes Buffers, whose `slice` does not copy.
    const bytes = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const waiting = this.#waiting;
    if (waiting !== null) {
      this.#waiting = null;
      waiting.resolve(bytes);
      return;
    }
    this.#chunks.push(bytes);
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes >= READ_AHEAD_BYTES && !this.#paused) {
      this.#paused = true;
      this.#socket.pause();
    }
  }

  #end(): void {
    this.#ended = true;
    this.#waiting?.resolve(null);
    this.#waiting = null;
  }

  #fail(failure: TransportError): void {
    if (this.#failure !== null) return;
    this.#failure = failure;
    this.#waiting?.reject(failure);
    this.#waiting = null;
    // Not every runtime calls back the writes of a socket that is destroyed.
    for (const reject of this.#writes) reject(failure);
    this.#writes.clear();
    this.#socket.destroy();
  }
}

function lost(address: Address, cause?: unknown): TransportError {
  return new TransportError(`The connection to ${formatAddress(address)} was lost`, {
    kind: "connection-lost",
    address,
    retryable: true,
    cause,
  });
}

interface Failure {
  readonly kind: TransportErrorKind;
  readonly what: string;
  readonly hint: string;
  readonly retryable: boolean;
}

const REFUSED: Failure = {
  kind: "connection-refused",
  what: "nothing listens there",
  hint: "Is the server running, and are host and port right?",
  retryable: true,
};
const NOT_FOUND: Failure = {
  kind: "host-not-found",
  what: "the host name is not known",
  hint: "Check the host name, and the name service of this machine.",
  // A name service that restarts, or a service that is being replaced, answers so for a moment.
  retryable: true,
};
const UNREACHABLE: Failure = {
  kind: "host-unreachable",
  what: "the network gives no answer",
  hint: "Check the address, the network and its firewalls.",
  retryable: true,
};
const DENIED: Failure = {
  kind: "permission-denied",
  what: "this process may not connect there",
  hint: "On Deno pass --allow-net=HOST:PORT (for a unix socket --allow-net=unix:PATH and " +
    "--allow-read and --allow-write of it); else check the rights on the socket's directory.",
  retryable: false,
};
const OTHER: Failure = {
  kind: "connection-lost",
  what: "the connection broke off",
  hint: "Try again; the cause says more.",
  retryable: true,
};

const FAILURES: Readonly<Record<string, Failure>> = {
  ECONNREFUSED: REFUSED,
  // The file of a unix socket is gone while its server restarts.
  ENOENT: REFUSED,
  ENOTFOUND: NOT_FOUND,
  EAI_AGAIN: { ...NOT_FOUND, what: "the name service gives no answer" },
  ETIMEDOUT: UNREACHABLE,
  EHOSTUNREACH: UNREACHABLE,
  ENETUNREACH: UNREACHABLE,
  EACCES: DENIED,
  EPERM: DENIED,
};

function connectError(error: unknown, address: Address): TransportError {
  const failure = isDenoPermission(error) ? DENIED : FAILURES[codeOf(error)] ?? OTHER;
  const { kind, hint, retryable } = failure;
  const message = `Cannot connect to ${formatAddress(address)}: ${failure.what}`;
  return new TransportError(message, { kind, hint, retryable, address, cause: error });
}

function isDenoPermission(error: unknown): boolean {
  return error instanceof Error &&
    (error.name === "NotCapable" || error.name === "PermissionDenied");
}

function codeOf(error: unknown): string {
  // A host with several addresses fails with an AggregateError of one error each.
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : "";
}
