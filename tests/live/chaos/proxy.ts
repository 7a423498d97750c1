/** A TCP proxy that misbehaves: at random with what it passes on, and as told with its connections. */

import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { sleep } from "../../support/streams.ts";

/** Which way bytes go. */
export type Direction = "toClient" | "toServer";

/** Pieces of a chunk that is passed on byte by byte; the rest of it follows as one. */
const MAX_PIECES = 100;

interface Link {
  client: Socket;
  server: Socket;
  dropped: Set<Direction>;
  /** The client is gone, and the server does not know. */
  frozen: boolean;
}

/** Listens on the loopback interface, and forwards to one server. */
export class FaultyProxy implements AsyncDisposable {
  readonly #listener: Server;
  readonly #targetPort: number;
  readonly #random: () => number;
  readonly #links = new Set<Link>();
  /** How many of the chunks are delayed, and how many are cut into bytes. */
  roughness = 0;
  /** Chunks that were delayed. */
  delayed = 0;
  /** Chunks that were cut into bytes. */
  fragmented = 0;
  #stalled: Promise<void> = Promise.resolve();

  /** @param targetPort of the server, on the loopback interface */
  static async listen(targetPort: number, random: () => number): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(targetPort, random);
    proxy.#listener.listen(0, "127.0.0.1");
    await once(proxy.#listener, "listening");
    return proxy;
  }

  private constructor(targetPort: number, random: () => number) {
    this.#targetPort = targetPort;
    this.#random = random;
    // A half that ends leaves the other open, as it does without a proxy.
    this.#listener = createServer({ allowHalfOpen: true }, (client) => this.#open(client));
  }

  /** The DSN of the same database by way of this proxy. */
  dsn(dsn: string): string {
    const url = new URL(dsn);
    url.port = String((this.#listener.address() as { port: number }).port);
    return url.href;
  }

  /** Ends all connections on both sides. @returns how many there were. */
  cut(how: "RST" | "FIN"): number {
    const links = this.#living();
    for (const { client, server } of links) {
      for (const socket of [client, server]) {
        if (how === "RST") socket.resetAndDestroy();
        else socket.end();
      }
    }
    return links.length;
  }

  /** Ends all connections on the client's side; the server's stay open, unread. @returns how many. */
  freeze(): number {
    const links = this.#living();
    for (const link of links) {
      link.frozen = true;
      link.server.pause();
      link.client.resetAndDestroy();
    }
    return links.length;
  }

  /** All connections stay open, and lose what comes from now on. @returns how many there were. */
  drop(...directions: Direction[]): number {
    const links = this.#living();
    for (const { dropped } of links) {
      for (const direction of directions) dropped.add(direction);
    }
    return links.length;
  }

  /** Nothing passes for so long; nothing is lost. */
  stall(ms: number): void {
    this.#stalled = sleep(ms);
  }

  /** Ends everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#listener, "close");
    this.#listener.close();
    for (const { client, server } of this.#links) {
      client.destroy();
      server.destroy();
    }
    await closed;
  }

  #living(): Link[] {
    return [...this.#links].filter(({ frozen }) => !frozen);
  }

  #open(client: Socket): void {
    const server = connect({ port: this.#targetPort, host: "127.0.0.1", allowHalfOpen: true });
    const link: Link = { client, server, dropped: new Set(), frozen: false };
    this.#links.add(link);
    client.setNoDelay();
    server.setNoDelay();
    this.#forward(link, client, server, "toServer");
    this.#forward(link, server, client, "toClient");
  }

  #forward(link: Link, from: Socket, to: Socket, direction: Direction): void {
    let passing = Promise.resolve();
    from.on("data", (chunk: Uint8Array) => {
      if (link.dropped.has(direction)) return;
      from.pause();
      passing = passing.then(() => this.#pass(chunk, to)).then(() => {
        if (!link.frozen) from.resume();
      });
    });
    from.on("end", () => void passing.then(() => to.end()));
    // The end of the connection says all that there is to say.
    from.on("error", () => {});
    from.on("close", () => {
      if (link.frozen && from === link.client) return;
      to.destroy();
      if (link.client.destroyed && link.server.destroyed) this.#links.delete(link);
    });
  }

  async #pass(chunk: Uint8Array, to: Socket): Promise<void> {
    await this.#stalled;
    if (this.#random() < this.roughness) {
      this.delayed++;
      await sleep(this.#random() * 50);
    }
    let rest = chunk;
    if (this.#random() < this.roughness) {
      this.fragmented++;
      for (let piece = 0; piece < MAX_PIECES && rest.length > 1; piece++) {
        to.write(rest.subarray(0, 1));
        rest = rest.subarray(1);
        // Or they would travel as one.
        if (piece % 10 === 0) await sleep(0);
      }
    }
    if (to.destroyed || to.write(rest)) return;
    await new Promise<void>((resolve) => to.once("drain", resolve).once("close", resolve));
  }
}
