/**
 * What ties a password's proof to the TLS connection that carries it: `tls-server-end-point`, a hash of
 * the server's certificate.
 */
import type { EncryptedTransport } from "../transport/transport.ts";
import { WireError } from "./errors.ts";
import type { ConnectionOptions } from "./options.ts";

/**
 * What the proof can be tied to; null where there is nothing, or where it is not wanted.
 *
 * @throws {WireError} `"channel-binding"` where there is nothing and it must be.
 */
export async function channelBindingOf(
  tls: EncryptedTransport | null,
  wanted: ConnectionOptions["channelBinding"],
): Promise<Uint8Array | null> {
  if (wanted === "disable") return null;
  const certificate = tls?.peerCertificate ?? null;
  const data = certificate === null ? null : await endPointOf(certificate);
  if (data !== null || wanted === "prefer") return data;
  if (tls === null) throw notBound("it is not encrypted", "Set sslmode=require, or stronger.");
  if (certificate === null) {
    throw notBound(
      "this runtime does not tell the server's certificate",
      "Use channel_binding=prefer and sslmode=verify-full.",
    );
  }
  throw notBound(
    "the server's certificate is signed in a way that has no hash of its own",
    "Give the server a certificate that is signed with RSA or ECDSA, and SHA-256.",
  );
}

/** The error where `channel_binding=require` is not met. */
export function notBound(why: string, hint: string): WireError {
  return new WireError(
    `Cannot tie the password to the connection, as channel_binding=require asks: ${why}`,
    { kind: "channel-binding", hint },
  );
}

/** Most connections with a certificate to hash have loaded TLS, too: this comes with it. */
async function endPointOf(certificate: Uint8Array): Promise<Uint8Array | null> {
  const { serverEndPoint } = await import("./certificate_hash.ts");
  return await serverEndPoint(certificate);
}
