/**
 * Connection options from a connection string and the environment.
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
 */
import type { Address } from "../transport/transport.ts";
import { parseDsn } from "./dsn.ts";
import type { Environment } from "./environment.ts";
import { WireError } from "./errors.ts";

/** One of the servers that may be meant. */
export interface HostOptions {
  /** A host name, an IP address, or the directory of a unix socket: then it begins with `/`. */
  readonly host: string;
  /** The IP address to connect to, in place of the one that `host` has; certificates are still `host`'s. */
  readonly hostaddr?: string;
  /** 1 to 65535; for a unix socket it is part of the file's name. */
  readonly port: number;
  /** The password for this one only, as a password file has it. */
  readonly password?: string;
}

/** https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION */
export type SslMode = "disable" | "prefer" | "require" | "verify-ca" | "verify-full";

/** How the connection is encrypted. Unix sockets never are. */
export interface SslOptions {
  readonly mode: SslMode;
  /** Ask first (`postgres`), or begin with the handshake (`direct`, PostgreSQL 17). */
  readonly negotiation: "postgres" | "direct";
  /** Whether the host's name is sent in the clear, for who routes by it. */
  readonly sni: boolean;
  /** Whom to trust, as PEM; absent: those whom the runtime trusts. */
  readonly rootCert?: string;
  /** Our own certificate, as PEM. */
  readonly cert?: string;
  /** Its private key, as PEM. */
  readonly key?: string;
  /** What the key is encrypted with. */
  readonly keyPassword?: string;
}

/** https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-REQUIRE-AUTH */
export type AuthMethod = "password" | "md5" | "scram-sha-256" | "none";

/** https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS */
export type TargetSessionAttrs =
  | "any"
  | "read-write"
  | "read-only"
  | "primary"
  | "standby"
  | "prefer-standby";

/** What is needed to connect. Holds the password and the private key: not for logs. */
export interface ConnectionOptions {
  /** At least one; tried in this order, unless they are to share the load. */
  readonly hosts: readonly HostOptions[];
  /** The role to connect as. */
  readonly user: string;
  /** Absent where none was given. */
  readonly password?: string;
  /** The database's name. */
  readonly database: string;
  /** What `pg_stat_activity` shows. */
  readonly applicationName: string;
  /** Command line options for the server process, for example `-c statement_timeout=5s`. */
  readonly options?: string;
  /** For connecting to one host and start-up in all; 0: for as long as it takes. */
  readonly connectTimeoutMs: number;
  /** How the connection is encrypted. */
  readonly ssl: SslOptions;
  /** Whether the password's proof must be tied to the TLS connection that carries it. */
  readonly channelBinding: "disable" | "prefer" | "require";
  /** The ways in which the server may ask who we are; absent: any that we know. */
  readonly requireAuth?: readonly AuthMethod[];
  /** Which of the hosts will do. */
  readonly targetSessionAttrs: TargetSessionAttrs;
  /** `random`: the hosts are tried in an order drawn for each connection. */
  readonly loadBalanceHosts: "disable" | "random";
  /** See {@linkcode TransportConnectOptions}. */
  readonly keepaliveMs?: number;
}

/** Connection options, and what the one who wrote them should know. */
export interface ParsedConnectionOptions {
  /** Complete: every field that has a default has a value. */
  readonly options: ConnectionOptions;
  /** For the log: parameters that were dropped, encryption that will be missing. Hold no values. */
  readonly warnings: readonly string[];
}

const DEFAULT_HOST = "localhost";
const DEFAULT_PORT = 5432;
const DEFAULT_APPLICATION_NAME = "pgstream";
const DEFAULT_CONNECT_TIMEOUT_S = 10;
// The longest that a timer of JavaScript can wait.
const MAX_CONNECT_TIMEOUT_S = 2_147_483;

/** Each parameter with the variable that stands in for it. */
const VARIABLES = {
  host: "PGHOST",
  hostaddr: "PGHOSTADDR",
  port: "PGPORT",
  user: "PGUSER",
  password: "PGPASSWORD",
  dbname: "PGDATABASE",
  application_name: "PGAPPNAME",
  connect_timeout: "PGCONNECT_TIMEOUT",
  sslmode: "PGSSLMODE",
  options: "PGOPTIONS",
} as const;

type Parameter = keyof typeof VARIABLES;

/** Parameters that have no variable, or another meaning than a value to be passed on. */
const OTHER_PARAMETERS: ReadonlySet<string> = new Set([
  "channel_binding",
  "client_encoding",
  "fallback_application_name",
  "sslnegotiation",
]);

/** Encryption that is asked for and cannot be had is an error, never plaintext in silence. */
const TLS_PARAMETERS: Readonly<Record<string, ReadonlySet<string>>> = {
  sslmode: new Set(["allow", "require", "verify-ca", "verify-full"]),
  channel_binding: new Set(["require"]),
  sslnegotiation: new Set(["direct"]),
};

