/**
 * The cells of the matrix, and what has to come of each: written from libpq's manual, not from the code.
 * https://www.postgresql.org/docs/current/libpq-ssl.html
 */

/** What `sslmode` and its kin say. */
export const TLS = {
  disable: { sslmode: "disable" },
  prefer: { sslmode: "prefer" },
  require: { sslmode: "require" },
  // With a root it is verify-ca, as libpq has it.
  "require, with a root": { sslmode: "require", sslrootcert: "ours" },
  "verify-ca": { sslmode: "verify-ca", sslrootcert: "ours" },
  "verify-full": { sslmode: "verify-full", sslrootcert: "ours" },
  "verify-full, the system's roots": { sslmode: "verify-full", sslrootcert: "system" },
  direct: { sslmode: "verify-full", sslrootcert: "ours", sslnegotiation: "direct" },
} as const;

/** What the server shows. */
export const CERTIFICATES = [
  "no TLS",
  "good",
  "expired",
  "wrong name",
  "another authority",
  "self-signed",
] as const;

/** How the server is named. */
export const ADDRESSES = ["name", "IPv4", "host and hostaddr", "two hosts", "unix socket"] as const;

/** How the server asks who we are, and what we say to that. */
export const AUTHENTICATIONS = [
  "trust",
  "password",
  "md5",
  "scram",
  "scram, channel_binding=require",
  "scram, channel_binding=disable",
  "scram, wrong password",
  "md5, require_auth=scram-sha-256",
  "trust, require_auth=scram-sha-256",
  "client certificate",
  "client certificate missing",
  "client certificate and scram",
] as const;

export type TlsName = keyof typeof TLS;
export type CertificateName = (typeof CERTIFICATES)[number];
export type AddressName = (typeof ADDRESSES)[number];
export type AuthenticationName = (typeof AUTHENTICATIONS)[number];

/** Who connects. */
export type RuntimeName = "deno" | "bun" | "node" | "workerd";

/** One way to connect. */
export interface Cell {
  tls: TlsName;
  certificate: CertificateName;
  address: AddressName;
  authentication: AuthenticationName;
}

/** What came of it: `encrypted` or `plain` where it works, else the error's kind. */
export type Outcome = string;

/** All of them. */
export function allCells(): Cell[] {
  const cells: Cell[] = [];
  for (const tls of Object.keys(TLS) as TlsName[]) {
    for (const certificate of CERTIFICATES) {
      for (const address of ADDRESSES) {
        for (const authentication of AUTHENTICATIONS) {
          cells.push({ tls, certificate, address, authentication });
        }
      }
    }
  }
  return cells;
}

/** As it is printed. */
export function nameOf(cell: Cell): string {
  return [cell.tls, cell.certificate, cell.address, cell.authentication].join(" · ");
}

/** What has to come of it. @param major of the server: up to 16 none knows `sslnegotiation=direct`. */
export function expected(cell: Cell, runtime: RuntimeName, major: number): Outcome {
  if (runtime === "workerd") {
    const unable = beyondWorkers(cell);
    if (unable !== null) return unable;
  }
  const carried = transportOf(cell, runtime, major);
  if (carried !== "encrypted" && carried !== "plain") return carried;
  return admitted(cell, carried, runtime) ?? carried;
}

/** Plain, encrypted, or why there is no connection to speak on. */
function transportOf(
  { tls, certificate, address }: Cell,
  runtime: RuntimeName,
  major: number,
): Outcome {
  // What goes through the file system is not encrypted, whatever is asked for.
  if (address === "unix socket" || tls === "disable") return "plain";
  if (tls === "direct" && (certificate === "no TLS" || major < 17)) {
    // It takes the handshake for a start-up that makes no sense, and hangs up: another host may not.
    return address === "two hosts" ? "no-host" : "tls-failed";
  }
  if (certificate === "no TLS") {
    return tls === "prefer" ? "plain" : "tls-refused";
  }
  const bad = certificate === "good" ? "nothing" : certificate;
  // Workers verify always, and have no say in it.
  const verifies = runtime === "workerd" ? "full" : VERIFIES[tls];
  if (verifies === "none") return "encrypted";
  if (tls === "verify-full, the system's roots" && runtime !== "workerd") {
    return "certificate-rejected";
  }
  if (bad === "nothing" || (bad === "wrong name" && verifies === "ca")) return "encrypted";
  if (runtime !== "workerd") return "certificate-rejected";
  // Workers do not say what a handshake failed of: it may be the network, and another host may do.
  return address === "two hosts" ? "no-host" : "tls-failed";
}

const VERIFIES: Record<TlsName, "none" | "ca" | "full"> = {
  disable: "none",
  prefer: "none",
  require: "none",
  "require, with a root": "ca",
  "verify-ca": "ca",
  "verify-full": "full",
  "verify-full, the system's roots": "full",
  direct: "full",
};

/** Null where we are let in. */
function admitted(
  { authentication }: Cell,
  carried: "encrypted" | "plain",
  runtime: RuntimeName,
): Outcome | null {
  switch (authentication) {
    case "scram, channel_binding=require":
      // Workers do not show the certificate that it would be bound to.
      return carried === "plain" || runtime === "workerd" ? "channel-binding" : null;
    case "scram, wrong password":
      return "authentication";
    case "md5, require_auth=scram-sha-256":
    case "trust, require_auth=scram-sha-256":
      return "authentication-not-allowed";
    case "client certificate missing":
      return "authentication";
    case "client certificate":
    case "client certificate and scram":
      return carried === "plain" ? "authentication" : null;
    default:
      return null;
  }
}

/** What the platform has not, and says so: before the handshake, to which a server without TLS does not come. */
function beyondWorkers({ tls, certificate, address, authentication }: Cell): Outcome | null {
  if (address === "unix socket") return "host-unreachable";
  if (tls === "disable") return null;
  if (tls === "direct") return "tls-unavailable";
  if (certificate === "no TLS") return null;
  const { sslrootcert }: Record<string, string> = TLS[tls];
  const certified = authentication === "client certificate" ||
    authentication === "client certificate and scram";
  return sslrootcert === "ours" || certified ? "tls-unavailable" : null;
}
