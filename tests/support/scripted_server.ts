/**
 * A server that says what a test tells it to, over real loopback TCP: for the answers that no real
 * PostgreSQL gives.
 */
import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import type { ConnectionOptions } from "../../src/wire/options.ts";

/** A running scripted server. */
export interface ScriptedServer {
  port: number;
  /** Options that lead here, as user `app` with no password. */
  options: ConnectionOptions;
  /** What scripts threw. */
  failures: unknown[];
  /** Connections that are open now. */
  open(): number;
  stop(): Promise<void>;
}

/** Runs `script` for each connection; afterwards the connection stays as the script left it. */
export async function startScripted(
  script: (peer: Peer) => Promise<void>,
): Promise<ScriptedServer> {
  const sockets = new Set<Socket>();
  const failures: unknown[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    script(new Peer(socket)).catch((error) => {
      if (!(error instanceof PeerGone)) failures.push(error);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    port,
    options: {
      hosts: [{ host: "127.0.0.1", port }],
      user: "app",
      database: "db",
      applicationName: "pgstream",
      connectTimeoutMs: 5000,
      ssl: { mode: "disable", negotiation: "postgres", sni: true },
      channelBinding: "prefer",
      targetSessionAttrs: "any",
      loadBalanceHosts: "disable",
    },
    failures,
    open: () => sockets.size,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** The client went away while the script was waiting for it. */
export class PeerGone extends Error {}

const SSL_REQUEST = 80877103;

/** One client, as the script sees it. */
export class Peer {
  readonly socket: Socket;
  /** True where `startup()` was not what came first. */
  askedToEncrypt = false;
  #bytes = new Uint8Array(0);
  #ended = false;
  #wake: () => void = () => {};

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Uint8Array) => {
      this.#bytes = concat([this.#bytes, chunk]);
      this.#wake();
    });
    const end = () => {
      this.#ended = true;
      this.#wake();
    };
    socket.on("end", end);
    socket.on("close", end);
    socket.on("error", end);
  }

  /** The next `length` bytes. */
  async take(length: number): Promise<Uint8Array> {
    while (this.#bytes.length < length) {
      if (this.#ended) throw new PeerGone();
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const bytes = this.#bytes.slice(0, length);
    this.#bytes = this.#bytes.slice(length);
    return bytes;
  }

  /** SSLRequest, answered with these bytes. */
  async sslRequest(answer: string): Promise<void> {
    const [length, code] = [await this.take(4), await this.take(4)];
    if (int32At(length) !== 8 || int32At(code) !== SSL_REQUEST) {
      throw new Error(`${int32At(length)}, ${int32At(code)} is no SSLRequest`);
    }
    await this.send(encoder.encode(answer));
  }

  /** All that comes until the client closes, in Latin-1. */
  async rest(): Promise<string> {
    await this.closed();
    return new TextDecoder("latin1").decode(this.#bytes);
  }

  /** StartupMessage's parameters. Who asks for encryption first is told that there is none. */
  async startup(): Promise<Record<string, string>> {
    const length = int32At(await this.take(4));
    const rest = await this.take(length - 4);
    if (length === 8 && int32At(rest) === SSL_REQUEST) {
      this.askedToEncrypt = true;
      await this.send(encoder.encode("N"));
      return await this.startup();
    }
    const texts = new TextDecoder().decode(rest.subarray(4)).split("\0");
    const parameters: Record<string, string> = {};
    for (let i = 0; texts[i] !== ""; i += 2) parameters[texts[i]!] = texts[i + 1]!;
    return parameters;
  }

  /** The next message: its type as a letter, its body. */
  async message(): Promise<{ type: string; body: Uint8Array; text: string }> {
    const type = String.fromCharCode((await this.take(1))[0]!);
    const body = await this.take(int32At(await this.take(4)) - 4);
    return { type, body, text: new TextDecoder().decode(body) };
  }

  /** Sends, and waits until the runtime has taken it. */
  send(...messages: Uint8Array[]): Promise<void> {
    return new Promise((resolve) => this.socket.write(concat(messages), () => resolve()));
  }

  /** Until the client has closed. */
  async closed(): Promise<void> {
    while (!this.#ended) await new Promise<void>((resolve) => this.#wake = resolve);
  }
}

const encoder = new TextEncoder();

/** A message: type, length, body of parts. */
export function msg(type: string, ...parts: (string | number[] | Uint8Array)[]): Uint8Array {
  const body = concat(
    parts.map((part) => typeof part === "string" ? encoder.encode(part) : Uint8Array.from(part)),
  );
  return concat([encoder.encode(type), Uint8Array.from(int32(body.length + 4)), body]);
}

/** Int32, big-endian. */
export function int32(value: number): number[] {
  return [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

/** Int16, big-endian. */
export function int16(value: number): number[] {
  return [(value >>> 8) & 255, value & 255];
}

/** Messages that every script needs. */
export const say = {
  authenticationOk: msg("R", int32(0)),
  cleartext: msg("R", int32(3)),
  sasl: (...mechanisms: string[]): Uint8Array =>
    msg("R", int32(10), mechanisms.map((name) => `${name}\0`).join(""), [0]),
  saslContinue: (text: string): Uint8Array => msg("R", int32(11), text),
  saslFinal: (text: string): Uint8Array => msg("R", int32(12), text),
  key: msg("K", int32(77), [1, 2, 3, 4]),
  parameter: (name: string, value: string): Uint8Array => msg("S", `${name}\0${value}\0`),
  ready: msg("Z", "I"),
  error: (severity: string, code: string, message: string, more = ""): Uint8Array =>
    msg("E", `S${severity}\0V${severity}\0C${code}\0M${message}\0${more}`, [0]),
  notice: (message: string): Uint8Array => msg("N", `SNOTICE\0C00000\0M${message}\0`, [0]),
  row: (...values: (string | null)[]): Uint8Array =>
    msg("D", [
      ...int16(values.length),
      ...values.flatMap((value) => {
        if (value === null) return int32(-1);
        const bytes = encoder.encode(value);
        return [...int32(bytes.length), ...bytes];
      }),
    ]),
  columns: (...names: string[]): Uint8Array =>
    msg(
      "T",
      int16(names.length),
      ...names.flatMap((name) => [
        `${name}\0`,
        [...int32(0), ...int16(0), ...int32(25), ...int16(-1), ...int32(-1), ...int16(0)],
      ]),
    ),
  complete: (tag: string): Uint8Array => msg("C", `${tag}\0`),
  copyBoth: msg("W", [0], int16(0)),
  copyOut: msg("H", [0], int16(0)),
  copyData: (payload: string | Uint8Array): Uint8Array => msg("d", payload),
  copyDone: msg("c"),
};

/** Accepts the start-up without asking for anything. */
export async function welcome(peer: Peer, ...extra: Uint8Array[]): Promise<Record<string, string>> {
  const parameters = await peer.startup();
  await peer.send(
    say.authenticationOk,
    say.parameter("server_version", "18.4"),
    say.key,
    ...extra,
    say.ready,
  );
  return parameters;
}

/** What a SCRAM server does wrong, if anything. */
export interface ScramFaults {
  iterations?: number | string;
  /** Instead of the client's nonce continued. */
  nonce?: (client: string) => string;
  salt?: string;
  /** Instead of `v=…`; given the right signature. */
  final?: (signature: Uint8Array) => string | null;
  /** What is offered. */
  mechanisms?: string[];
  /** Is given the mechanism with the client's first message, and its final one. */
  seen?: string[];
}

/** The server's side of SCRAM-SHA-256, up to but without AuthenticationOk. */
export async function scram(
  peer: Peer,
  password: string,
  faults: ScramFaults = {},
): Promise<boolean> {
  await peer.send(say.sasl(...faults.mechanisms ?? ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]));
  const initial = (await peer.message()).text;
  faults.seen?.push(initial);
  const clientFirstBare = initial.slice(initial.indexOf("n=,"));
  const clientNonce = clientFirstBare.slice("n=,r=".length);
  const nonce = faults.nonce?.(clientNonce) ??
    `${clientNonce}${randomBytes(12).toString("base64")}`;
  const salt = faults.salt ?? randomBytes(16).toString("base64");
  const iterations = faults.iterations ?? 4096;
  const serverFirst = `r=${nonce},s=${salt},i=${iterations}`;
  await peer.send(say.saslContinue(serverFirst));
  const final = (await peer.message()).text;
  faults.seen?.push(final);
  const withoutProof = final.slice(0, final.lastIndexOf(",p="));
  const salted = pbkdf2Sync(
    password,
    Buffer.from(salt, "base64"),
    Number(iterations),
    32,
    "sha256",
  );
  const authMessage = `${clientFirstBare},${serverFirst},${withoutProof}`;
  const hmac = (key: Uint8Array, text: string) => createHmac("sha256", key).update(text).digest();
  const clientKey = hmac(salted, "Client Key");
  const storedKey = createHash("sha256").update(clientKey).digest();
  const signature = hmac(storedKey, authMessage);
  const proof = Buffer.from(final.slice(final.lastIndexOf(",p=") + 3), "base64");
  const right = proof.every((byte, i) => byte === (clientKey[i]! ^ signature[i]!));
  const serverSignature = hmac(hmac(salted, "Server Key"), authMessage);
  const said = faults.final === undefined
    ? `v=${serverSignature.toString("base64")}`
    : faults.final(serverSignature);
  if (said !== null) await peer.send(say.saslFinal(said));
  return right;
}

/** One array of all. */
export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function int32At(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(0);
}