/**
 * Reads connection options.
 *
 * A field comes from the DSN, else from its `PG*` variable, else it has a default: host
 * `localhost`, port 5432, the operating system's user, the database called as the user, ten seconds
 * to connect, `sslmode=prefer`. With no DSN, `DATABASE_URL` is the DSN where it is set. An empty
 * value is none.
 *
 * @param dsn a URI (`postgresql://…`) or libpq's `key=value` pairs.
 * @param env variables by name; see {@linkcode environment}.
 * @throws {WireError} `"invalid-dsn"`, `"user-missing"`, `"multiple-hosts"`, `"tls-unsupported"`.
 * No message holds a value of the DSN that could be a secret.
 *
 * @example
 * ```ts
 * const { options } = parseConnectionOptions("postgresql://app@db.example.org/shop", {});
 * options.host; // "db.example.org"
 * ```
 */
export function parseConnectionOptions(
  dsn: string | undefined,
  env: Environment,
): ParsedConnectionOptions {
  const text = dsn ?? env["DATABASE_URL"] ?? "";
  const given = text === "" ? new Map<string, string>() : parseDsn(text);
  const warnings: string[] = [];
  for (const name of given.keys()) {
    if (Object.hasOwn(VARIABLES, name) || OTHER_PARAMETERS.has(name)) continue;
    warnings.push(`Connection parameter ${showName(name)} is not known and was ignored`);
  }
  const value = (name: Parameter): string | undefined =>
    given.get(name) || env[VARIABLES[name]] || undefined;

  for (const [name, values] of Object.entries(TLS_PARAMETERS)) {
    const asked = name === "sslmode" ? value("sslmode") : given.get(name);
    if (asked !== undefined && values.has(asked)) throw tlsUnsupported(name, asked);
  }
  const sslmode = value("sslmode") ?? "prefer";
  if (sslmode !== "disable" && sslmode !== "prefer") {
    throw invalid("sslmode is none of disable, allow, prefer, require, verify-ca, verify-full");
  }

  const host = value("hostaddr") ?? value("host") ?? DEFAULT_HOST;
  const port = value("port");
  if (host.includes(",") || port?.includes(",")) {
    throw new WireError("Cannot connect to one of several hosts: name a single one", {
      kind: "multiple-hosts",
      hint: "Logical replication needs the primary: give its address alone.",
    });
  }
  if (sslmode === "prefer" && !isLocal(host)) {
    warnings.push(
      `The connection to ${host} will not be encrypted; sslmode=disable says that this is meant`,
    );
  }
  const user = value("user") ?? env["USER"] ?? env["LOGNAME"] ?? env["USERNAME"];
  if (user === undefined || user === "") {
    throw new WireError("No user is named to connect as", {
      kind: "user-missing",
      hint:
        "Put it into the DSN (postgresql://USER@…) or into PGUSER. On Deno the environment is " +
        "read only where --allow-env allows it.",
    });
  }
  const password = value("password");
  const serverOptions = value("options");
  const options: ConnectionOptions = {
    hosts: [
      { host, port: port === undefined ? DEFAULT_PORT : parseNumber("port", port, 1, 65_535) },
    ],
    user,
    ...(password === undefined ? {} : { password }),
    database: value("dbname") ?? user,
    applicationName: value("application_name") ?? given.get("fallback_application_name") ??
      DEFAULT_APPLICATION_NAME,
    ...(serverOptions === undefined ? {} : { options: serverOptions }),
    connectTimeoutMs: 1000 * parseNumber(
      "connect_timeout",
      value("connect_timeout") ?? `${DEFAULT_CONNECT_TIMEOUT_S}`,
      0,
      MAX_CONNECT_TIMEOUT_S,
    ),
    ssl: { mode: sslmode, negotiation: "postgres", sni: true },
    channelBinding: "prefer",
    targetSessionAttrs: "any",
    loadBalanceHosts: "disable",
  };
  for (const [name, field] of Object.entries(options)) {
    if (typeof field === "string" && field.includes("\0")) throw invalid(`${name} has a zero byte`);
  }
  return { options, warnings };
}

/** Where to connect: TCP, or the unix socket in the directory that `host` names. */
export function addressOf(options: HostOptions): Address {
  const { host, port } = options;
  return host.startsWith("/")
    ? { path: `${host.replace(/\/$/, "")}/.s.PGSQL.${port}` }
    : { host, port };
}

function isLocal(host: string): boolean {
  return host.startsWith("/") || host === "localhost" || host === "::1" ||
    /^127\.[\d.]+$/.test(host);
}

function parseNumber(name: string, text: string, min: number, max: number): number {
  const value = /^\s*\d{1,10}\s*$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw invalid(`${name} is not a whole number from ${min} to ${max}`);
}

/** A name from a DSN that was written wrongly may be part of a password. */
function showName(name: string): string {
  return /^[a-z][a-z0-9_]{0,39}$/.test(name) ? `"${name}"` : "of an odd name";
}

function tlsUnsupported(name: string, value: string): WireError {
  return new WireError(`Cannot connect with ${name}=${value}: encryption is not supported yet`, {
    kind: "tls-unsupported",
    hint: "Use sslmode=disable inside a network that you trust, or a tunnel.",
  });
}

function invalid(what: string): WireError {
  return new WireError(`The connection options cannot be used: ${what}`, { kind: "invalid-dsn" });
}
