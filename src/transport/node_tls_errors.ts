/** What went wrong with TLS, in words that three implementations of it have in common. */
import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { checkServerIdentity, type TLSSocket } from "node:tls";
import { type Address, formatAddress, type TlsOptions, TransportError } from "./transport.ts";

// A certificate says what its maker likes, as long as it likes.
const MAX_QUOTED_LENGTH = 300;

/** What is wrong with the certificate of who answered; null: nothing that was asked for. */
export function rejectionOf(
  socket: TLSSocket,
  { verify, host, ca }: TlsOptions,
  address: Address,
): TransportError | null {
  if (verify === "none") return null;
  const rejected = (what: string, hint: string, cause?: unknown): TransportError =>
    new TransportError(`The certificate of ${formatAddress(address)} is rejected: ${what}`, {
      kind: "certificate-rejected",
      address,
      hint,
      cause,
    });
  const peer = socket.getPeerCertificate();
  if (peer.raw === undefined) {
    return rejected("there is none", "Is it a PostgreSQL server that listens there?");
  }
  const certificate = new X509Certificate(peer.raw);
  if (!socket.authorized) {
    const cause = new Error(String(socket.authorizationError));
    return rejected(...distrust(certificate, ca !== undefined, cause), cause);
  }
  if (verify === "ca" || isFor(host)) return null;
  return rejected(
    `it is for ${namesOf(certificate)}, not for ${host}`,
    "Connect by a name that it has: host=NAME, with hostaddr=IP where the name leads elsewhere.",
  );

  // Each where the other is wrong: Node's checkServerIdentity() knows no IPv6 address, and Deno's checkHost()
  // no wildcard.
  function isFor(host: string): boolean {
    if (isIP(host) !== 0) return certificate.checkIP(host) !== undefined;
    return checkServerIdentity(host, peer) === undefined;
  }
}

/** Why nobody vouches for it, and what to do. */
function distrust(
  certificate: X509Certificate,
  hasOwnRoots: boolean,
  { message: code }: Error,
): [what: string, hint: string] {
  const now = Date.now();
  if (Date.parse(certificate.validTo) < now) {
    return [`it expired on ${certificate.validTo}`, "The server needs a new one (ssl_cert_file)."];
  }
  if (Date.parse(certificate.validFrom) > now) {
    return [`it is valid from ${certificate.validFrom} on`, "Are the clocks right?"];
  }
  if (certificate.subject === certificate.issuer) {
    return [
      "it is self-signed, and not one that is trusted",
      "Trust it with sslrootcert=FILE, if it is the server's own.",
    ];
  }
  if (/EXPIRED|NOT_YET_VALID|REVOKED|PURPOSE|SIGNATURE_FAILURE|INVALID_CA/.test(code)) {
    return [`its chain is not valid (${code})`, "It is in the server's ssl_cert_file."];
  }
  return [
    `the authority that signed it is not trusted here (${quote(certificate.issuer)})`,
    hasOwnRoots
      ? "sslrootcert=FILE has to hold the certificate of that authority, and ssl_cert_file at the server those " +
        "between them."
      : "Pass the certificate of that authority with sslrootcert=FILE.",
  ];
}

function namesOf(certificate: X509Certificate): string {
  const names = certificate.subjectAltName ?? certificate.subject ?? "";
  return quote(names.replaceAll(/\b(?:DNS|IP Address):/g, "")) || "no name";
}

function quote(text: string): string {
  // deno-lint-ignore no-control-regex
  const plain = text.trim().replaceAll("\n", ", ").replaceAll(/[\x00-\x1f\x7f-\x9f]/g, "?");
  return plain.length > MAX_QUOTED_LENGTH ? `${plain.slice(0, MAX_QUOTED_LENGTH)}…` : plain;
}

interface Alert {
  readonly what: string;
  readonly hint: string;
}

const REJECTED: Alert = {
  what: "it rejects the client certificate",
  hint: "The server's log says why (sslcert, sslkey).",
};
const OTHER_ALERT: Alert = { what: "the other side ended it", hint: "The server's log says why." };

