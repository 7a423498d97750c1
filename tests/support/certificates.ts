/** Certificates for tests, made when they are needed: an authority, what it signs, and what nobody trusts. */

// @peculiar/x509 asks for it, and before itself.
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { createPrivateKey } from "node:crypto";

const DAY_MS = 24 * 60 * 60_000;

/** What a key is for. */
export type KeyAlgorithm = "ecdsa" | "rsa" | "ed25519";
/** What is signed is a hash; which one is the issuer's choice. Ed25519 has its own. */
export type SignatureHash = "SHA-256" | "SHA-384" | "SHA-512";

/** A certificate with its private key. */
export interface Certificate {
  /** The certificate alone, as PEM. */
  readonly cert: string;
  /** The same as DER. */
  readonly der: Uint8Array;
  /** The private key as PEM (PKCS#8). */
  readonly key: string;
}

/** What a certificate says. */
export interface CertificateOptions {
  /** CN; of a client certificate the user's name. Default: `"localhost"`. */
  commonName?: string;
  /** Host names it is good for (SAN). Default: `["localhost"]`. */
  dns?: string[];
  /** IP addresses it is good for (SAN). Default: `["127.0.0.1"]`. */
  ips?: string[];
  /** Default: `"ecdsa"` on P-256, which is the fastest to make; RSA has 2048 bits. */
  algorithm?: KeyAlgorithm;
  /** Of the signature. Default: `"SHA-256"`. */
  hash?: SignatureHash;
  /** Its time is over since a day. Default: it has a day before and after now. */
  expired?: boolean;
}

/** An authority that signs certificates. */
export class CertificateAuthority {
  /** Its own certificate as PEM: what `sslrootcert` and `ssl_ca_file` take. */
  readonly cert: string;
  /** Its CN. */
  readonly name: string;
  /** What it signs with. */
  readonly keys: CryptoKeyPair;
  /** What the keys are for. */
  readonly algorithm: KeyAlgorithm;

  private constructor(cert: string, name: string, keys: CryptoKeyPair, algorithm: KeyAlgorithm) {
    this.cert = cert;
    this.name = name;
    this.keys = keys;
    this.algorithm = algorithm;
  }

  /** A new one, with a key that nobody else has; signed by itself, or by `issuer`. */
  static async create(
    { name = "pgstream test authority", algorithm = "ecdsa", issuer }: {
      name?: string;
      algorithm?: KeyAlgorithm;
      issuer?: CertificateAuthority;
    } = {},
  ): Promise<CertificateAuthority> {
    const keys = await generateKeys(algorithm);
    const signer = issuer ?? { name, keys, algorithm };
    const certificate = await x509.X509CertificateGenerator.create({
      ...validity(false),
      subject: [{ CN: [name] }],
      issuer: [{ CN: [signer.name] }],
      publicKey: keys.publicKey,
      signingKey: signer.keys.privateKey,
      signingAlgorithm: signing(signer.algorithm, "SHA-256"),
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
          true,
        ),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
        await x509.AuthorityKeyIdentifierExtension.create(signer.keys.publicKey),
      ],
    });
    return new CertificateAuthority(pemOf(certificate), name, keys, algorithm);
  }

  /** Signs a certificate, which is good for servers and for clients. */
  async issue(options: CertificateOptions = {}): Promise<Certificate> {
    const { commonName = "localhost", algorithm = "ecdsa", hash = "SHA-256" } = options;
    const keys = await generateKeys(algorithm);
    const certificate = await x509.X509CertificateGenerator.create({
      ...validity(options.expired ?? false),
      subject: [{ CN: [commonName] }],
      issuer: [{ CN: [this.name] }],
      publicKey: keys.publicKey,
      signingKey: await withHash(this.keys.privateKey, this.algorithm, hash),
      signingAlgorithm: signing(this.algorithm, hash),
      extensions: [
        ...leafExtensions(options),
        await x509.AuthorityKeyIdentifierExtension.create(this.keys.publicKey),
      ],
    });
    return withKey(certificate, keys);
  }
}

/** A certificate that nobody but its own key has signed. */
export async function selfSigned(options: CertificateOptions = {}): Promise<Certificate> {
  const { commonName = "localhost", algorithm = "ecdsa", hash = "SHA-256" } = options;
  const keys = await generateKeys(algorithm);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(options.expired ?? false),
    name: [{ CN: [commonName] }],
    keys: {
      publicKey: keys.publicKey,
      privateKey: await withHash(keys.privateKey, algorithm, hash),
    },
    signingAlgorithm: signing(algorithm, hash),
    extensions: leafExtensions(options),
  });
  return withKey(certificate, keys);
}

/** The key as PEM that asks for a passphrase (PKCS#8, AES-256). */
export function encryptKey(key: string, passphrase: string): string {
  return createPrivateKey(key).export({
    type: "pkcs8",
    format: "pem",
    cipher: "aes-256-cbc",
    passphrase,
  }).toString();
}

function validity(expired: boolean): { notBefore: Date; notAfter: Date } {
  const now = Date.now();
  return {
    notBefore: new Date(now - (expired ? 2 : 1) * DAY_MS),
    notAfter: new Date(now + (expired ? -1 : 1) * DAY_MS),
  };
}

function leafExtensions(
  { dns = ["localhost"], ips = ["127.0.0.1"] }: CertificateOptions,
): x509.Extension[] {
  const names = [
    ...dns.map((value) => ({ type: "dns" as const, value })),
    ...ips.map((value) => ({ type: "ip" as const, value })),
  ];
  return [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.ExtendedKeyUsageExtension([
      x509.ExtendedKeyUsage.serverAuth,
      x509.ExtendedKeyUsage.clientAuth,
    ]),
    ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
  ];
}

const KEYS = {
  ecdsa: { name: "ECDSA", namedCurve: "P-256" },
  rsa: {
    name: "RSASSA-PKCS1-v1_5",
    modulusLength: 2048,
    publicExponent: new Uint8Array([1, 0, 1]),
    hash: "SHA-256",
  },
  ed25519: { name: "Ed25519" },
};

async function generateKeys(algorithm: KeyAlgorithm): Promise<CryptoKeyPair> {
  const keys = await crypto.subtle.generateKey(KEYS[algorithm], true, ["sign", "verify"]);
  return keys as CryptoKeyPair;
}

function signing(algorithm: KeyAlgorithm, hash: SignatureHash): EcdsaParams {
  return { name: KEYS[algorithm].name, hash };
}

// To WebCrypto an RSA key belongs to one hash.
async function withHash(
  key: CryptoKey,
  algorithm: KeyAlgorithm,
  hash: SignatureHash,
): Promise<CryptoKey> {
  if (algorithm !== "rsa") return key;
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", key);
  return await crypto.subtle.importKey("pkcs8", pkcs8, { ...KEYS.rsa, hash }, true, ["sign"]);
}

function pemOf(certificate: x509.X509Certificate): string {
  return `${certificate.toString("pem")}\n`;
}

async function withKey(
  certificate: x509.X509Certificate,
  { privateKey }: CryptoKeyPair,
): Promise<Certificate> {
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", privateKey);
  return {
    cert: pemOf(certificate),
    der: new Uint8Array(certificate.rawData),
    key: `${x509.PemConverter.encode(pkcs8, "PRIVATE KEY")}\n`,
  };
}
