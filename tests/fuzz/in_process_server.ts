/**
 * A server without a socket: what it says is mutated, cut anywhere, and comes at once; where it has nothing more to
 * say, the connection ends. It follows the client message by message, right or not.
 */
import { createHmac, pbkdf2Sync } from "node:crypto";
import {
  type EncryptedTransport,
  type TlsOptions,
  TransportError,
} from "../../src/transport/transport.ts";
import { concat, int32, msg, say } from "../support/scripted_server.ts";
import type { Dice } from "./dice.ts";

const ADDRESS = { host: "127.0.0.1", port: 5432 };
const SSL_REQUEST_CODE = 80_877_103;
const CANCEL_REQUEST_CODE = 80_877_102;
/** What SCRAM is counted with: one each, so that what takes the time is not counting. */
const SALTS = ["sOerjKbUBfLbxv/Xc1Xw7A==", "AAAA", "W22ZaJ0SNY7soEsUEjb6gQ=="];
const NONCE = "ougXEdG8owKKakGwxFeiVADk";

/** How the server asks who is there. */
export type Method = "trust" | "cleartext" | "md5" | "scram" | "scram-plus" | "refuse";

/** What a server is like. */
export interface Character {
  method: Method;
  /** Of the user; null: it knows none, and proves nothing. */
  password: string | null;
  /** The answer to SSLRequest. */
  encrypts: boolean;
  certificate: Uint8Array | null;
  /** True: where it has nothing to say it says nothing, in place of ending the connection. */
  stalls: boolean;
  /** What it says where it refuses. */
  refusal: string;
  /** What comes with its first answer: notices, settings. */
  extra: readonly Uint8Array[];
  /** The answers to the client's queries, in their order. */
  answers: readonly Uint8Array[][];
  /** Makes something else of a message, or leaves it. */
  alter: (message: Uint8Array) => Uint8Array;
}

/** What proves that the server knows the password. */
export interface Proof {
  /** As it was sent, where nobody altered it. */
  serverFirst: string;
  signature: Uint8Array;
}

/** One connection, and the server behind it. */
export class InProcessServer implements EncryptedTransport {
  readonly tlsVersion = "TLSv1.3";
  readonly alpnProtocol = "postgresql";
  closed = false;
  /** What it gave out, byte for byte. */
  readonly sent: Uint8Array[] = [];
  /** Null until the client's last message of SCRAM has come. */
  proof: Proof | null = null;
  readonly #character: Character;
  readonly #dice: Dice;
  #state: "startup" | "password" | "scram-first" | "scram-final" | "ready" | "over" = "startup";
  #queries = 0;
  #clientFirstBare = "";
  #serverFirst = "";
  #salt = "";
  #iterations = 0;
  #waiting: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #reading: PromiseWithResolvers<Uint8Array | null> | null = null;

  constructor(character: Character, dice: Dice) {
    this.#character = character;
    this.#dice = dice;
  }

  get peerCertificate(): Uint8Array | null {
    return this.#character.certificate;
  }

