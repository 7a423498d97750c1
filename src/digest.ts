/** Digests in hex, of which ids and fingerprints are made: several for each row. */

/** What is used of `node:crypto`. */
interface NodeCrypto {
  createHash(name: string): { update(bytes: Uint8Array): { digest(encoding: "hex"): string } };
}

/** A digest, as Web Crypto names it. */
export type DigestName = "SHA-1" | "SHA-256";

/** As `node:crypto` names them. */
const NODE_NAMES = { "SHA-1": "sha1", "SHA-256": "sha256" };

const node = (globalThis as {
  process?: { getBuiltinModule?: (name: string) => NodeCrypto | undefined };
}).process?.getBuiltinModule?.("node:crypto");

/**
 * A digest as lower-case hex. By `node:crypto` where the runtime has it: Web Crypto sends each text to another
 * thread, which takes ten times as long for a short one.
 */
export const hexDigest: (
  name: DigestName,
  bytes: Uint8Array<ArrayBuffer>,
) => string | Promise<string> = node === undefined
  ? webDigest
  : (name, bytes) => node.createHash(NODE_NAMES[name]).update(bytes).digest("hex");

/** The same by Web Crypto, which every runtime has. */
export async function webDigest(
  name: DigestName,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest(name, bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
