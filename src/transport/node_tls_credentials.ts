/** Certificates and keys as they are handed to `node:tls`: looked at first, as some runtimes drop what they cannot read. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { type Address, formatAddress, type TlsOptions, TransportError } from "./transport.ts";

/** Options of `node:tls`. */
export interface Credentials {
  /** One certificate each. */
  ca?: string[];
  /** Our own first. */
  cert?: string;
  /** Not encrypted. */
  key?: string;
}

/**
 * Whom to trust, and who we are.
 *
 * @throws {TransportError} `"tls-failed"` what is no PEM; a key that does not belong to its certificate or that
 * the passphrase does not open.
 */
export function readCredentials(
  { ca, cert, key, passphrase }: TlsOptions,
  address: Address,
): Credentials {
  const invalid = (what: string, hint: string, cause?: unknown): TransportError =>
    new TransportError(`Cannot encrypt the connection to ${formatAddress(address)}: ${what}`, {
      kind: "tls-failed",
      address,
      hint,
      cause,
    });
  const credentials: Credentials = {};
  if (ca !== undefined) {
    try {
      credentials.ca = readCertificates(ca);
    } catch (error) {
      throw invalid(
        "sslrootcert holds no certificates that can be read",
        "It is PEM: BEGIN CERTIFICATE, one or several.",
        error,
      );
    }
  }
  if (cert === undefined && key === undefined) return credentials;
  if (cert === undefined || key === undefined) {
    const [given, missing] = cert === undefined ? ["sslkey", "sslcert"] : ["sslcert", "sslkey"];
    throw invalid(`${given} is given and ${missing} is not`, "Pass both, or neither.");
  }
  let chain: string[];
  try {
    chain = readCertificates(cert);
  } catch (error) {
    throw invalid(
      "sslcert holds no certificate that can be read",
      "It is PEM: BEGIN CERTIFICATE, the client's own first.",
      error,
    );
  }
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey({ key, passphrase: passphrase ?? "" });
  } catch {
    // No cause: what a runtime says of a key that it cannot read may quote it.
    throw /ENCRYPTED/.test(key)
      ? invalid("sslkey is encrypted, and the passphrase does not open it", "Check sslpassword.")
      : invalid("sslkey holds no private key that can be read", "It is PEM: BEGIN PRIVATE KEY.");
  }
  if (!new X509Certificate(chain[0]!).checkPrivateKey(privateKey)) {
    throw invalid(
      "sslkey is not the key of sslcert",
      "They are made together; the client's own certificate comes first in sslcert.",
    );
  }
  credentials.cert = chain.join("\n");
  credentials.key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  return credentials;
}

/** @throws where there is none, or one that cannot be read. */
function readCertificates(pem: string): string[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g);
  if (blocks === null) throw new Error("There is no BEGIN CERTIFICATE");
  for (const block of blocks) new X509Certificate(block);
  return blocks;
}