/** https://www.rfc-editor.org/rfc/rfc8446#section-6.2 */
const ALERTS: Readonly<Record<string, Alert>> = {
  CERTIFICATE_REQUIRED: {
    what: "it asks for a client certificate",
    hint: "Pass one with sslcert=FILE and sslkey=FILE.",
  },
  UNKNOWN_CA: {
    what: "it does not trust the authority that signed the client certificate",
    hint: "sslcert has to be signed by an authority that is in the server's ssl_ca_file.",
  },
  CERTIFICATE_EXPIRED: {
    what: "the client certificate has expired",
    hint: "Make a new one for sslcert.",
  },
  CERTIFICATE_REVOKED: {
    what: "the client certificate has been revoked",
    hint: "Make a new one for sslcert.",
  },
  BAD_CERTIFICATE: REJECTED,
  UNSUPPORTED_CERTIFICATE: REJECTED,
  CERTIFICATE_UNKNOWN: REJECTED,
  ACCESS_DENIED: REJECTED,
  DECRYPT_ERROR: REJECTED,
  HANDSHAKE_FAILURE: {
    what: "no version of TLS and no cipher suits both sides, or it asks for a client certificate",
    hint: "See ssl_min_protocol_version and ssl_ciphers at the server, and sslcert here.",
  },
  PROTOCOL_VERSION: {
    what: "it has no version of TLS from 1.2 on",
    hint: "See ssl_max_protocol_version at the server.",
  },
  NO_APPLICATION_PROTOCOL: {
    what: "it does not speak the protocol of PostgreSQL",
    hint: "Are host and port right?",
  },
  UNRECOGNIZED_NAME: {
    what: "it knows no server of this name",
    hint: "Is the host name right? sslsni=0 sends none.",
  },
};

const NO_TLS: Alert = {
  what: "what answers does not speak TLS",
  hint: "Are host and port right, and is ssl = on at the server? sslnegotiation=direct needs " +
    "PostgreSQL 17.",
};

/** What an error of the runtime's TLS means: during the handshake or, for what the peer says late, after it. */
export function tlsError(error: Error, address: Address): TransportError {
  const code = String((error as { code?: unknown }).code ?? error.message);
  // "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED"; of this one alone OpenSSL does not say that it is an alert.
  const alert = /ALERT_([A-Z_]+)$|_(UNRECOGNIZED_NAME)$/.exec(code);
  const { what, hint } = alert !== null
    ? ALERTS[alert[1] ?? alert[2]!] ?? OTHER_ALERT
    : /WRONG_VERSION_NUMBER|HTTP_REQUEST/.test(code)
    ? NO_TLS
    : { what: "the runtime ended it", hint: "The cause says why." };
  return new TransportError(
    `Encryption of the connection to ${formatAddress(address)} failed: ${what} (${code})`,
    { kind: "tls-failed", address, hint, cause: error },
  );
}

/** The connection ended in the middle of the handshake. */
export function endedEarly(address: Address): TransportError {
  return new TransportError(
    `The connection to ${formatAddress(address)} was closed during the TLS handshake`,
    {
      kind: "tls-failed",
      address,
      hint: "The server's log says why: it stops, or it does not speak TLS there.",
      retryable: true,
    },
  );
}

/** The connection ended, and the encryption did not: somebody in between may have ended it. */
export function cutShort(address: Address): TransportError {
  return new TransportError(
    `The connection to ${
      formatAddress(address)
    } was cut: it ended, and the encryption had not been (close_notify)`,
    { kind: "connection-lost", address, retryable: true },
  );
}

/**
 * The connection was lost before the other side said anything. With TLS 1.3 a server rejects a client certificate
 * after the handshake, and whoever writes meanwhile may find the connection reset before the alert was read.
 */
export function lostUnheard(address: Address, { cause }: TransportError): TransportError {
  return new TransportError(
    `The connection to ${formatAddress(address)} was lost right after the TLS handshake`,
    {
      kind: "connection-lost",
      address,
      hint: "The server's log says why: it may have rejected the client certificate (sslcert).",
      retryable: true,
      cause,
    },
  );
}

/** Bytes came before the handshake, for which only somebody in between has a use. */
export function injected(address: Address): TransportError {
  return new TransportError(
    `Who answers at ${formatAddress(address)} sent bytes before the TLS handshake`,
    {
      kind: "tls-failed",
      address,
      hint: "It is no PostgreSQL server, or somebody in between puts words into its mouth " +
        "(CVE-2021-23222).",
    },
  );
}
