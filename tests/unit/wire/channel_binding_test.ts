import { assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { serverEndPoint } from "../../../src/wire/channel_binding.ts";
import { seededRandom } from "../../support/random.ts";
import { recordedCertificate } from "../../support/recorded_certificate.ts";
import { concat } from "../../support/scripted_server.ts";

type Part = Uint8Array | number[];

/** A DER element. */
function der(tag: number, ...parts: Part[]): Uint8Array {
  const content = concat(parts.map((part) => Uint8Array.from(part)));
  const { length } = content;
  const size = length < 0x80
    ? [length]
    : length < 0x100
    ? [0x81, length]
    : [0x82, length >> 8, length & 255];
  return concat([Uint8Array.from([tag, ...size]), content]);
}

const NULL = [0x05, 0x00];

function oid(hex: string): Uint8Array {
  return der(0x06, [...hex.matchAll(/../g)].map(([byte]) => parseInt(byte, 16)));
}

/** What is looked at of a certificate that is signed so; what is signed is as long as it is in life. */
function certificate(...algorithm: Part[]): Uint8Array {
  const signed = der(0x30, der(0x04, new Uint8Array(600)));
  return der(0x30, signed, der(0x30, ...algorithm), der(0x03, new Uint8Array(257)));
}

function pss(...parameters: Part[]): Uint8Array {
  return certificate(oid("2a864886f70d01010a"), der(0x30, ...parameters));
}

function hashes(hash: string): Part {
  return der(0xa0, der(0x30, oid(hash), NULL));
}

const MGF = der(0xa1, der(0x30, oid("2a864886f70d010108"), der(0x30, oid("608648016503040203"))));

test("a certificate is hashed as its signature was, and never by MD5 or SHA-1", async () => {
  const table: [string, Uint8Array, string | null][] = [
    ["RSA MD5", certificate(oid("2a864886f70d010104"), NULL), "sha256"],
    ["RSA SHA-1", certificate(oid("2a864886f70d010105"), NULL), "sha256"],
    ["RSA SHA-256", certificate(oid("2a864886f70d01010b"), NULL), "sha256"],
    ["RSA SHA-384", certificate(oid("2a864886f70d01010c"), NULL), "sha384"],
    ["RSA SHA-512", certificate(oid("2a864886f70d01010d"), NULL), "sha512"],
    ["ECDSA SHA-1", certificate(oid("2a8648ce3d0401")), "sha256"],
    ["ECDSA SHA-256", certificate(oid("2a8648ce3d040302")), "sha256"],
    ["ECDSA SHA-384", certificate(oid("2a8648ce3d040303")), "sha384"],
    ["ECDSA SHA-512", certificate(oid("2a8648ce3d040304")), "sha512"],
    ["a real one", recordedCertificate, "sha384"],
    ["RSA-PSS SHA-1, said", pss(hashes("2b0e03021a"), MGF), "sha256"],
    ["RSA-PSS SHA-256", pss(hashes("608648016503040201"), MGF), "sha256"],
    ["RSA-PSS SHA-384", pss(hashes("608648016503040202"), MGF), "sha384"],
    ["RSA-PSS SHA-512", pss(hashes("608648016503040203"), MGF), "sha512"],
    ["RSA-PSS, SHA-1 left out", pss(MGF), "sha256"],
    ["RSA-PSS with no parameters", pss(), "sha256"],
    ["RSA-PSS of another hash", pss(hashes("608648016503040204"), MGF), null],
    ["Ed25519", certificate(oid("2b6570")), null],
    ["Ed448", certificate(oid("2b6571")), null],
    ["RSA SHA-224, which WebCrypto lacks", certificate(oid("2a864886f70d01010e"), NULL), null],
    ["something else", certificate(oid("2a0304")), null],
  ];
  for (const [name, bytes, hash] of table) {
    const expected = hash === null ? null : new Uint8Array(createHash(hash).update(bytes).digest());
    assertEquals(await serverEndPoint(bytes), expected, name);
  }
});

test("what is no certificate has no binding, and reads nothing beyond its end", async () => {
  const algorithm = certificate(oid("2a864886f70d01010b"), NULL);
  const signed = der(0x30, new Uint8Array(3));
  const bad: [string, Uint8Array][] = [
    ["nothing", new Uint8Array(0)],
    ["text", new TextEncoder().encode("-----BEGIN CERTIFICATE-----")],
    ["a length that comes later", Uint8Array.from([0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0])],
    ["a length of four bytes", Uint8Array.from([0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30])],
    ["a length of 127 bytes", Uint8Array.from([0x30, 0xff, 1, 2, 3])],
    ["another element", der(0x31, signed, der(0x30, oid("2a0304")))],
    ["no algorithm", der(0x30, signed)],
    ["an algorithm that is a text", der(0x30, signed, der(0x0c, [65]))],
    ["an empty algorithm", der(0x30, signed, der(0x30))],
    ["an identifier beyond its algorithm", der(0x30, signed, [0x30, 2, 0x06, 9], [1, 2, 3])],
    ["parameters that end later", certificate(oid("2a864886f70d01010a"), [0x30, 0x80, 0, 0])],
    ["RSA-PSS without parameters", certificate(oid("2a864886f70d01010a"))],
    ["RSA-PSS with an empty hash", pss(der(0xa0))],
  ];
  for (const [name, bytes] of bad) assertEquals(await serverEndPoint(bytes), null, name);
  // A view of a larger buffer: what lies behind is not looked at.
  for (let cut = 0; cut < 600; cut++) {
    assertEquals(await serverEndPoint(algorithm.subarray(0, cut)), null, `cut at ${cut}`);
  }
});

test("random damage is never an exception", async () => {
  const next = seededRandom(7);
  for (let round = 0; round < 2000; round++) {
    const bytes = recordedCertificate.slice();
    for (let i = 0; i < 3; i++) {
      bytes[Math.floor(next() * bytes.length)] = Math.floor(next() * 256);
    }
    await serverEndPoint(bytes);
  }
});
