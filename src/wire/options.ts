/**
 * Connection options from a connection string and the environment.
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
 */
import type { Environment } from "./environment.ts";
import { WireError } from "./errors.ts";
import { ownFile, type ReadFile, readNamedFile, readNoFile } from "./files.ts";
import { addressOf, type HostOptions, readHosts } from "./host_list.ts";
import { parsePasswordFile, type PasswordKey } from "./password_file.ts";
import { invalidOption, Settings } from "./settings.ts";
import { readSslOptions, type SslOptions } from "./ssl_options.ts";

export { addressOf, type HostOptions };
export type { SslMode } from "./ssl_options.ts";
export type { SslOptions };

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
  /** For the log: parameters that were dropped, files that were ignored. Hold no values. */
  readonly warnings: readonly string[];
}

const DEFAULT_APPLICATION_NAME = "pgstream";
const DEFAULT_CONNECT_TIMEOUT_S = 10;
// The longest that a timer of JavaScript can wait.
const MAX_TIMEOUT_S = 2_147_483;

const TARGETS = [
  "any",
  "read-write",
  "read-only",
  "primary",
  "standby",
  "prefer-standby",
] as const satisfies readonly TargetSessionAttrs[];
const METHODS = [
  "password",
  "md5",
  "scram-sha-256",
  "none",
] as const satisfies readonly AuthMethod[];
/** They are known, and never agreed to. */
const OTHER_METHODS = ["gss", "sspi", "oauth"];

/**
 * Reads connection options as libpq does.
 *
 * A value comes from the DSN, else from the service that the DSN or `PGSERVICE` names, else from its
 * `PG*` variable, else it has a default: host `localhost`, port 5432, the operating system's user,
 * the database called as the user, ten seconds to connect, `sslmode=prefer`, a password from the
 * password file. With no DSN, `DATABASE_URL` is the DSN where it is set. An empty value is none.
 *
 * What differs from libpq:
 * - `sslmode=allow` is `prefer`, which is the stronger. Other clients' `ssl=true` and
 *   `sslmode=no-verify` are `require`.
 * - `verify-ca` and `verify-full` with neither `sslrootcert` nor `~/.postgresql/root.crt` trust those
 *   whom the runtime trusts. Under `prefer`, `root.crt` is not looked at.
 * - `sslrootcert`, `sslcert` and `sslkey` may be PEM text in place of a path.
 * - With several hosts, `target_session_attrs` is `primary` if nothing is said: a stream that goes
 *   to another host wants the primary.
 * - A file that is named and cannot be read is an error. `~/.postgresql/root.crl` is not looked at.
 * - A protection that is not to be had is an error: `sslcrl`, `requirepeer`, `gssencmode=require`,
 *   `ssl_min_protocol_version=TLSv1.3`. Any other parameter that is not known is dropped.
 *
 * @param dsn a URI (`postgresql://…`) or libpq's `key=value` pairs.
 * @param env variables by name; see {@linkcode environment}.
 * @param readFile see {@linkcode readTextFile}. Default: there are no files.
 * @throws {WireError} `"invalid-dsn"`, `"user-missing"`, `"file-unreadable"`. No message holds a value
 * of the DSN that could be a secret.
 *
 * @example
 * ```ts
 * const { options } = parseConnectionOptions("postgresql://app@db.example.org/shop", {});
 * options.hosts[0]?.host; // "db.example.org"
 * ```
 */
export function parseConnectionOptions(
  dsn: string | undefined,
  env: Environment,
  readFile: ReadFile = readNoFile,
): ParsedConnectionOptions {
  const settings = new Settings(dsn ?? env["DATABASE_URL"] ?? "", env, readFile);
  const user = settings.get("user") || env["USER"] || env["LOGNAME"] || env["USERNAME"];
  if (!user) {
    throw new WireError("No user is named to connect as", {
      kind: "user-missing",
      hint:
        "Put it into the DSN (postgresql://USER@…) or into PGUSER. On Deno the environment is " +
        "read only where --allow-env allows it.",
    });
  }
  const database = settings.get("dbname") ?? user;
  const password = settings.get("password");
  const hosts = readHosts(settings);
  const local = hosts.every((host) => "path" in addressOf(host));
  const find = password === undefined ? readPasswords(settings, env, readFile) : undefined;
  const options: ConnectionOptions = {
    hosts: hosts.map((host) => ({
      ...host,
      ...defined({ password: find?.({ ...host, database, user }) }),
    })),
    user,
    database,
    applicationName: settings.get("application_name") ??
      settings.get("fallback_application_name") ?? DEFAULT_APPLICATION_NAME,
    connectTimeoutMs: 1000 *
      (settings.integer("connect_timeout", MAX_TIMEOUT_S) ?? DEFAULT_CONNECT_TIMEOUT_S),
    ssl: readSslOptions(settings, env, readFile, local),
    channelBinding: settings.choice("channel_binding", ["disable", "prefer", "require"]) ??
      "prefer",
    targetSessionAttrs: settings.choice("target_session_attrs", TARGETS) ??
      (hosts.length > 1 ? "primary" : "any"),
    loadBalanceHosts: settings.choice("load_balance_hosts", ["disable", "random"]) ?? "disable",
    ...defined({
      password,
      options: settings.get("options"),
      requireAuth: readRequireAuth(settings.get("require_auth")),
      keepaliveMs: readKeepalive(settings),
    }),
  };
  return { options, warnings: settings.warnings };
}

/** `undefined` is no value of a field that may be absent. */
function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  ) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

/** A list of methods, or of those that are not wanted. */
function readRequireAuth(text: string | undefined): readonly AuthMethod[] | undefined {
  if (text === undefined) return undefined;
  const names = text.split(",");
  const negated = text.startsWith("!");
  const listed = new Set<string>();
  for (const name of names) {
    if (name.startsWith("!") !== negated) {
      throw invalidOption("require_auth has methods both with and without an exclamation mark");
    }
    listed.add(negated ? name.slice(1) : name);
  }
  const known: readonly string[] = [...METHODS, ...OTHER_METHODS];
  for (const name of listed) {
    if (!known.includes(name)) {
      throw invalidOption(`require_auth is no list of ${known.join(", ")}`);
    }
  }
  const accepted = METHODS.filter((method) => listed.has(method) !== negated);
  if (accepted.length > 0) return accepted;
  throw invalidOption(`require_auth leaves none of ${METHODS.join(", ")}`, {
    hint: "This library speaks no other method.",
  });
}

function readKeepalive(settings: Settings): number | undefined {
  const seconds = settings.integer("keepalives_idle", MAX_TIMEOUT_S);
  if (settings.integer("keepalives", 1) === 0) return 0;
  // As in libpq, zero is what would be without it.
  return seconds ? 1000 * seconds : undefined;
}

/** What finds passwords in the password file; undefined where there is none that may be used. */
function readPasswords(
  settings: Settings,
  env: Environment,
  readFile: ReadFile,
): ((key: PasswordKey) => string | undefined) | undefined {
  const named = settings.get("passfile");
  const path = named ?? ownFile(env, ".pgpass", "pgpass.conf");
  if (path === undefined) return undefined;
  const file = named === undefined ? readFile(path) : readNamedFile(readFile, "passfile", path);
  if (!("text" in file)) return undefined;
  if ((file.mode & 0o077) === 0) return parsePasswordFile(file.text);
  settings.warnings.push(
    `Password file "${path}" was ignored: others than its owner may use it. Take that away: chmod 0600`,
  );
  return undefined;
}
