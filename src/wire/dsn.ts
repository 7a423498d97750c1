/**
 * Connection strings as libpq reads them, into parameters by libpq's names.
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
 *
 * No error repeats any of the string: whatever cannot be parsed may be part of a password.
 */
import { WireError } from "./errors.ts";

const URI_SCHEME = /^postgres(?:ql)?:\/\//;
const ESCAPES = "Percent-encode characters such as @ : / ? # % in user and password.";

/**
 * Parses a URI or `key=value` pairs. A parameter that is given twice has its last value.
 *
 * @throws {WireError} `"invalid-dsn"`.
 */
export function parseDsn(dsn: string): Map<string, string> {
  const scheme = URI_SCHEME.exec(dsn);
  // A file's last line break is no part of the database's name.
  if (scheme !== null) return parseUri(dsn.slice(scheme[0].length).trimEnd());
  if (dsn.includes("=")) return parsePairs(dsn);
  throw invalid(
    "it is neither a URI nor key=value pairs",
    "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
  );
}

/** `[user[:password]@][host[:port]][/database][?name=value&…]` */
function parseUri(rest: string): Map<string, string> {
  const parameters = new Map<string, string>();
  const authorityEnd = indexOrEnd(rest, /[/?]/);
  const authority = rest.slice(0, authorityEnd);
  const at = authority.lastIndexOf("@");
  // A bare "/" or "?" in a password ends the authority early, and then the rest of the password
  // would be taken for a port or a database, and be shown. A host alone has no password before it.
  if (/[:@]/.test(authority) && rest.indexOf("@", authorityEnd) !== -1) {
    throw invalid('"@" comes too late', ESCAPES);
  }

  if (at !== -1) {
    const userInfo = authority.slice(0, at);
    const colon = userInfo.indexOf(":");
    set(parameters, "user", colon === -1 ? userInfo : userInfo.slice(0, colon));
    if (colon !== -1) set(parameters, "password", userInfo.slice(colon + 1));
  }
  parseHosts(parameters, authority.slice(at + 1));

  const queryStart = indexOrEnd(rest, /\?/);
  if (authorityEnd < queryStart) {
    set(parameters, "dbname", rest.slice(authorityEnd + 1, queryStart));
  }
  const query = rest.slice(queryStart + 1);
  for (const pair of query.split("&")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    if (equals === -1) throw invalid('a parameter after "?" has no value', ESCAPES);
    const name = decode(pair.slice(0, equals));
    parameters.set(canonical(name), decode(pair.slice(equals + 1)));
  }
  return parameters;
}

/** `host[:port]`, an IPv6 address in brackets, several with commas between. */
function parseHosts(parameters: Map<string, string>, text: string): void {
  const hosts: string[] = [];
  const ports: string[] = [];
  for (const part of text.split(",")) {
    const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/s.exec(part);
    if (match === null) throw invalid("its host does not parse", ESCAPES);
    hosts.push(match[1] ?? match[2] ?? "");
    ports.push(match[3] ?? "");
  }
  set(parameters, "host", hosts.join(","));
  set(parameters, "port", ports.join(","));
}

/** `name = value`, `name = 'a value'`; a backslash takes the next character as it is. */
function parsePairs(text: string): Map<string, string> {
  const parameters = new Map<string, string>();
  const end = text.trimEnd().length;
  for (let at = 0; at < end;) {
    const name = match(/\s*([^\s=]+)\s*=\s*('?)/y, at);
    const value: string[] = [];
    let next = name?.end ?? at;
    // Part by part: a group that is repeated for each character is too much for the runtimes' stacks.
    const part = name?.groups[1] === "" ? /\\(.)|[^\s\\]+/sy : /\\(.)|[^'\\]+/sy;
    for (let found; (found = match(part, next)) !== null; next = found.end) {
      value.push(found.groups[0] ?? text.slice(next, found.end));
    }
    if (name?.groups[1] === "'") next = match(/'/y, next)?.end ?? at;
    // A quote that is not closed, a backslash at the end, or something behind a closing quote.
    if (name === null || next === at || match(/\s|$/y, next) === null) {
      throw invalid(
        `its key=value pairs do not parse from character ${at + 1} on`,
        "Put values with spaces in single quotes; escape ' and \\ with a backslash.",
      );
    }
    parameters.set(canonical(name.groups[0]!), value.join(""));
    at = next;
  }
  return parameters;

  function match(
    pattern: RegExp,
    at: number,
  ): { groups: (string | undefined)[]; end: number } | null {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    return found === null ? null : { groups: found.slice(1), end: pattern.lastIndex };
  }
}

/** Other clients say `database`, libpq says `dbname`. */
function canonical(name: string): string {
  return name === "database" ? "dbname" : name;
}

function set(parameters: Map<string, string>, name: string, encoded: string): void {
  parameters.set(name, decode(encoded));
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid("a percent sign is not followed by two hex digits of UTF-8", ESCAPES);
  }
}

function indexOrEnd(text: string, pattern: RegExp): number {
  const index = text.search(pattern);
  return index === -1 ? text.length : index;
}

function invalid(what: string, hint: string): WireError {
  return new WireError(`The connection string cannot be parsed: ${what}`, {
    kind: "invalid-dsn",
    hint,
  });
}
