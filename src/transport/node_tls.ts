/**
 * Encryption by `node:tls`, for the adapter on `node:net`. Loaded only when a connection is encrypted.
 *
 * TLS reads and writes the plain transport, not the socket. So reading stops where the plain transport is not
 * read, which is all that holds a sender back on every runtime (on Deno `pause()` of an encrypted socket does
 * not); and it is seen whether the peer ended the encryption before it ended the connection, which `node:tls`
 * does not tell.
 */
import { isIP } from "node:net";
import { Duplex } from "node:stream";
import { setImmediate } from "node:timers";
import { connect, type TLSSocket } from "node:tls";
import { SocketTransport } from "./node_socket.ts";
import { readCredentials } from "./node_tls_credentials.ts";
import {
  cutShort,
  endedEarly,
  injected,
  lostUnheard,
  rejectionOf,
  tlsError,
} from "./node_tls_errors.ts";
import {
  type EncryptedTransport,
  formatAddress,
  type TlsOptions,
  TransportError,
} from "./transport.ts";

/** As `Transport.startTls()`, but that whoever calls it closes `plain` where it fails. */
export function startTls(plain: SocketTransport, options: TlsOptions): Promise<EncryptedTransport> {
  const { address } = plain;
  const { host, signal } = options;
  const credentials = readCredentials(options, address);
  if (plain.isBeingRead) throw new TypeError("A read is pending");
  if (plain.hasUnread) throw injected(address);
  return new Promise((resolve, reject) => {
    let encrypted: TlsTransport | null = null;
    const carrier = new Carrier(plain, (failure) => {
      if (encrypted === null) fail(failure ?? endedEarly(address));
      else if (failure === null) encrypted.hasEnded || encrypted.fail(cutShort(address));
      else if (credentials.cert === undefined || encrypted.hasReceived) encrypted.fail(failure);
      else encrypted.fail(lostUnheard(address, failure));
    });
    const socket = connect({
      socket: carrier,
      ...(isIP(host) === 0 && options.sendName !== false ? { servername: host } : {}),
      minVersion: "TLSv1.2",
      ...(options.alpnProtocols === undefined ? {} : { ALPNProtocols: [...options.alpnProtocols] }),
      ...credentials,
      // Who answers is looked at in `rejectionOf()`, which can say what is wrong with it.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    });
    const settle = () => {
      signal?.removeEventListener("abort", onAbort);
      socket.off("secureConnect", onSecure);
      socket.off("close", onClose);
    };
    const fail = (error: unknown) => {
      settle();
      socket.destroy();
      reject(error);
    };
    const onAbort = () => fail(signal?.reason);
    const onClose = () => fail(endedEarly(address));
    const onError = (error: Error) => fail(tlsError(error, address));
    const onSecure = () => {
      try {
        const rejection = rejectionOf(socket, options, address);
        if (rejection !== null) return fail(rejection);
        encrypted = new TlsTransport(socket, plain, carrier);
      } catch (error) {
        // A certificate that a runtime cannot make sense of, with nobody else to catch it.
        return onError(error as Error);
      }
      settle();
      resolve(encrypted);
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    socket.once("secureConnect", onSecure);
    socket.once("close", onClose);
    // Stays for the socket's life: an "error" that nobody listens for ends the process.
    socket.on("error", onError);
  });
}

class TlsTransport extends SocketTransport implements EncryptedTransport {
  readonly tlsVersion: string | null;
  readonly alpnProtocol: string | null;
  readonly peerCertificate: Uint8Array | null;
  /** True once the other side has said something. */
  hasReceived = false;
  readonly #plain: SocketTransport;

  constructor(socket: TLSSocket, plain: SocketTransport, carrier: Carrier) {
    const { address } = plain;
    super(socket, address, {
      flow: { pause: () => carrier.hold(), resume: () => carrier.release() },
      // Bun's TLS says that it has written what it has only encrypted.
      whenSent: (callback) => carrier.whenSent(callback),
      describe: (error) => tlsError(error, address),
    });
    socket.once("data", () => this.hasReceived = true);
    this.#plain = plain;
    this.tlsVersion = socket.getProtocol();
    this.alpnProtocol = socket.alpnProtocol || null;
    const { raw } = socket.getPeerCertificate();
    this.peerCertificate = raw === undefined ? null : new Uint8Array(raw);
  }

  override fail(failure: TransportError): void {
    super.fail(failure);
    this.#plain.close();
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

/** What TLS has for a socket. It reads the plain transport when it is asked to, but while it is held. */
class Carrier extends Duplex {
  readonly #plain: SocketTransport;
  readonly #onOver: (failure: TransportError | null) => void;
  #isOver = false;
  #isBroken = false;
  #isHeld = false;
  #isWanted = false;
  #isReading = false;
  #sentBytes = 0;
  readonly #unsent: { untilBytes: number; callback: () => void }[] = [];

  /** @param onOver the peer has ended the connection, or it failed; once, and after what came before. */
  constructor(plain: SocketTransport, onOver: (failure: TransportError | null) => void) {
    super();
    this.#plain = plain;
    this.#onOver = onOver;
  }

  hold(): void {
    this.#isHeld = !this.#isBroken;
  }

  release(): void {
    this.#isHeld = false;
    this.#pull();
  }

  whenSent(callback: () => void): void {
    if (this.writableLength === 0) callback();
    else this.#unsent.push({ untilBytes: this.#sentBytes + this.writableLength, callback });
  }

  override _read(): void {
    this.#isWanted = true;
    this.#pull();
  }

  override _write(bytes: Uint8Array, _encoding: string, callback: () => void): void {
    this.#send([bytes], callback);
  }

  override _writev(writes: { chunk: Uint8Array }[], callback: () => void): void {
    this.#send(writes.map(({ chunk }) => chunk), callback);
  }

  override _destroy(_error: Error | null, callback: () => void): void {
    this.#plain.close();
    callback();
  }

  #send(chunks: Uint8Array[], callback: () => void): void {
    Promise.all(chunks.map((chunk) => this.#plain.write(chunk))).then(() => {
      callback();
      for (const { length } of chunks) this.#sentBytes += length;
      while (this.#unsent.length > 0 && this.#unsent[0]!.untilBytes <= this.#sentBytes) {
        this.#unsent.shift()!.callback();
      }
    }, () => {
      // What has arrived is still to be handed out, and then to be said why there is no more.
      this.#isBroken = true;
      this.release();
    });
  }

  #pull(): void {
    if (!this.#isWanted || this.#isHeld || this.#isReading) return;
    this.#isWanted = false;
    this.#isReading = true;
    this.#plain.read().then((chunk) => {
      this.#isReading = false;
      if (chunk === null) this.#end(null);
      else this.push(chunk);
    }, (failure) => this.#end(failure));
  }

  // The end is not passed on: TLS takes it for one of its own, which anyone in between can make.
  #end(failure: TransportError | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const look = () => {
      if (this.destroyed) return;
      if (this.readableLength > 0) setImmediate(look);
      else this.#onOver(failure);
    };
    // By then TLS has said what it makes of the bytes that it was given.
    setImmediate(look);
  }
}
