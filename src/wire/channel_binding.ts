/**
 * What ties a password's proof to the TLS connection that carries it: `tls-server-end-point`, a hash of
 * the server's certificate. https://www.rfc-editor.org/rfc/rfc5929#section-4
 */
import { ByteReader } from "../bytes.ts";
import type { EncryptedTransport } from "../transport/transport.ts";
import { WireError } from "./errors.ts";
import type { ConnectionOptions } from "./options.ts";

/**
 * Hashes by the signature algorithm's object identifier, its bytes in hex. MD5 and SHA-1 count as SHA-256.
 * What is not here has no hash of its own (Ed25519), or one that WebCrypto does not have (SHA-224).
 */
const HASHES: Readonly<Record<string, string>> = {
  // RSA, PKCS #1: 1.2.840.113549.1.1
  "2a864886f70d010104": "SHA-256", // MD5
  "2a864886f70d010105": "SHA-256", // SHA-1
  "2a864886f70d01010b": "SHA-256",
  "2a864886f70d01010c": "SHA-384",
  "2a864886f70d01010d": "SHA-512",
  // ECDSA: 1.2.840.10045.4
  "2a8648ce3d0401": "SHA-256", // SHA-1
  "2a8648ce3d040302": "SHA-256",
  "2a8648ce3d040303": "SHA-384",
  "2a8648ce3d040304": "SHA-512",
  // Hashes themselves, as the parameters of RSA-PSS name them
  "2b0e03021a": "SHA-256", // SHA-1
  "608648016503040201": "SHA-256",
  "608648016503040202": "SHA-384",
  "608648016503040203": "SHA-512",
};
const RSA_PSS = "2a864886f70d01010a";
// RFC 4055: where the parameters of RSA-PSS name no hash, it is SHA-1.
const RSA_PSS_DEFAULT = "SHA-256";

const SEQUENCE = 0x30;
const OBJECT_IDENTIFIER = 0x06;
const FIRST_PARAMETER = 0xa0;

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
  const data = certificate === null ? null : await serverEndPoint(certificate);
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

/**
 * The channel binding data of a certificate.
 *
 * @param certificate the server's own, as DER.
 * @returns null where its signature algorithm names no hash that is known, or it does not parse: then
 * there is no binding.
 */
export async function serverEndPoint(
  certificate: Uint8Array,
): Promise<Uint8Array<ArrayBuffer> | null> {
  const hash = signatureHash(certificate);
  if (hash === null) return null;
  return new Uint8Array(await crypto.subtle.digest(hash, certificate.slice()));
}

/** `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }` */
function signatureHash(certificate: Uint8Array): string | null {
  try {
    const fields = new ByteReader(readElement(new ByteReader(certificate), SEQUENCE));
    readElement(fields, SEQUENCE);
    return algorithmHash(readElement(fields, SEQUENCE));
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** `AlgorithmIdentifier ::= SEQUENCE { algorithm OBJECT IDENTIFIER, parameters }` */
function algorithmHash(algorithm: Uint8Array): string | null {
  const reader = new ByteReader(algorithm);
  const oid = toHex(readElement(reader, OBJECT_IDENTIFIER));
  if (oid !== RSA_PSS) return HASHES[oid] ?? null;
  // RSASSA-PSS-params ::= SEQUENCE { hashAlgorithm [0] AlgorithmIdentifier DEFAULT sha1, … }
  const parameters = readElement(reader, SEQUENCE);
  if (parameters[0] !== FIRST_PARAMETER) return RSA_PSS_DEFAULT;
  const first = readElement(new ByteReader(parameters), FIRST_PARAMETER);
  const named = readElement(new ByteReader(first), SEQUENCE);
  return HASHES[toHex(readElement(new ByteReader(named), OBJECT_IDENTIFIER))] ?? null;
}

/** The content of the next DER element, a view. @throws {RangeError} where it is another one, or cut. */
function readElement(reader: ByteReader, tag: number): Uint8Array {
  const found = reader.readUint8();
  if (found !== tag) throw new RangeError(`DER element ${found} in place of ${tag}`);
  let length = reader.readUint8();
  if (length >= 0x80) {
    const lengthBytes = length - 0x80;
    // 0 is a length that comes later, which DER does not have; 4 GiB are no certificate.
    if (lengthBytes < 1 || lengthBytes > 3) throw new RangeError("A DER length of another form");
    length = 0;
    for (let i = 0; i < lengthBytes; i++) length = length << 8 | reader.readUint8();
  }
  return reader.readBytes(length);
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
