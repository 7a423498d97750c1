/**
 * Connection service files: parameters under a name.
 * https://www.postgresql.org/docs/current/libpq-pgservice.html
 */
import type { Environment } from "./environment.ts";
import { WireError } from "./errors.ts";
import { ownFile, type ReadFile, readNamedFile, type TextFile, type UnreadFile } from "./files.ts";

/**
 * Reads the parameters of a service: from the file that is named, or from `~/.pg_service.conf`;
 * where it is not there, from `pg_service.conf` in `PGSYSCONFDIR`.
 *
 * @param named by `servicefile` or `PGSERVICEFILE`.
 * @throws {WireError} `"file-unreadable"`; `"invalid-dsn"` where no file has the service.
 */
export function readService(
  service: string,
  named: string | undefined,
  env: Environment,
  readFile: ReadFile,
): Map<string, string> {
  const looked: string[] = [];
  const look = (path: string, file: TextFile | UnreadFile) => {
    looked.push("text" in file ? path : `${path} (${file.reason})`);
    return "text" in file ? parseService(file.text, service, path) : undefined;
  };
  const own = named ?? ownFile(env, ".pg_service.conf", ".pg_service.conf");
  const common = env["PGSYSCONFDIR"] && `${env["PGSYSCONFDIR"]}/pg_service.conf`;
  const found =
    (own && look(own, named ? readNamedFile(readFile, "servicefile", own) : readFile(own))) ||
    (common && look(common, readFile(common)));
  if (found) return found;
  throw new WireError(`The connection service "${service}" is not defined`, {
    kind: "invalid-dsn",
    hint: looked.length === 0
      ? "There is no home folder to look into: name the file with servicefile or PGSERVICEFILE."
      : `Looked into ${looked.join(" and ")}.`,
  });
}

/**
 * The parameters below `[service]`; undefined where there is no such line. The first value of a
 * name counts.
 *
 * @param path for the error's text.
 * @throws {WireError} `"invalid-dsn"`, which repeats nothing of the file.
 */
export function parseService(
  text: string,
  service: string,
  path: string,
): Map<string, string> | undefined {
  let parameters: Map<string, string> | undefined;
  for (const [index, untrimmed] of text.split("\n").entries()) {
    const line = untrimmed.trim();
    if (line === "" || line.startsWith("#")) continue;
    if (line.startsWith("[")) {
      if (parameters !== undefined) break;
      if (line.startsWith(`[${service}]`)) parameters = new Map();
      continue;
    }
    if (parameters === undefined) continue;
    const equals = line.indexOf("=");
    const name = line.slice(0, equals).trim();
    if (equals === -1 || name === "service" || name === "servicefile") {
      throw new WireError(`Line ${index + 1} of the service file "${path}" cannot be read`, {
        kind: "invalid-dsn",
        hint: "Write name=value; a service cannot name another one.",
      });
    }
    if (!parameters.has(name)) parameters.set(name, line.slice(equals + 1));
  }
  return parameters;
}
