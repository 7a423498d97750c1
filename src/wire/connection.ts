/**
 * One connection to a Postgres server: start-up, queries, COPY out, COPY in both directions.
 * https://www.postgresql.org/docs/current/protocol-flow.html
 */
import { isRetryable } from "../errors.ts";
import { type Logger, silentLogger } from "../logger.ts";
import { connectDefault } from "../transport/default.ts";
import {
  type Address,
  type Connect,
  formatAddress,
  TransportError,
} from "../transport/transport.ts";
import { startUp } from "./authentication.ts";
import { Canceller } from "./cancellation.ts";
import { CopyBoth } from "./copy_both.ts";
import type { CopyRows } from "./copy_out.ts";
import { openLink } from "./encryption.ts";
import { WireError } from "./errors.ts";
import { encodeTerminate } from "./frontend.ts";
import type { SessionAttrs } from "./hosts.ts";
import { addressOf, type ConnectionOptions, type HostOptions } from "./options.ts";
import type { ServerMessage } from "./postgres_error.ts";
import { beginCopy, type QueryResult, simpleQuery } from "./query.ts";
import { Channel } from "./channel.ts";

export type { CopyBoth, CopyEnd } from "./copy_both.ts";
export type { QueryResult } from "./query.ts";

/** A password, or where it comes from each time that a connection is made. */
export type PasswordSource = string | (() => string | Promise<string>);

/** What `Connection.connect()` takes beside the connection options. */
export interface ConnectOptions {
  /** `"database"`: a walsender connection, which takes replication commands and simple queries. */
  replication?: "database" | undefined;
  /** Instead of the password of the connection options. */
  password?: PasswordSource | undefined;
  /** Gives up connecting: rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
  /** Default: says nothing. */
  logger?: Logger | undefined;
  /** Takes what should be looked at but need not be said for each connection. Default: the logger's `warn`. */
  warnOnce?: ((message: string) => void) | undefined;
  /** How bytes are carried. Default: `node:net`, which Node, Deno and Bun have. */
  connect?: Connect | undefined;
  /** From 0 to below 1; draws the order of the hosts. Default: `Math.random`. */
  random?: (() => number) | undefined;
  /**
   * Called with each notice of the server, in order, between the other messages. What it throws
   * ends the connection and is what the running operation rejects with.
   */
  onNotice?: ((notice: ServerMessage) => void) | undefined;
}

/** Ends one operation, not the connection. */
export interface OperationOptions {
  /**
   * When it fires, the server is asked to cancel the statement, and the call rejects with
   * `signal.reason` as soon as the server has done so; the connection may then be used again. A
   * server that does not within two seconds loses the connection. A statement that is done before the
   * request arrives is done: the call then resolves.
   */
  signal?: AbortSignal | undefined;
}

/**
 * The settings that make every connection read the same text, whatever the server, the database or
 * the role says. The values module parses exactly this.
 */
const TEXT_SETTINGS: Readonly<Record<string, string>> = {
  client_encoding: "UTF8",
  DateStyle: "ISO",
  IntervalStyle: "postgres",
  TimeZone: "UTC",
  bytea_output: "hex",
  // Needed up to 11, where the default rounds; since 12 every positive value means exact.
  extra_float_digits: "3",
  // A backslash in a condition that somebody passes is one: see sql_condition.ts.
  standard_conforming_strings: "on",
  // Names are always qualified, and format_type() and its kin then qualify theirs.
  search_path: "",
};

// How long a Terminate gets to leave.
const TERMINATE_TIMEOUT_MS = 1000;

/**
 * A connection. It does one thing at a time: a second operation while one is running is an error of
 * kind `"connection-busy"`, and nothing is queued.
 *
 * @example
 * ```ts
 * import { parseConnectionOptions } from "./options.ts";
 *
 * const { options } = parseConnectionOptions("postgresql://app@localhost/db", {});
 * const connection = await Connection.connect(options);
 * const { rows } = await connection.query("SELECT relname FROM pg_catalog.pg_class");
 * await connection.close();
 * ```
 */
export class Connection implements AsyncDisposable {
  readonly #channel: Channel;
  readonly #canceller: Canceller;
  readonly #processId: number;
  readonly #host: HostOptions;
  #busyWith: string | null = null;
  #closing: Promise<void> | null = null;

  private constructor(
    channel: Channel,
    canceller: Canceller,
    processId: number,
    host: HostOptions,
  ) {
    this.#channel = channel;
    this.#canceller = canceller;
    this.#processId = processId;
    this.#host = host;
  }

