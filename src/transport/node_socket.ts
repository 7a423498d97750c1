/** A socket of `node:net` or `node:tls` as the rest of the library reads and writes it. */
import type { Socket } from "node:net";
import { type Address, formatAddress, TransportError } from "./transport.ts";

// One read of the runtime's: enough to keep the socket busy while a chunk is being handled, and
// the bound of what an unread connection holds beside one more chunk.
const READ_AHEAD_BYTES = 64 * 1024;

/** What is different where the bytes do not come from the socket itself. */
export interface SocketSource {
  /** Holds the peer back, and lets it go on. Default: the socket's own. */
  readonly flow?: { pause(): void; resume(): void };
  /** Calls back once all that the socket has taken is on its way. Default: it is at once. */
  readonly whenSent?: (callback: () => void) => void;
  /** What an error of the socket means. Default: the connection is lost. */
  readonly describe?: (error: Error) => TransportError;
}

/** All of a `Transport` but `startTls()`. */
export abstract class SocketTransport {
  /** Where it leads. */
  readonly address: Address;
  readonly #socket: Socket;
  readonly #flow: NonNullable<SocketSource["flow"]>;
  readonly #whenSent: NonNullable<SocketSource["whenSent"]>;
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

  /** @param socket is connected, and nobody else's. */
  constructor(socket: Socket, address: Address, source: SocketSource = {}) {
    const { flow = socket, whenSent = (callback) => callback() } = source;
    const { describe = (error) => lost(address, error) } = source;
    this.#socket = socket;
    this.#flow = flow;
    this.#whenSent = whenSent;
    this.address = address;
    socket.on("data", (chunk: Uint8Array) => this.#receive(chunk));
    socket.on("end", () => this.#end());
    socket.on("error", (error) => this.fail(describe(error)));
    // With no "end" before it, a closed socket is a cut one.
    socket.on("close", () => this.#ended || this.fail(lost(address)));
  }

  /** True while a read waits. */
  get isBeingRead(): boolean {
    return this.#waiting !== null;
  }

  /** True where bytes have arrived that were not read. */
  get hasUnread(): boolean {
    return this.#chunks.length > 0;
  }

  /** True once the peer has ended its side. */
  get hasEnded(): boolean {
    return this.#ended;
  }

  /** As `Transport.read()`. */
  read(): Promise<Uint8Array | null> {
    const chunk = this.#chunks.shift();
    if (chunk !== undefined) {
      this.#queuedBytes -= chunk.length;
      if (this.#paused && this.#queuedBytes < READ_AHEAD_BYTES) {
        this.#paused = false;
        this.#flow.resume();
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

  /** As `Transport.write()`. */
  write(bytes: Uint8Array): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#writes.add(reject);
      const settle = (error?: Error | null) => {
        this.#writes.delete(reject);
        if (error) reject(this.#failure ?? lost(this.address, error));
        else resolve();
      };
      this.#socket.write(bytes, (error) => error ? settle(error) : this.#whenSent(settle));
    });
  }

  /** As `Transport.close()`. */
  close(): void {
    this.#chunks.length = 0;
    this.#queuedBytes = 0;
    this.fail(
      new TransportError(`The connection to ${formatAddress(this.address)} was closed here`, {
        kind: "connection-closed",
        address: this.address,
      }),
    );
  }

  /** Ends it: all that is pending rejects, and reads do after what has arrived. The first failure stays. */
  fail(failure: TransportError): void {
    if (this.#failure !== null) return;
    this.#failure = failure;
    this.#waiting?.reject(failure);
    this.#waiting = null;
    // Not every runtime calls back the writes of a socket that is destroyed.
    for (const reject of this.#writes) reject(failure);
    this.#writes.clear();
    this.#socket.destroy();
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
      this.#flow.pause();
    }
  }

  #end(): void {
    this.#ended = true;
    this.#waiting?.resolve(null);
    this.#waiting = null;
  }
}

/** The connection broke off. */
export function lost(address: Address, cause?: unknown): TransportError {
  return new TransportError(`The connection to ${formatAddress(address)} was lost`, {
    kind: "connection-lost",
    address,
    retryable: true,
    cause,
  });
}
