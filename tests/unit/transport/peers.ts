/** What the adapter on `node:net` is tested against: peers on TCP, on unix sockets, and behind TLS. */

import { assertEquals } from "@std/assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import {
  type AddressInfo,
  connect as connectSocket,
  createServer,
  type Server,
  type Socket,
} from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import { fileURLToPath } from "node:url";
import type { Address } from "../../../src/transport/transport.ts";
import type { Peer } from "../../contract/transport_contract.ts";

/** Listens, and ends all of it at once. */
export class Peers {
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #folders: string[] = [];

  /** On a port of the loopback interface. */
  async tcp(
    onSocket: (socket: Socket) => void = () => {},
  ): Promise<{ host: string; port: number }> {
    const server = this.#serve(createServer({ allowHalfOpen: true }), "connection", onSocket);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return { host: "127.0.0.1", port: (server.address() as AddressInfo).port };
  }

  /** On a unix socket. */
  async unix(onSocket: (socket: Socket) => void = () => {}): Promise<{ path: string }> {
    const path = join(this.#folder(), "socket");
    const server = this.#serve(createServer({ allowHalfOpen: true }), "connection", onSocket);
    server.listen(path);
    await once(server, "listening");
    return { path };
  }

  /**
   * On TLS. Each connection goes through a plain socket, by which it can be cut with no end of TLS.
   *
   * @param onSocket is given the encrypted socket and that plain one
   */
  async tls(
    options: TlsOptions,
    onSocket: (socket: Socket, plain: Socket) => void = () => {},
  ): Promise<{ host: string; port: number }> {
    // The plain end of a connection, by the port from which it goes on to the server.
    const plains = new Map<number, Socket>();
    const server = createTlsServer({ ...options, allowHalfOpen: true });
    server.on("tlsClientError", () => {});
    this.#serve(server, "secureConnection", (socket) => {
      onSocket(socket, plains.get(socket.remotePort!)!);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    return await this.tcp((plain) => {
      plain.pause();
      const inner = connectSocket({ port, host: "127.0.0.1", allowHalfOpen: true });
      this.#keep(inner);
      inner.on("connect", () => {
        plains.set(inner.localPort!, plain);
        plain.pipe(inner);
        inner.pipe(plain);
      });
      // What the one under test sent before it closed is still to arrive.
      plain.on("close", () => inner.end());
      inner.on("close", () => plain.destroy());
    });
  }

  /** A port where nobody listens. */
  async closedPort(): Promise<{ host: string; port: number }> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    return { host: "127.0.0.1", port };
  }

  /** A unix socket that is not there. */
  closedPath(): { path: string } {
    return { path: join(this.#folder(), "nothing") };
  }

  /** Ends all of it. */
  release(): void {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
    for (const folder of this.#folders) rmSync(folder, { recursive: true, force: true });
  }

  #serve(server: Server, event: string, onSocket: (socket: Socket) => void): Server {
    this.#servers.push(server);
    return server.on(event, (socket: Socket) => {
      this.#keep(socket);
      onSocket(socket);
    });
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
  }

  #folder(): string {
    const folder = mkdtempSync(join(tmpdir(), "pgstream-peer-"));
    this.#folders.push(folder);
    return folder;
  }
}

/** @param plain what the connection is cut by. */
export function peerOf(socket: Socket, plain: Socket = socket): Peer {
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  socket.on("end", () => resolve());
  socket.on("close", () => resolve());
  return {
    // Node's TLS leaves out its end where something is still being written.
    write: (bytes) => new Promise((resolve) => void socket.write(bytes, () => resolve())),
    end: () => void socket.end(),
    reset: () => void plain.resetAndDestroy(),
    pause: () => {
      socket.pause();
      plain.unpipe();
      // Under Deno's TLS nothing else holds a sender back.
      plain.pause();
    },
    onBytes: (listener) => void socket.on("data", listener),
    ended,
  };
}

/** Runs `idle_process.ts`. @returns what it printed. */
export async function runIdleProcess(
  address: Address,
  mode: "idle" | "closed",
  ca?: string,
): Promise<string> {
  const script = fileURLToPath(new URL("./idle_process.ts", import.meta.url));
  const runtime = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  const settings = JSON.stringify({ address, mode, ca });
  const child = spawn(process.execPath, [...runtime, script, settings], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 20_000,
  });
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  const [status] = await once(child, "close");
  assertEquals(status, 0, `${mode}: the client was ended from outside`);
  return output.trim();
}