  /**
   * Connects and authenticates; of several hosts to the first that will do. Each has
   * `options.connectTimeoutMs` for all of it. Whatever fails, nothing stays open.
   *
   * @throws {TransportError} nobody answers, or not in time (`"connect-timeout"`); the connection cannot
   * be encrypted (`"tls-failed"`, `"certificate-rejected"`, `"tls-unavailable"`).
   * @throws {PostgresError} what the server refuses: `"authentication"`, `"database-missing"`,
   * `"too-many-connections"`, `"server-starting"`, `"protocol-rejected"` …
   * @throws {WireError} `"tls-refused"`, `"password-missing"`, `"authentication"`,
   * `"authentication-unsupported"`, `"authentication-not-allowed"`, `"channel-binding"`,
   * `"wrong-session-attrs"`, `"no-host"`, `"connection-lost"`, `"protocol-violation"`.
   */
  static async connect(
    options: ConnectionOptions,
    settings: ConnectOptions = {},
  ): Promise<Connection> {
    const { signal, random = Math.random } = settings;
    const { hosts, targetSessionAttrs: wanted } = options;
    const attempt = (host: HostOptions, wanted: SessionAttrs) =>
      Connection.#connectTo(host, wanted, options, settings);
    if (hosts.length === 1 && wanted !== "prefer-standby") return await attempt(hosts[0]!, wanted);
    const { tryHosts } = await import("./hosts.ts");
    return await tryHosts(options, { signal, random }, attempt);
  }