  read(): Promise<Uint8Array | null> {
    if (this.closed) return Promise.reject(closedError());
    const { length } = this.#waiting;
    if (length > 0) {
      const size = this.#dice.chance(0.5) ? length : this.#dice.between(1, length);
      const chunk = this.#waiting.slice(0, size);
      this.#waiting = this.#waiting.subarray(size);
      return Promise.resolve(chunk);
    }
    if (!this.#character.stalls) return Promise.resolve(null);
    this.#reading = Promise.withResolvers();
    return this.#reading.promise;
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.closed) return Promise.reject(closedError());
    const answer = this.#answer(bytes);
    if (answer.length > 0) {
      const altered = concat(answer.map(this.#character.alter));
      this.sent.push(altered);
      this.#waiting = concat([this.#waiting, altered]);
      if (this.#reading !== null && altered.length > 0) {
        const { resolve } = this.#reading;
        this.#reading = null;
        resolve(this.#waiting);
        this.#waiting = new Uint8Array(0);
      }
    }
    return Promise.resolve();
  }

  close(): void {
    this.closed = true;
    this.#reading?.reject(closedError());
    this.#reading = null;
  }

  startTls(_options: TlsOptions): Promise<EncryptedTransport> {
    return Promise.resolve(this);
  }

  /** @param bytes one message of the client's: it writes each by itself. */
  #answer(bytes: Uint8Array): Uint8Array[] {
    const { method, encrypts, extra, answers } = this.#character;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    switch (this.#state) {
      case "startup": {
        const code = view.getInt32(4);
        if (code === SSL_REQUEST_CODE) return [Uint8Array.of(encrypts ? 0x53 : 0x4e)];
        if (code === CANCEL_REQUEST_CODE) return [];
        return [...this.#dice.chance(0.3) ? extra : [], ...this.#ask(method)];
      }
      case "password":
        return this.#welcome();
      case "scram-first":
        return [this.#continue(textOf(bytes))];
      case "scram-final":
        return [this.#final(textOf(bytes)), ...this.#welcome()];
      case "ready":
        return bytes[0] === 0x51 ? answers[this.#queries++] ?? [] : [];
      case "over":
        return [];
    }
  }

  #ask(method: Method): Uint8Array[] {
    switch (method) {
      case "trust":
        return this.#welcome();
      case "cleartext":
        this.#state = "password";
        return [say.cleartext];
      case "md5":
        this.#state = "password";
        return [msg("R", int32(5), [1, 2, 3, 4])];
      case "scram":
        this.#state = "scram-first";
        return [say.sasl("SCRAM-SHA-256")];
      case "scram-plus":
        this.#state = "scram-first";
        return [say.sasl("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")];
      case "refuse":
        this.#state = "over";
        return [say.error("FATAL", "28000", this.#character.refusal)];
    }
  }

  #welcome(): Uint8Array[] {
    this.#state = "ready";
    const { extra } = this.#character;
    return [
      say.authenticationOk,
      say.parameter("server_version", "18.4"),
      say.parameter("client_encoding", "UTF8"),
      ...extra,
      say.key,
      say.ready,
    ];
  }

  #continue(initial: string): Uint8Array {
    this.#state = "scram-final";
    const bareAt = initial.indexOf("n=,r=");
    this.#clientFirstBare = initial.slice(bareAt);
    const clientNonce = initial.slice(bareAt + "n=,r=".length);
    this.#salt = this.#dice.pick(SALTS);
    this.#iterations = this.#dice.between(1, 3);
    this.#serverFirst = `r=${clientNonce}${NONCE},s=${this.#salt},i=${this.#iterations}`;
    return say.saslContinue(this.#serverFirst);
  }

  #final(clientFinal: string): Uint8Array {
    const { password } = this.#character;
    const withoutProof = clientFinal.slice(0, clientFinal.lastIndexOf(",p="));
    const salted = saltedPassword(password ?? "another", this.#salt, this.#iterations);
    const message = `${this.#clientFirstBare},${this.#serverFirst},${withoutProof}`;
    const signature = hmac(hmac(salted, "Server Key"), message);
    if (password !== null) this.proof = { serverFirst: this.#serverFirst, signature };
    return say.saslFinal(`v=${signature.toString("base64")}`);
  }
}

const MOST_SALTED = 100;
const salted = new Map<string, Uint8Array>();

function saltedPassword(password: string, salt: string, iterations: number): Uint8Array {
  const key = `${salt} ${iterations} ${password}`;
  let bytes = salted.get(key);
  if (bytes === undefined) {
    bytes = pbkdf2Sync(password, Buffer.from(salt, "base64"), iterations, 32, "sha256");
    if (salted.size < MOST_SALTED) salted.set(key, bytes);
  }
  return bytes;
}

/** HMAC with SHA-256. */
export function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

/** What the server has to prove, of an exchange by itself. */
export function serverSignature(
  password: string,
  serverFirst: string,
  authMessage: string,
): Buffer {
  const [, salt, iterations] = /,s=([^,]*),i=(\d+)$/.exec(serverFirst)!;
  return hmac(hmac(saltedPassword(password, salt!, Number(iterations)), "Server Key"), authMessage);
}

function textOf(message: Uint8Array): string {
  return new TextDecoder().decode(message.subarray(5));
}

function closedError(): TransportError {
  return new TransportError("The connection was closed", {
    kind: "connection-closed",
    address: ADDRESS,
  });
}
