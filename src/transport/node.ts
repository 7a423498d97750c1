/**
 * The adapter on `node:net`, which serves Node, Deno and Bun; on Deno it costs less than
 * `Deno.connect`. Loaded only when a connection is made, so that the core pulls in no runtime.
 */
import { createConnection, type Socket } from "node:net";
import { SocketTransport } from "./node_socket.ts";
import {
  type Address,
  type EncryptedTransport,
  formatAddress,
  type TlsOptions,
  type Transport,
  type TransportConnectOptions,
  TransportError,
  type TransportErrorKind,
} from "./transport.ts";

const KEEPALIVE_AFTER_MS = 30_000;

/**
 * Connects through `node:net`, with TCP_NODELAY on, and keepalive unless told otherwise.
 *
 * @throws {TransportError} `"connection-refused"`, `"host-not-found"`, `"host-unreachable"`,
 * `"permission-denied"`, `"connection-lost"`; `signal.reason` where the signal fires.
 */
export function connect(
  address: Address,
  { signal, keepaliveMs = KEEPALIVE_AFTER_MS }: TransportConnectOptions = {},
): Promise<Transport> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    let socket: Socket;
    try {
      // What the peer has ended can still be written to.
      socket = createConnection({ ...address, allowHalfOpen: true });
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
        socket.setKeepAlive(keepaliveMs > 0, keepaliveMs);
      }
      resolve(new PlainTransport(socket, address));
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    socket.once("connect", onConnect);
    socket.once("close", onClose);
    // Stays for the socket's life: an "error" that nobody listens for ends the process.
    socket.on("error", onError);
  });
}

class PlainTransport extends SocketTransport implements Transport {
  async startTls(options: TlsOptions): Promise<EncryptedTransport> {
    const { signal } = options;
    try {
      signal?.throwIfAborted();
      const { startTls } = await import("./node_tls.ts");
      return await startTls(this, options);
    } catch (error) {
      this.close();
      throw signal?.aborted ? signal.reason : error;
    }
  }
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
