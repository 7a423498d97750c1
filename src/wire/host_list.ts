/**
 * Hosts, one or several.
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS
 */
import type { Address } from "../transport/transport.ts";
import { invalidOption, parseInteger, type Settings } from "./settings.ts";

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

const DEFAULT_HOST = "localhost";
const DEFAULT_PORT = "5432";
const IP_ADDRESS = /^(?:\d+(?:\.\d+){3}|[\da-f.]*:[\da-f.:]*(?:%[^\s/]+)?)$/i;

/**
 * Reads `host`, `hostaddr` and `port`: as many of each, or one port for all. An entry that is empty
 * has its default; the default of a host is its `hostaddr`, where it has one.
 *
 * @throws {WireError} `"invalid-dsn"`.
 */
export function readHosts(settings: Settings): HostOptions[] {
  const hosts = settings.list("host");
  const addresses = settings.list("hostaddr");
  const ports = settings.list("port") ?? [""];
  const count = (addresses ?? hosts ?? [""]).length;
  if (hosts !== undefined && hosts.length !== count) {
    throw invalidOption(`there are ${hosts.length} of host and ${count} of hostaddr`);
  }
  if (ports.length !== 1 && ports.length !== count) {
    throw invalidOption(`there are ${ports.length} of port for ${count} of host`, {
      hint: "Name one port for all, or one for each; an empty one is 5432.",
    });
  }
  return Array.from({ length: count }, (_, i) => {
    const host = hosts?.[i];
    const hostaddr = addresses?.[i];
    if (hostaddr && !IP_ADDRESS.test(hostaddr)) throw invalidOption("hostaddr is no IP address");
    const port = (ports.length === 1 ? ports[0] : ports[i]) || DEFAULT_PORT;
    return {
      host: host || hostaddr || DEFAULT_HOST,
      ...(host && hostaddr ? { hostaddr } : {}),
      port: parseInteger("port", port, 1, 65_535),
    };
  });
}

/** Where to connect: TCP, or the unix socket in the directory that `host` names. */
export function addressOf({ host, hostaddr, port }: HostOptions): Address {
  if (hostaddr === undefined && host.startsWith("/")) {
    return { path: `${host.replace(/\/$/, "")}/.s.PGSQL.${port}` };
  }
  return { host: hostaddr ?? host, port };
}
