/** Opens connections to one server: the DSN is read, and warned about, once. */
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

/** Opens connections that share their options. */
export class Connector {
  /** What the DSN and the environment say. Holds the DSN's password: never log it. */
  readonly options: ConnectionOptions;
  /** Where connections, and who uses them, say what they do. */
  readonly logger: Logger;
  readonly #shared: Pick<ConnectorOptions, "password" | "connect">;

  /** Connects to nothing yet. @throws {PgStreamError} where the DSN cannot be read; its text is not in the error. */
  constructor(options: ConnectorOptions = {}) {
    const logger = options.logger ?? consoleLogger;
    this.logger = logger === false ? silentLogger : logger;
    const parsed = parseConnectionOptions(options.dsn, environment(), readTextFile);
    for (const warning of parsed.warnings) this.logger.warn(warning);
    this.options = parsed.options;
    this.#shared = {
      ...(options.password === undefined ? {} : { password: options.password }),
      ...(options.connect === undefined ? {} : { connect: options.connect }),
    };
  }

  /** Opens a connection; the caller closes it. @throws {PgStreamError} */
  connect(options: Omit<ConnectOptions, "password" | "connect"> = {}): Promise<Connection> {
    return Connection.connect(this.options, { logger: this.logger, ...this.#shared, ...options });
  }
}
