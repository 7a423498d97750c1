/**
 * How a connection is encrypted, and by whose certificates.
 * https://www.postgresql.org/docs/current/libpq-ssl.html
 */
import type { Environment } from "./environment.ts";
import { ownFile, type ReadFile, readNamedFile, type TextFile, unreadable } from "./files.ts";
import { invalidOption, type Settings } from "./settings.ts";

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

const MODES = [
  "disable",
  "prefer",
  "require",
  "verify-ca",
  "verify-full",
] as const satisfies readonly SslMode[];

/** `allow` would begin in the clear; the rest is what other clients say, in `ssl=true` for example. */
const OTHER_MODES: ReadonlyMap<string, SslMode> = new Map([
  ["allow", "prefer"],
  ["no-verify", "require"],
  ["true", "require"],
  ["1", "require"],
  ["false", "disable"],
  ["0", "disable"],
]);

/**
 * Reads `ssl…`.
 *
 * @param local whether all hosts are unix sockets: then no file is read.
 * @throws {WireError} `"invalid-dsn"`, `"file-unreadable"`.
 */
export function readSslOptions(
  settings: Settings,
  env: Environment,
  readFile: ReadFile,
  local: boolean,
): SslOptions {
  const system = settings.get("sslrootcert") === "system";
  const mode = settings.choice("sslmode", MODES, OTHER_MODES) ??
    (system ? "verify-full" : "prefer");
  const negotiation = settings.choice("sslnegotiation", ["postgres", "direct"]) ?? "postgres";
  // As libpq: whoever may sign for any host proves nothing without the host's name.
  if (system && mode !== "verify-full") {
    throw invalidOption("sslrootcert=system needs sslmode=verify-full");
  }
  if (negotiation === "direct" && (mode === "disable" || mode === "prefer")) {
    throw invalidOption("sslnegotiation=direct needs sslmode=require, verify-ca or verify-full");
  }
  const options = { mode, negotiation, sni: settings.choice("sslsni", ["1", "0"]) !== "0" };
  if (mode === "disable" || local) return options;

  const read = (name: "sslrootcert" | "sslcert" | "sslkey", fileName: string) =>
    readPem(name, settings.get(name), ownFile(env, `.postgresql/${fileName}`, fileName), readFile);
  // Under `prefer` libpq goes on in the clear where its default file does not fit. We never do.
  const rootCert = system || (mode === "prefer" && settings.get("sslrootcert") === undefined)
    ? undefined
    : read("sslrootcert", "root.crt");
  if (mode === "verify-ca" && rootCert === undefined) {
    settings.warnings.push(
      "sslmode=verify-ca without sslrootcert accepts whoever has a certificate of a public " +
        "authority, for any host; use verify-full",
    );
  }
  return { ...options, ...(rootCert === undefined ? {} : { rootCert }), ...readOwn() };

  function readOwn(): Pick<SslOptions, "cert" | "key" | "keyPassword"> {
    if (settings.get("sslcertmode")?.toLowerCase() === "disable") return {};
    const cert = read("sslcert", "postgresql.crt");
    const key = cert === undefined ? undefined : read("sslkey", "postgresql.key");
    if (cert !== undefined && key !== undefined) {
      const keyPassword = settings.get("sslpassword");
      return { cert, key, ...(keyPassword === undefined ? {} : { keyPassword }) };
    }
    for (const [given, missing] of [["sslcert", "sslkey"], ["sslkey", "sslcert"]] as const) {
      if (settings.get(given) !== undefined) {
        throw invalidOption(`${given} is given, and no ${missing} is there for it`);
      }
    }
    return {};
  }
}

/** PEM text as it was given, or from the file that was named, or from the default where it is there. */
function readPem(
  name: string,
  value: string | undefined,
  defaultPath: string | undefined,
  readFile: ReadFile,
): string | undefined {
  if (value?.includes("-----BEGIN ")) return value;
  const path = value ?? defaultPath;
  if (path === undefined) return undefined;
  const file = value === undefined ? readFile(path) : readNamedFile(readFile, name, path);
  if (!("text" in file)) return undefined;
  if (!file.text.includes("-----BEGIN ")) {
    throw unreadable(name, path, { reason: "there is no PEM text in it" });
  }
  if (name === "sslkey" && isExposed(file)) {
    throw unreadable(name, path, {
      reason: "others than its owner may use it",
      hint: "Take that away: chmod 0600, or 0640 where it is root's.",
    });
  }
  return file.text;
}

/** As libpq has it: root's may be lent to a group. */
function isExposed({ mode, uid }: TextFile): boolean {
  return (mode & (uid === 0 ? 0o037 : 0o077)) !== 0;
}