  static async #connectTo(
    host: HostOptions,
    wanted: SessionAttrs,
    options: ConnectionOptions,
    settings: ConnectOptions,
  ): Promise<Connection> {
    const { signal, connect = connectDefault, logger = silentLogger, onNotice } = settings;
    const { warnOnce = (message: string) => logger.warn(message) } = settings;
    const address = addressOf(host);
    const controller = new AbortController();
    const onAbort = () => controller.abort(signal?.reason);
    signal?.throwIfAborted();
    signal?.addEventListener("abort", onAbort, { once: true });
    const timer = options.connectTimeoutMs === 0 ? undefined : setTimeout(
      () => controller.abort(connectTimeout(address, options.connectTimeoutMs)),
      options.connectTimeoutMs,
    );
    let channel: Channel | null = null;
    const work = async (): Promise<Connection> => {
      const link = await openLink(host, options, { connect, signal: controller.signal, warnOnce });
      channel = new Channel(link.transport, onNotice ?? (() => {}));
      if (controller.signal.aborted) throw channel.fail(controller.signal.reason);
      const { user, channelBinding, requireAuth } = options;
      const password = settings.password ?? options.password ?? host.password;
      const key = await startUp(channel, startupParameters(options, settings.replication), {
        user,
        password: () => passwordFrom(password),
        channelBinding,
        requireAuth,
        link,
        warnOnce,
      });
      const canceller = new Canceller(channel, key, link.again);
      const connection = new Connection(channel, canceller, key?.processId ?? 0, host);
      if (wanted !== "any") {
        const { checkSession } = await import("./hosts.ts");
        await checkSession(connection, wanted, host);
      }
      return connection;
    };
    try {
      const connection = await untilAborted(work(), controller.signal);
      logger.debug(
        `Connected to ${formatAddress(address)}, PostgreSQL ${
          connection.parameters.get("server_version") ?? "of unknown version"
        }`,
      );
      return connection;
    } catch (error) {
      controller.abort(error);
      (channel as Channel | null)?.fail(error);
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Which of the hosts it is on, the same object. May hold a password: not for logs. */
  get host(): HostOptions {
    return this.#host;
  }

  /** The server process' id; 0 where the server, or a pooler in its place, tells none. */
  get processId(): number {
    return this.#processId;
  }

  /** What the server has reported of its settings, kept up to date: `server_version`, `TimeZone` … */
  get parameters(): ReadonlyMap<string, string> {
    return this.#channel.parameters;
  }

  /** The server's version as `server_version_num`: 180004 for 18.4, 90624 for 9.6.24; 0 if untold. */
  get serverVersion(): number {
    return parseServerVersion(this.parameters.get("server_version") ?? "");
  }

  /** True when the connection was closed, here or by a failure. */
  get closed(): boolean {
    return this.#closing !== null || this.#channel.failure !== null;
  }

  /**
   * Runs SQL with the simple query protocol. Of several statements the last result that has columns
   * is returned, else the last; they are one transaction unless they say otherwise.
   *
   * @throws {PostgresError} what the server reports; the connection may be used again.
   * @throws {WireError} `"connection-busy"`, `"connection-lost"`, `"connection-closed"`,
   * `"wrong-statement"` for COPY, `"protocol-violation"`.
   * @throws {RangeError} where the SQL holds a zero byte.
   */
  async query(sql: string, options: OperationOptions = {}): Promise<QueryResult> {
    const release = this.#begin("a query", options.signal);
    try {
      return await this.#canceller.run(options.signal, () => simpleQuery(this.#channel, sql));
    } finally {
      release();
    }
  }

  /**
   * Runs a COPY … TO STDOUT when iterated, and gives the rows that have arrived, each the payload of one
   * CopyData: in text format a row with its newline. The object is the same each time, and has a row at hand
   * after each `advance()`; what is not taken is passed over. To stop early is to cancel the statement; see
   * {@linkcode OperationOptions}.
   *
   * @throws {PostgresError} what the server reports.
   * @throws {WireError} as {@linkcode Connection.query}; `"wrong-statement"` where it is no COPY.
   */
  async *copyOut(
    sql: string,
    { signal }: OperationOptions = {},
  ): AsyncGenerator<CopyRows, void, undefined> {
    const release = this.#begin("COPY", signal);
    try {
      const { copyOut } = await import("./copy_out.ts");
      signal?.throwIfAborted();
      yield* copyOut(this.#channel, this.#canceller, sql, signal);
    } finally {
      release();
    }
  }

  /**
   * Runs a command that begins copying in both directions: START_REPLICATION. The connection is
   * busy until the copy is ended.
   *
   * @param options the signal covers the time until the server has answered, no longer.
   * @throws {PostgresError} what the server reports; the connection may be used again.
   * @throws {WireError} as {@linkcode Connection.query}.
   */
  async copyBoth(sql: string, options: OperationOptions = {}): Promise<CopyBoth> {
    const release = this.#begin("COPY in both directions", options.signal);
    try {
      await this.#canceller.run(options.signal, () => beginCopy(this.#channel, sql, "both"));
      return new CopyBoth(this.#channel, release);
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Says good-bye and closes; a running operation rejects. May be called twice; never rejects. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #begin(operation: string, signal: AbortSignal | undefined): () => void {
    signal?.throwIfAborted();
    if (this.closed) {
      const { failure } = this.#channel;
      throw new WireError(`Cannot begin ${operation}: the connection is closed`, {
        kind: "connection-closed",
        hint: "Make a new connection.",
        retryable: isRetryable(failure),
        cause: failure ?? undefined,
      });
    }
    if (this.#busyWith !== null) {
      throw new WireError(
        `Cannot begin ${operation}: the connection is busy with ${this.#busyWith}`,
        {
          kind: "connection-busy",
          hint: "Await the running operation, or use a connection of its own.",
        },
      );
    }
    this.#busyWith = operation;
    return () => {
      this.#busyWith = null;
    };
  }

  async #close(): Promise<void> {
    if (this.#channel.failure !== null) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, TERMINATE_TIMEOUT_MS);
    });
    await Promise.race([this.#channel.write(encodeTerminate()).catch(() => {}), late]);
    clearTimeout(timer);
    this.#channel.fail(
      new WireError("The connection was closed", { kind: "connection-closed" }),
    );
  }
}

/**
 * `server_version` as `server_version_num`: `"18.4 (Debian 18.4-1)"` is 180004, `"18beta1"` 180000,
 * `"9.6.24"` 90624, and what begins with no number 0.
 */
export function parseServerVersion(text: string): number {
  const match = /^(\d+)(?:\.(\d+))?(?:\.(\d+))?/.exec(text);
  if (match === null) return 0;
  const [major, minor, patch] = [Number(match[1]), Number(match[2] ?? 0), Number(match[3] ?? 0)];
  // From 10 on there are two parts, before that there were three.
  return major >= 10 ? major * 10_000 + minor : major * 10_000 + minor * 100 + patch;
}

function startupParameters(
  options: ConnectionOptions,
  replication: "database" | undefined,
): Record<string, string> {
  return {
    user: options.user,
    database: options.database,
    ...(replication === undefined ? {} : { replication }),
    application_name: options.applicationName,
    ...(options.options === undefined ? {} : { options: options.options }),
    ...TEXT_SETTINGS,
  };
}

async function passwordFrom(source: PasswordSource | undefined): Promise<string | undefined> {
  return typeof source === "function" ? await source() : source;
}

function connectTimeout(address: Address, timeoutMs: number): TransportError {
  return new TransportError(`No connection to ${formatAddress(address)} within ${timeoutMs} ms`, {
    kind: "connect-timeout",
    hint: "Check the address and the network, or raise connect_timeout.",
    retryable: true,
    address,
  });
}

/** The work's outcome, or the signal's reason if that comes first. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}
