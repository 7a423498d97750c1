/** Opens connections to one server: the DSN is read once, and what there is to warn of is said once. */
import { consoleLogger, type Logger, silentLogger } from "../logger.ts";
import type { Connect } from "../transport/transport.ts";
import { Connection, type ConnectOptions } from "./connection.ts";
import { environment } from "./environment.ts";
import { readTextFile } from "./files.ts";
import { type ConnectionOptions, parseConnectionOptions } from "./options.ts";

/** How the server is found. */
export interface ConnectorOptions {
  /**
   * `postgresql://user:password@host:5432/database`, or `host=… user=…`.
   * Default: `DATABASE_URL`, then the `PG*` variables; these also fill in what the DSN lacks.
   */
  dsn?: string;
  /** A password, or what gives one at each connection, in place of the DSN's. */
  password?: string | (() => string | Promise<string>);
  /** Default: warnings and errors to the console. `false`: nothing. */
  logger?: Logger | false;
  /** How a socket is opened. Default: `node:net`, which Node, Deno and Bun have. */
  connect?: Connect;
}

/**
 * Opens connections that share their options. Of several hosts, replication may be on any; the other
 * connections then go where the latest one for replication is.
 */
export class Connector {
  // Private, for it holds the password: who prints a connector is not to see it.
  readonly #options: ConnectionOptions;
  /** Where connections, and who uses them, say what they do. */
  readonly logger: Logger;
  readonly #shared: Pick<ConnectOptions, "password" | "connect" | "logger" | "warnOnce">;
  readonly #warned = new Set<string>();
  #replicationHost: Connection["host"] | null = null;

  /** Connects to nothing yet. @throws {PgStreamError} where the DSN cannot be read; its text is not in the error. */
  constructor(options: ConnectorOptions = {}) {
    const logger = options.logger ?? consoleLogger;
    this.logger = logger === false ? silentLogger : logger;
    const parsed = parseConnectionOptions(options.dsn, environment(), readTextFile);
    for (const warning of parsed.warnings) this.logger.warn(warning);
    this.#options = parsed.options;
    this.#shared = {
      password: options.password,
      connect: options.connect,
      logger: this.logger,
      warnOnce: (message) => this.#warnOnce(message),
    };
  }

  /** What the DSN and the environment say. Holds the password: never log it. */
  get options(): ConnectionOptions {
    return this.#options;
  }

  /** Opens a connection; the caller closes it. @throws {PgStreamError} */
  async connect(
    options: Omit<ConnectOptions, "password" | "connect" | "logger" | "warnOnce"> = {},
  ): Promise<Connection> {
    const settings = { ...this.#shared, ...options };
    if (options.replication === undefined) {
      return await Connection.connect(this.#besideReplication(), settings);
    }
    const connection = await Connection.connect(this.options, settings);
    this.#replicationHost = connection.host;
    return connection;
  }

  /** True where a connection that is kept is to another host than where replication is by now. */
  hasLeft(connection: Connection): boolean {
    return this.#replicationHost !== null && connection.host !== this.#replicationHost;
  }

  /** Connections may go to any of the hosts again, until one is for replication. */
  release(): void {
    this.#replicationHost = null;
  }

  #besideReplication(): ConnectionOptions {
    const options = this.#options;
    const host = this.#replicationHost;
    if (host === null) return options;
    const { targetSessionAttrs: wanted } = options;
    // The preference was settled when that host was chosen; what is asked for may have changed since.
    const targetSessionAttrs = wanted === "prefer-standby" ? "any" : wanted;
    return { ...options, hosts: [host], targetSessionAttrs };
  }

  #warnOnce(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    this.logger.warn(message);
  }
}
