/** Stands between a client and a server: cuts connections, loses answers, leads to another server. */

import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** A proxy on the loopback interface. Stop it. */
export class TcpProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** The port of the server behind it; connections that are open stay where they are. */
  targetPort: number;
  /** While it is true, answers are lost, and then their connection is. */
  losesAnswers = false;
  /** While it is true, no connection is made. */
  refuses = false;
  /** How many answers were lost. */
  lost = 0;

  private constructor(targetPort: number) {
    this.targetPort = targetPort;
    this.#server = createServer((client) => this.#open(client));
  }

  /**
   * @param url of a server on the loopback interface, with its port
   * @param port where it listens; default: any that is free
   */
  static async start(url: string, port = 0): Promise<TcpProxy> {
    const proxy = new TcpProxy(Number(new URL(url).port));
    proxy.#server.listen(port, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  /** The same URL by way of the proxy. */
  through(url: string): string {
    const proxied = new URL(url);
    proxied.port = String((this.#server.address() as AddressInfo).port);
    return proxied.href;
  }

  /** Ends all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.cut();
    await closed;
  }

  #open(client: Socket): void {
    if (this.refuses) return void client.destroy();
    const server = connect(this.targetPort, "127.0.0.1");
    for (const [from, to] of [[client, server], [server, client]] as const) {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.on("error", () => {});
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
    client.pipe(server);
    server.on("data", (chunk) => {
      if (this.losesAnswers) {
        this.lost++;
        client.destroy();
      } else if (!client.write(chunk)) {
        // What the client does not read the server is to keep.
        server.pause();
        client.once("drain", () => server.resume());
      }
    });
  }
}
