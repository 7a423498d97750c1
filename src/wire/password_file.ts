/**
 * The password file: `host:port:database:user:password`, a line each.
 * https://www.postgresql.org/docs/current/libpq-pgpass.html
 */

/** For whom a password is looked up. */
export interface PasswordKey {
  /** As the parameter `host` has it; the directory of a unix socket is `localhost`, too. */
  readonly host: string;
  /** Its port. */
  readonly port: number;
  /** The database's name. */
  readonly database: string;
  /** The role. */
  readonly user: string;
}

/** Five fields, each up to a colon that no backslash precedes. What follows the last one is dropped. */
const FIELD = String.raw`((?:[^:\\]|\\.)*)`;
const LINE = new RegExp(`^${FIELD}:${FIELD}:${FIELD}:${FIELD}:${FIELD}(\\\\$)?`);

/**
 * Reads a password file once, for any number of look-ups.
 *
 * @returns the password of the first line that fits; undefined where none does, or it is empty.
 */
export function parsePasswordFile(text: string): (key: PasswordKey) => string | undefined {
  const lines = text.split(/\r?\n/)
    .map((line) => line.startsWith("#") ? null : LINE.exec(line)?.slice(1))
    .filter((fields) => fields != null);
  return ({ host, port, database, user }) => {
    const wanted = [host, `${port}`, database, user];
    const line = lines.find((fields) =>
      wanted.every((value, i) =>
        fields[i] === "*" || unescape(fields[i]!) === value ||
        (i === 0 && fields[i] === "localhost" && host.startsWith("/"))
      )
    );
    return line && unescape(line[4]!) + (line[5] ?? "") || undefined;
  };
}

/** A backslash takes the next character as it is: `\*` is a star, and no wildcard. */
function unescape(text: string): string {
  return text.replace(/\\(.)/g, "$1");
}
