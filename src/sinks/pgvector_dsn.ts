/** A connection of postgres.js from a dsn that was written for libpq. */

import postgres from "postgres";
import { optionsError } from "./pgvector_errors.ts";

/**
 * Parameters of libpq that postgres.js does not know. It would hand them to the server as settings,
 * and the server refuses a connection with a setting that it does not know.
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
 *
 * Those that say where to connect and as whom, or that ask for a protection other than
 * `channel_binding`, are not here: to have them refused is better than to act as if they were not
 * written.
 */
const LIBPQ_PARAMETERS: ReadonlySet<string> = new Set([
  // postgres.js cannot bind to the channel; hosted servers write "require" into every dsn.
  "channel_binding",
  "fallback_application_name",
  "gssdelegation",
  "gssencmode",
  "gsslib",
  "keepalives",
  "keepalives_count",
  "keepalives_idle",
  "keepalives_interval",
  "krbsrvname",
  "load_balance_hosts",
  "sslcert",
  "sslcompression",
  "sslkey",
  "sslpassword",
  "sslrootcert",
  "sslsni",
  "tcp_user_timeout",
]);

/**
 * Makes a `postgres()`, which connects when it is first used.
 *
 * @param prepare false: none of its statements is, COMMIT neither
 * @throws {SinkError} `sink-options`, with none of the dsn in it.
 */
export function connectLazily(dsn: string, prepare = true): postgres.Sql {
  try {
    if (!/^postgres(ql)?:\/\//.test(dsn)) throw new RangeError("Not a URI");
    return postgres(withoutLibpqParameters(dsn), {
      fetch_types: false,
      onnotice: () => {},
      prepare,
    });
  } catch {
    // No cause: what a URL parser throws repeats its input, password included.
    throw optionsError(
      "Cannot read the dsn",
      "Write it as postgresql://user:password@host:5432/database, with special characters of the " +
        "password percent-encoded",
    );
  }
}

function withoutLibpqParameters(dsn: string): string {
  // Not by URL, which takes no list of hosts.
  const [, address, query] = /^([^?#]*)\?([^#]*)/.exec(dsn) ?? [];
  if (query === undefined) return dsn;
  const parameters = new Map(new URLSearchParams(query));

  // libpq then verifies the server; without the file postgres.js would accept any certificate.
  const rootCert = parameters.get("sslrootcert");
  if (rootCert === "system" || (rootCert && parameters.get("sslmode") === "require")) {
    parameters.set("sslmode", "verify-full");
  }
  for (const [name, value] of parameters) {
    const demand = name === "gssencmode" && value === "require";
    if (LIBPQ_PARAMETERS.has(name) && !demand) parameters.delete(name);
  }
  // libpq's default, and the one value that postgres.js does not take.
  if (parameters.get("target_session_attrs") === "any") parameters.delete("target_session_attrs");
  return `${address}?${new URLSearchParams([...parameters])}`;
}
